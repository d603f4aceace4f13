"""Runs what compose.yaml runs, without Docker: `make compose-trial`. docs/deployment.md has what it found.

It takes environment, command, volumes, health check and order of each service from compose.yaml, starts a real
PostgreSQL and all of Airflow, waits for their own health checks, tries what each user may, runs the day up to an
approved campaign, backs both databases up and restores them, and ends all with SIGTERM. It takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from compose.containers import (
    Service,
    addresses,
    build_image,
    enter_namespaces,
    left_over,
    seconds,
    set_up,
    start_postgres,
)
from compose.day import DAY, set_clock, trial
from compose.steps import TrialFailed, expect, say, wait
from support import compose

CUSTOMERS = 300
SHARE = 0.75  # of its memory limit that a service may take here


def main() -> int:
    arguments = argparse.ArgumentParser(prog="compose.trial", description=__doc__)
    arguments.add_argument("--logs", type=Path, default=Path(tempfile.gettempdir()) / "compose-trial")
    chosen = arguments.parse_args()
    try:
        enter_namespaces()
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        with started(chosen.logs) as services:
            trial(services)
        say("all of it held")
    except (TrialFailed, httpx.HTTPError, subprocess.SubprocessError) as e:
        sys.stderr.write(f"\nThe trial failed: {e}\nLogs: {chosen.logs}\n")
        return 1
    return 0


@contextmanager
def started(logs: Path) -> Iterator[dict[str, Service]]:
    """The services in the order that compose.yaml demands, all healthy; ended with SIGTERM, and nothing left."""
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in logs.glob("*.log"):
        old.unlink()
    values = new_env(logs)
    hosts = addresses(list(compose.load(values)["services"]))
    set_up(hosts)
    build_image()
    values |= sandbox_credentials(values, hosts, logs)
    services = {
        name: Service(name, spec, hosts[name], logs / f"{name}.log")
        for name, spec in compose.load(values)["services"].items()
    }
    ended = threading.Event()
    meter = threading.Thread(target=measure, args=(services, ended), daemon=True)
    meter.start()
    try:
        for name in order(services):
            bring_up(services[name])
        yield services
        ended.set()
        meter.join()
        report(services)
        for name in reversed(order(services)):
            if services[name].process:
                services[name].stop()
                say(f"{name} ended {services[name].stopped_after:.1f} s after SIGTERM")
        expect("processes left", [p.name() for p in left_over()], [])
    finally:
        ended.set()
        for process in left_over():
            process.kill()


def new_env(logs: Path) -> dict[str, str]:
    """The .env that `make env` writes, and a folder with a small shop's data."""
    text = subprocess.run(
        [sys.executable, compose.ROOT / "deploy" / "new_env.py"], check=True, capture_output=True, text=True
    ).stdout
    values = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    source = logs / f"source-{DAY}"
    if not source.exists():
        simulate = ["simulate", "--out", str(source), "--until", DAY, "--customers", str(CUSTOMERS)]
        environment = os.environ | {"CONTROLTOWER_HOME": str(logs / "simulating")}
        subprocess.run(
            [sys.executable, "-m", "controltower.cli", *simulate], env=environment, check=True, capture_output=True
        )
    say(f"a shop of {CUSTOMERS} customers is in {source}")
    return values | {"SOURCE_FOLDER": str(source)}


def sandbox_credentials(values: Mapping[str, str], hosts: Mapping[str, str], logs: Path) -> dict[str, str]:
    """What docs/deployment.md appends to .env for trying without SendGrid."""
    name = "controltower-sandbox"
    sandbox = Service(name, compose.load(values)["services"][name], hosts[name], logs / "credentials.log")
    lines = sandbox.run(["python", "-m", "controltower.cli", "sandbox-credentials", "--url", f"http://{name}:8025"])
    return dict(line.split("=", 1) for line in lines.splitlines())


def order(services: Mapping[str, Service]) -> list[str]:
    """By depends_on; in the file's order where that leaves it open."""
    done: list[str] = []

    def visit(name: str) -> None:
        for needed in services[name].spec.get("depends_on", {}):
            visit(needed)
        if name not in done:
            done.append(name)

    for name in services:
        visit(name)
    return done


def bring_up(service: Service) -> None:
    at = time.monotonic()
    if service.name == "airflow-init":
        service.run()
        service.healthy_after = time.monotonic() - at
        say(f"{service.name} ended well after {service.healthy_after:.1f} s")
        at = time.monotonic()
        again = service.run()
        say(f"{service.name} a second time, {time.monotonic() - at:.1f} s")
        expect("users made the second time", again.count(" made, with the role "), 0)
        set_clock(service, "06:30")
        return
    if service.name == "postgres":
        start_postgres(service)
    else:
        service.start()
    check = service.spec["healthcheck"]
    patience = seconds(check["start_period"]) + check["retries"] * seconds(check["interval"])
    wait(f"{service.name} to be healthy", service.is_healthy, [service], patience, pause=1)
    service.healthy_after = time.monotonic() - at
    say(f"{service.name} is healthy after {service.healthy_after:.1f} s; its check takes {service.check_took:.1f} s")


def measure(services: Mapping[str, Service], ended: threading.Event) -> None:
    while not ended.wait(1):
        for service in services.values():
            service.measure()


def report(services: Mapping[str, Service]) -> None:
    total = 0
    for service in services.values():
        limit = compose.memory(service.spec["deploy"]["resources"]["limits"]["memory"])
        if not service.peak:
            continue
        total += service.peak
        say(f"{service.name}: at most {service.peak / 2**20:.0f} MB of {limit / 2**20:.0f}")
        if service.peak > SHARE * limit:
            raise TrialFailed(f"{service.name} comes too near its memory limit in compose.yaml")
    say(f"together at most {total / 2**20:.0f} MB")


if __name__ == "__main__":
    sys.exit(main())
