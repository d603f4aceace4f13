"""What takes requests as SendGrid and FCM do and looks at nothing in them: a process of its own, over TLS.

It is as light as can be, so that what sends is never short of somebody who takes; its work must not be counted.
`GET /taken` tells how many messages came.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httptools
import urllib3

from bench._sandbox import make_certificate, trusted

_MARK = b'"message_id":'  # once in each message's part


class Acceptor:
    def __init__(self, url: str, certificate: Path) -> None:
        self.url = url
        self.certificate = certificate

    def taken(self) -> int:
        """How many messages came so far."""
        with urllib3.PoolManager(ca_certs=str(self.certificate)) as pool:
            return int(pool.request("GET", f"{self.url}/taken").data)


@contextmanager
def accepting(home: Path) -> Iterator[Acceptor]:
    """While it runs, this process and those it starts trust its certificate and no other."""
    certificate = make_certificate(home)
    command = [sys.executable, "-m", "bench._acceptor", str(certificate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        with trusted(certificate):
            yield Acceptor(process.stdout.readline().strip(), certificate)
    finally:
        process.terminate()
        process.communicate()


class _Connection(asyncio.Protocol):
    taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._url = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        _Connection.taken += b"".join(self._body).count(_MARK)
        self._body.clear()
        if self._url == b"/taken":
            status, head, answer = b"200 OK", b"", b"%d" % _Connection.taken
        elif self._url == b"/v3/mail/send":
            status, head, answer = b"202 Accepted", b"X-Message-Id: %s\r\n" % uuid.uuid4().hex.encode(), b""
        else:
            status, head, answer = b"200 OK", b"", b'{"name": "projects/p/messages/%s"}' % uuid.uuid4().hex.encode()
        self._transport.write(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, head, len(answer), answer))


async def main(certificate: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, ssl=tls)
    print(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
