"""Opening the ledger: SQLite (WAL) in the home, or the PostgreSQL that CONTROLTOWER_DATABASE_URL names."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles

from controltower.errors import BadSettings
from controltower.ledger import signing_keys
from controltower.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x636F6E74  # PostgreSQL advisory lock
_up_to_date: set[str] = set()  # URLs that this process has looked at


@lru_cache(maxsize=8)
def _engine(url: str) -> sa.Engine:
    try:
        arguments = {"timeout": 60} if url.startswith("sqlite") else {}
        engine = sa.create_engine(
            url,
            connect_args=arguments,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
        )
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError):
        raise BadSettings(
            "CONTROLTOWER_DATABASE_URL is not a database URL.", "Write postgresql+psycopg://user@host/database."
        ) from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver would begin late and deadlock on upgrade
    # FULL: a call that was written down must be known after a power cut too
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=60000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def begin(settings: Settings) -> Iterator[sa.Connection]:
    """A transaction on the ledger, made and brought up to date on first use. BadSettings without the ledger's key.

    It is asked for each time: a process may have begun before `new-key` started another one.
    """
    with opened(settings).begin() as connection:
        signing_keys.settle(connection, settings)
        yield connection


@contextmanager
def reading(settings: Settings) -> Iterator[sa.Connection]:
    """One consistent look at the ledger; it doesn't wait for writers, and writes nothing.

    BadSettings with another key than the ledger's: answers would be wrong. Without one, what needs none can be read.
    """
    engine = opened(settings)
    isolation = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}  # SQLite's is that
    with engine.connect().execution_options(reading=True, **isolation) as connection, connection.begin():
        signing_keys.check(connection, settings)
        yield connection


def opened(settings: Settings) -> sa.Engine:
    """The engine of this home's ledger; a fresh database gets its tables, an older one an error with the remedy."""
    url = settings.ledger_url
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = _engine(url)
    if url not in _up_to_date:
        _bring_up(settings, engine)
        _up_to_date.add(url)
    return engine


def _bring_up(settings: Settings, engine: sa.Engine) -> None:
    current, head = _revision(engine), newest_revision()
    if current is None:
        migrate(settings)
        _up_to_date.add(settings.ledger_url)
        check_key(settings)
    elif current != head:
        raise BadSettings(
            f"The ledger is at revision {current}, this version needs {head}.", "Run `controltower migrate`."
        )


def newest_revision() -> str:
    """That of this version's tables, by the names of the migrations: Alembic takes longer to import than to open."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _revision(engine: sa.Engine) -> str | None:
    try:
        with engine.connect().execution_options(reading=True) as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    except sa.exc.DBAPIError as e:
        reason = str(e.orig).splitlines()[0] if e.orig else "no answer"
        raise BadSettings(
            f"The ledger's database can't be opened: {reason}.",
            "Check CONTROLTOWER_DATABASE_URL and CONTROLTOWER_HOME.",
        ) from None


def check_key(settings: Settings) -> None:
    """Hold the home's key against the ledger's; a new home gets one. BadSettings with the remedy if it isn't that."""
    with reading(settings) as connection:
        recorded = signing_keys.check(connection, settings)  # mostly so, and waits for no writer
    if not recorded:
        with begin(settings):
            pass


def forgetful(settings: Settings) -> str | None:
    """The database's setting by which a commit may be lost in a crash, if there is one."""
    if opened(settings).dialect.name == "sqlite":
        return None
    with reading(settings) as connection:
        shown = {s: connection.exec_driver_sql(f"SHOW {s}").scalar_one() for s in ("fsync", "synchronous_commit")}
    return next((setting for setting, value in shown.items() if value == "off"), None)


def forget() -> None:
    """Close what this process has open: another may copy or remove the databases then."""
    for url in _up_to_date:
        _engine(url).dispose()
    _engine.cache_clear()
    _up_to_date.clear()


def migrate(settings: Settings) -> str:
    """Bring the ledger to this version's tables; safe when several processes do it at once. Returns the revision."""
    from alembic.config import Config

    engine = _engine(settings.ledger_url)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    if engine.dialect.name == "sqlite":
        settings.home.mkdir(parents=True, exist_ok=True)
        with (settings.home / ".migrate.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _upgrade(engine, config)
    else:
        with engine.connect() as guard:
            guard.execute(sa.select(sa.func.pg_advisory_lock(_MIGRATION_LOCK)))
            try:
                _upgrade(engine, config)
            finally:
                guard.execute(sa.select(sa.func.pg_advisory_unlock(_MIGRATION_LOCK)))
    return str(_revision(engine))


def _upgrade(engine: sa.Engine, config: Config) -> None:
    from alembic import command

    with altering(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def altering(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that may remake tables, which on SQLite means to drop some that others refer to."""
    with engine.connect() as connection:
        sqlite = connection.connection.driver_connection if engine.dialect.name == "sqlite" else None
        if sqlite:
            sqlite.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                if sqlite and sqlite.execute("PRAGMA foreign_key_check").fetchall():
                    raise RuntimeError("the migration lost a row that another refers to: nothing was changed")
        finally:
            if sqlite:
                sqlite.execute("PRAGMA foreign_keys=ON")


class Epoch(sa.sql.functions.FunctionElement[float]):
    """The database's own clock within a statement, in epoch seconds: leases and retry delays are counted by it."""

    type = sa.Float()
    inherit_cache = True


@compiles(Epoch, "sqlite")
def _epoch_on_sqlite(_element: Epoch, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Epoch, "postgresql")
def _epoch_on_postgresql(_element: Epoch, _compiler: Any, **_: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


def among(connection: sa.Connection, column: sa.ColumnElement[Any], values: Iterable[Any]) -> sa.ColumnElement[bool]:
    """Whether a column is one of many values, which travel as one parameter: no limit, and no long statement."""
    if connection.dialect.name == "sqlite":
        given = sa.func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
        return column.in_(sa.select(given.c.value))
    if isinstance(column.type, sa.String):  # a driver's array of texts costs more than the rest of a look-up
        texts = sa.select(sa.func.json_array_elements_text(sa.bindparam(None, list(values), type_=sa.JSON)))
        return column == sa.any_(sa.func.array(texts.scalar_subquery(), type_=ARRAY(sa.String)))
    return column == sa.any_(sa.bindparam(None, list(values), type_=ARRAY(column.type)))


def columns(connection: sa.Connection, query: sa.Select[Any]) -> list[list[Any]]:
    """The columns of many rows, of texts and numbers: as one row of lists, which costs a fifth of a row each."""
    sqlite = connection.dialect.name == "sqlite"
    gather = sa.func.json_group_array if sqlite else sa.func.array_agg
    whole = connection.execute(sa.select(*map(gather, query.subquery().c))).one()
    return [orjson.loads(column) if sqlite else column or [] for column in whole]


def epoch(connection: sa.Connection) -> float:
    """What the database's clock shows."""
    return float(connection.execute(sa.select(Epoch())).scalar_one())
