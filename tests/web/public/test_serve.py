"""`controltower serve`, as a user runs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.patience import PATIENCE


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "controltower.cli", "serve", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops_without_a_word_of_the_links(home: Path, stop: signal.Signals) -> None:
    process = start("--port", "0")
    assert process.stdout
    try:
        url = process.stdout.readline().split()[2]
        assert httpx.get(f"{url}/health", timeout=PATIENCE).json() == {"ledger": "ok"}
        assert httpx.get(f"{url}/usecret-token", timeout=PATIENCE).status_code == 404
    finally:
        process.send_signal(stop)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, -stop)
    assert "secret-token" not in out + err and "Traceback" not in err


def test_a_taken_port_is_one_line(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and out == ""
    assert err.splitlines() == [
        f"controltower: Port {port} is in use. Choose another with --port, or 0 for a free one."
    ]
