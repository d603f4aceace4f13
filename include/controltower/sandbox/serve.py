"""Running the sandbox: `serve` for the command line, `running` for tests."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, tzinfo

import uvicorn
from fastapi import FastAPI

from controltower import clock
from controltower.errors import BadSettings
from controltower.sandbox import credentials
from controltower.sandbox.app import create_app
from controltower.sandbox.credentials import Credentials
from controltower.sandbox.faults import CuttableProtocol
from controltower.settings import Settings, load_shop

PORT = 8025


def serve(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = PORT,
    announce: Callable[[str, Credentials], None] | None = None,
    url: str | None = None,
) -> None:
    """Serve the sandbox of a home (store and credentials in HOME/sandbox) until interrupted; port 0 picks a free one.

    `url` is where others reach it, if not at that host and port. `announce` is told the URL and the credentials once
    they are ready. BadSettings where the port is taken.
    """
    listener = bind(host, port)
    url = url or _url(listener)
    folder = settings.home / "sandbox"
    made = credentials.make(folder, url)

    def zone() -> tzinfo:
        return load_shop(settings).zone if settings.shop_file.is_file() else UTC

    app = create_app(
        folder / "inbox.db", made.api_key, made.service_account(), now=lambda: clock.now(settings), zone=zone
    )
    if announce:
        announce(url, made)
    try:
        _server(app).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has shut down by now and passes the signal on
        return
    finally:
        listener.close()


@contextmanager
def running(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Its URL while the app is served over real HTTP by a thread of this process."""
    listener = bind(host, port)
    server = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield _url(listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; BadSettings where the port is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as e:
        listener.close()
        if e.errno == errno.EADDRINUSE:
            raise BadSettings(f"Port {port} is in use.", "Choose another with --port, or 0 for a free one.") from None
        raise BadSettings(f"The sandbox can't listen on {host}:{port}: {e.strerror or e}.") from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - only compared


def _server(app: FastAPI) -> uvicorn.Server:
    # No access log: paths of searches hold addresses.
    return uvicorn.Server(
        uvicorn.Config(app, http=CuttableProtocol, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    )
