"""No process is left behind, however it was started and whoever its parent is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.patience import wait_until

from demo.processes import DemoFailed, Processes, free_port, marked, only_demo_of, stop_all

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import os, time; os.setsid(); time.sleep(600)"])
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes(tmp_path: Path):
    made = Processes(tmp_path, tmp_path / "logs", dict(os.environ))
    yield made
    stop_all(tmp_path, patience=0)


def test_children_and_their_children_are_stopped(processes: Processes, tmp_path: Path) -> None:
    processes.start("family", [sys.executable, "-c", FAMILY])
    wait_until(lambda: len(marked(tmp_path)) == 2, "the processes")
    assert stop_all(tmp_path) == 2
    assert marked(tmp_path) == []


def test_orphans_of_a_killed_parent_are_found(processes: Processes, tmp_path: Path) -> None:
    parent = processes.start("family", [sys.executable, "-c", FAMILY])
    wait_until(lambda: len(marked(tmp_path)) == 2, "the processes")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert len(marked(tmp_path)) == 1
    assert stop_all(tmp_path) == 1


def test_one_that_ignores_sigterm_is_killed(processes: Processes, tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    processes.start("deaf", [sys.executable, "-c", deaf])
    wait_until(lambda: "deaf" in processes.tail("deaf"), "the processes")
    assert stop_all(tmp_path, patience=0.2) == 1
    assert marked(tmp_path) == []


def test_another_homes_processes_are_left_alone(processes: Processes, tmp_path: Path) -> None:
    processes.start("family", [sys.executable, "-c", "import time; time.sleep(600)"])
    assert stop_all(tmp_path / "other") == 0
    processes.check()


def test_what_ends_early_is_told_with_the_end_of_its_log(processes: Processes) -> None:
    processes.start("short", [sys.executable, "-c", "print('no disk left'); raise SystemExit(3)"]).wait()
    with pytest.raises(DemoFailed, match=r"short stopped with 3:\s+no disk left"):
        processes.check()
    with pytest.raises(DemoFailed, match=r"again ended with 3"):
        processes.run("again", [sys.executable, "-c", "raise SystemExit(3)"])


def test_a_busy_port_is_moved_away_from() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert free_port(port) > port


def test_two_demos_that_start_together_take_different_ports() -> None:
    first = free_port(18080)
    assert free_port(18080) > first


def test_a_living_demo_keeps_its_home(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from demo.processes import only_demo_of\n"
        f"with only_demo_of(Path({str(tmp_path)!r})):\n    print('in', flush=True); time.sleep(600)"
    )
    root = str(Path(__file__).resolve().parents[2])
    other = subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "in\n"
        with pytest.raises(DemoFailed, match="Another demo"), only_demo_of(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with only_demo_of(tmp_path):
        pass
