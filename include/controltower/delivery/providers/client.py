"""JSON over kept connections: each call once, with a time limit, and an honest word on how it ended.

A small client of our own, because the ledger can only be true if one request row is one call, and because a well-known
one costs more than the rest of a push (`python -m bench push`): urllib3 some 230 µs of CPU a call, this one some 60.
The answer is parsed by llhttp, as uvicorn does it.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

import httptools

from controltower.delivery.providers.base import NO_CONNECTION, Answer, Result
from controltower.errors import BadSettings

CONNECT = 5.0  # seconds to get a connection, TLS included
ANSWER = 20.0  # seconds from the first byte sent to the last one read


class Client:
    """Kept connections to one address. Several threads call it; each has a connection to itself meanwhile."""

    def __init__(self, url: str, largest_answer: int = 1_000_000) -> None:
        """BadSettings where `url` is no address of the form https://host[:port][/path].

        An answer of more than `largest_answer` bytes counts as none.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isascii():
            raise BadSettings(f"{url!r} is no address of a provider.", "It needs https:// and a host.")
        self.host = parts.hostname
        self._address = (self.host, port or (443 if parts.scheme == "https" else 80))
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path
        self._common = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
        self._largest = largest_answer
        self._kept: deque[socket.socket] = deque()

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer | Result:
        """POST JSON once, to the address itself."""
        return self.call("POST", "", body, headers)

    def call(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer | Result:
        """One call of what lies at `path` under the address: the answer, or what its absence means.

        Where the connection could not be made the body never left: retry. Where it broke later the provider may have
        taken the message: unknown.
        """
        try:
            connection = self._connection()
        except (OSError, UnicodeError) as e:  # nothing is quoted: an address or a key could be in it
            stop = f"{self.host} can't be reached ({type(e).__name__}). Is its address right, is it up?"
            return Result("retry", f"{NO_CONNECTION}:{type(e).__name__}", stop=stop)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        start = f"{method} {self._path + path or '/'}{self._common}"
        head = f"{start}{lines}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            answer, keep = _exchange(connection, head.encode("latin-1") + body, self._largest)
        except (OSError, EOFError, httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            connection.close()
            return Result("unknown", f"no_answer:{type(e).__name__}")
        if keep:
            self._kept.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        while self._kept:
            self._kept.pop().close()

    def _connection(self) -> socket.socket:
        """A kept connection that is still open, else a new one."""
        while True:
            try:
                kept = self._kept.pop()
            except IndexError:
                break
            if not _readable(kept):  # else it was closed meanwhile: nobody owes us a word
                return kept
            kept.close()
        connection = socket.create_connection(self._address, CONNECT)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(connection, server_hostname=self.host) if self._tls else connection
        except BaseException:
            connection.close()
            raise


def _readable(connection: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(0))


def _exchange(connection: socket.socket, request: bytes, largest: int) -> tuple[Answer, bool]:
    """Send, and read one answer; whether the connection can be kept. EOFError: it ended before the answer did."""
    until = time.monotonic() + ANSWER
    connection.settimeout(ANSWER)
    connection.sendall(request)
    reader, size = _Reader(), 0
    while reader.answer is None:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        data = connection.recv(65_536)
        size += len(data)
        if not data and reader.ends_with_connection:
            return reader.read(), False
        if not data or size > largest:
            raise EOFError
        reader.parser.feed_data(data)
    return reader.answer, reader.keep


class _Reader:
    """Puts an answer together; the parser calls the methods that begin with `on_`."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.answer: Answer | None = None
        self.keep = False
        self._headers: dict[str, str] = {}
        self._headed = False
        self._body = bytearray()

    @property
    def ends_with_connection(self) -> bool:
        """Whether the answer, which gives no length, is over once the connection is."""
        return self._headed and not {"content-length", "transfer-encoding"} & self._headers.keys()

    def read(self) -> Answer:
        return Answer(self.parser.get_status_code(), self._headers, bytes(self._body))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._headed = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() < 200:  # the answer is still to come
            self._headers, self._headed = {}, False
        elif self.answer is None:
            self.answer, self.keep = self.read(), bool(self.parser.should_keep_alive())
        else:  # more than we asked for: whose answer would the next one be?
            self.keep = False
