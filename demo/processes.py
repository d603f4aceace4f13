"""The demo's child processes: started in groups of their own, and none left behind, however the demo ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

_kept: list[IO[str]] = []  # the locks of this process's ports
CONTROLTOWER = (str(Path(sys.executable).with_name("controltower")),)  # the command line
MARK = "CONTROLTOWER_DEMO"  # in the environment of every process of a demo: the home it works for


class DemoFailed(Exception):
    """A stage failed; the text names it and shows the end of its log."""


@dataclass
class Processes:
    """Children by name, each with its log file in `logs`; `environment` is all that they see."""

    home: Path
    logs: Path
    environment: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                command,
                env={**self.environment, MARK: str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C reaches the demo only, which stops them
            )
        self.running[name] = child
        return child

    def run(self, name: str, command: Sequence[str]) -> None:
        """Start a process and wait for its end; DemoFailed where it fails."""
        code = self.start(name, command).wait()
        if code:
            raise DemoFailed(f"{name} ended with {code}:\n{self.tail(name)}")
        del self.running[name]

    def check(self) -> None:
        """DemoFailed where one that should be running has ended."""
        for name, child in self.running.items():
            if child.poll() is not None:
                raise DemoFailed(f"{name} stopped with {child.returncode}:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 15) -> str:
        text = (self.logs / f"{name}.log").read_text(errors="replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def stop_all(home: Path, patience: float = 4.0) -> int:
    """End every process marked as one of this home's demo, whoever its parent is now. Returns how many there were."""
    seen: set[int] = set()
    deadline = time.monotonic() + patience
    while found := marked(home):
        kind = psutil.Process.terminate if time.monotonic() < deadline else psutil.Process.kill
        for process in found:
            if process.pid not in seen or kind is psutil.Process.kill:
                with contextlib.suppress(psutil.NoSuchProcess):
                    kind(process)
        seen.update(p.pid for p in found)
        psutil.wait_procs(found, timeout=0.5)
    return len(seen)


def marked(home: Path) -> list[psutil.Process]:
    """The living processes, other than this one, whose environment says that they belong to this home's demo."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARK) == str(home):
                found.append(process)
    return found


@contextlib.contextmanager
def only_demo_of(home: Path) -> Iterator[None]:
    """Hold the home's lock; DemoFailed where a living demo has it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "demo.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoFailed(f"Another demo is running on {home}. Stop it first (Ctrl-C there).") from None
        yield


def free_port(wanted: int) -> int:
    """The first port from `wanted` on that nobody listens on, kept from other demos for as long as this one lives.

    A port is only listened on some seconds later: without the lock, two demos that start together take the same one.
    """
    for port in range(wanted, wanted + 200):
        try:
            lock = (Path(tempfile.gettempdir()) / f"controltower-demo-{port}.lock").open("a")
        except OSError:  # another user's
            continue
        with contextlib.suppress(OSError), socket.socket() as s:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            _kept.append(lock)
            return port
        lock.close()
    raise DemoFailed(f"No port is free from {wanted} to {wanted + 199}.")
