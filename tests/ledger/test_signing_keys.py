"""The home's key: made once, known to the ledger, and never replaced in silence."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from controltower.cli import app
from controltower.errors import BadSettings, ControlTowerError
from controltower.jobs.doctor import examine
from controltower.jobs.feedback import ingest_feedback
from controltower.jobs.suppressions import count_suppressions, list_suppressions
from controltower.ledger import database, suppressions, tables
from controltower.ledger.database import altering, begin, check_key, forget, newest_revision, opened, reading
from controltower.settings import Settings
from controltower.web.public.app import create_app
from pydantic import SecretStr
from starlette.testclient import TestClient
from typer.testing import CliRunner

from .conftest import NOW, message, write_plan

OTHER = "another home's secret key"
REFUSED = r"(secret\.key|CONTROLTOWER_SECRET_KEY) is another home's key: "
LOST = r"secret\.key is missing: .*no suppressed address is recognised\. Restore it from the backup\..*new-key"


def recorded(conf: Settings) -> list[str | None]:
    with opened(conf).connect() as ledger:
        k = tables.signing_keys.c
        return list(ledger.execute(sa.select(k.recorded_by).order_by(k.key_id)).scalars())


def told_by_doctor() -> str:
    (finding,) = [f for f in examine() if f["name"] == "ledger"]
    return f"{'ok' if finding['ok'] else 'BAD'} {finding['text']}"


@pytest.fixture
def fresh(empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home that was never used, its database without tables."""
    monkeypatch.setenv("CONTROLTOWER_HOME", str(tmp_path / "new"))
    monkeypatch.setenv("CONTROLTOWER_DATABASE_URL", empty_database)
    return Settings()


@pytest.fixture
def lost(ledger_settings: Settings, planned: Callable[..., int]) -> Settings:
    """A home that has messages, and lost its key."""
    planned()
    (ledger_settings.home / "secret.key").unlink()
    forget()
    return ledger_settings


@pytest.fixture
def older(ledger_settings: Settings) -> Settings:
    """A home whose ledger is from before fingerprints, and holds messages."""
    write_plan(ledger_settings, [message(n) for n in range(3)], key=ledger_settings.signing_key())
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with altering(opened(ledger_settings)) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0008")
    forget()
    return ledger_settings


@pytest.fixture
def unrecorded(ledger_settings: Settings) -> Settings:
    """A home whose ledger holds three messages, and no fingerprint yet."""
    write_plan(ledger_settings, [message(n) for n in range(3)], key=ledger_settings.signing_key())
    with opened(ledger_settings).begin() as ledger:
        ledger.execute(sa.delete(tables.signing_keys))
    return ledger_settings


def migrated() -> str:
    """What the command says, or its error."""
    done = CliRunner().invoke(app, ["migrate"])
    return str(done.exception) if done.exception else done.output


def test_a_new_home_makes_one_key_whoever_comes_first(fresh: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: check_key(fresh), range(4)))
    assert len(fresh.signing_key()) == 64 and recorded(fresh) == [None]


def test_looking_is_enough_to_make_it(fresh: Settings) -> None:
    with reading(fresh):
        pass
    assert len(fresh.signing_key()) == 64


@pytest.mark.parametrize("first", ["feedback", "suppressions", "health"])
def test_whatever_needs_it_first_in_a_new_home_makes_it(fresh: Settings, first: str) -> None:
    """Airflow's schedule, an operator, a health check: nobody has loaded anything yet."""
    if first == "feedback":
        assert ingest_feedback()["bodies"] == 0
    elif first == "suppressions":
        assert list_suppressions(address="somebody@customers.example")["suppressions"] == []
    else:
        with TestClient(create_app(fresh)) as http:
            assert http.get("/health").json() == {"ledger": "ok"}
    assert recorded(fresh) == [None]


def test_a_key_that_is_set_is_known_by_its_fingerprint_alone(fresh: Settings) -> None:
    secret = "a key from the environment"
    conf = fresh.model_copy(update={"secret_key": SecretStr(secret)})
    check_key(conf)
    with opened(conf).connect() as ledger:
        (row,) = ledger.execute(sa.select(tables.signing_keys)).all()
    assert secret not in str(row) and len(row.fingerprint) == 64
    assert not (conf.home / "secret.key").exists()


def test_a_lost_key_is_not_replaced_in_silence(lost: Settings) -> None:
    with pytest.raises(BadSettings, match=LOST), begin(lost):
        pass
    with pytest.raises(BadSettings, match=r"There is no key at .*doctor"):
        lost.signing_key()
    assert told_by_doctor().startswith("BAD") and "secret.key is missing" in told_by_doctor()
    assert not (lost.home / "secret.key").exists()


def test_what_needs_no_key_can_still_be_read(lost: Settings) -> None:
    assert count_suppressions()["suppressions"] == []
    assert not (lost.home / "secret.key").exists()


def test_a_ledger_from_before_fingerprints_knows_its_key_by_its_messages(older: Settings) -> None:
    path = older.home / "secret.key"
    kept = path.read_text()
    path.unlink()
    assert re.match(".*" + LOST, migrated())
    path.write_text(OTHER)
    assert re.match(".*" + REFUSED, migrated())
    for access in (begin, reading):
        with pytest.raises(BadSettings, match=REFUSED), access(older):
            pass
    assert recorded(older) == []
    path.write_text(kept)
    assert migrated() == f"the ledger is at revision {newest_revision()}\n" and recorded(older) == [None]


def test_ids_from_before_keys_made_them_say_nothing_of_a_key(unrecorded: Settings) -> None:
    """Until revision 0005 they were drawn by lot."""
    m = tables.messages.c
    with opened(unrecorded).begin() as ledger:
        first, *more = ledger.execute(sa.select(m.seq).order_by(m.seq)).scalars().all()

    def draw(seqs: list[int]) -> None:
        with opened(unrecorded).begin() as ledger:
            for seq in seqs:
                ledger.execute(sa.update(tables.messages).where(m.seq == seq).values(message_id=uuid.uuid4().hex))

    (unrecorded.home / "secret.key").write_text(OTHER)
    draw(more)
    with pytest.raises(BadSettings, match=REFUSED):
        check_key(unrecorded)
    draw([first])
    check_key(unrecorded)
    assert recorded(unrecorded) == [None]


def test_the_key_of_an_older_ledger_is_not_lost(unrecorded: Settings) -> None:
    done = CliRunner().invoke(app, ["new-key"])
    assert isinstance(done.exception, ControlTowerError) and "nothing is lost" in str(done.exception)
    (unrecorded.home / "secret.key").write_text(OTHER)
    assert CliRunner().invoke(app, ["new-key", "--by", "ann"]).output.startswith("key: taken\n")
    assert recorded(unrecorded) == ["ann"]


@pytest.mark.parametrize("set_as", ["file", "variable"])
def test_another_key_is_refused_also_for_reading(lost: Settings, set_as: str) -> None:
    """Read with it, a suppressed address would look like an open one."""
    if set_as == "file":
        (lost.home / "secret.key").write_text(OTHER)
    conf = lost if set_as == "file" else lost.model_copy(update={"secret_key": SecretStr(OTHER)})
    for access in (begin, reading):
        with pytest.raises(BadSettings, match=REFUSED), access(conf):
            pass


def test_a_key_that_changes_while_a_process_runs_is_seen(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    planned()
    path = ledger_settings.home / "secret.key"
    kept = path.read_text()
    path.write_text(OTHER)
    with pytest.raises(BadSettings, match=REFUSED), begin(ledger_settings):
        pass
    path.write_text(kept)
    with begin(ledger_settings):
        pass
    assert told_by_doctor().startswith("ok") or "fsync" in told_by_doctor()


def test_a_process_that_began_before_new_key_goes_no_further(
    ledger_settings: Settings, planned: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLTOWER_SECRET_KEY", ledger_settings.signing_key().decode())
    running = Settings()
    planned()
    for access in (begin, reading):
        with access(running):
            pass
    monkeypatch.setenv("CONTROLTOWER_SECRET_KEY", OTHER)
    assert CliRunner().invoke(app, ["new-key"]).exit_code == 0
    for access in (begin, reading):
        with pytest.raises(BadSettings, match=REFUSED), access(running):
            pass
        with access(Settings()):
            pass


def test_whoever_only_reads_records_nothing_and_waits_for_no_writer(unrecorded: Settings) -> None:
    with opened(unrecorded).begin():
        forget()  # as a process that has seen nothing yet
        with reading(unrecorded) as ledger:
            assert ledger.execute(sa.select(sa.func.count()).select_from(tables.messages)).scalar_one() == 3
    assert recorded(unrecorded) == []


@pytest.mark.parametrize("ledger_url", [pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_a_database_user_who_may_only_read_can(unrecorded: Settings) -> None:
    name = f"reader_{uuid.uuid4().hex}"
    grants = (f"CREATE ROLE {name} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    with opened(unrecorded).begin() as ledger:
        for statement in grants:
            ledger.exec_driver_sql(statement)
    url = unrecorded.ledger_url.replace("postgres@", f"{name}@")
    with reading(unrecorded.model_copy(update={"database_url": SecretStr(url)})) as ledger:
        assert ledger.exec_driver_sql("SELECT current_user").scalar_one() == name


def test_white_space_around_a_key_is_no_part_of_it(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    """A shell's `echo` ends it with a new line, an editor too."""
    planned()
    path = ledger_settings.home / "secret.key"
    kept = path.read_text()
    path.write_text(f"{kept}\r\n")
    check_key(ledger_settings)
    check_key(ledger_settings.model_copy(update={"secret_key": SecretStr(f" {kept}\t")}))
    assert recorded(ledger_settings) == [None]


def test_a_new_key_is_started_on_purpose_and_says_what_is_void(lost: Settings) -> None:
    with opened(lost).begin() as ledger:
        for value in ("a hash", "another"):
            suppressions.add(ledger, "address", value, channel="email", reason="bounced", source="test", now=NOW)
        suppressions.add(ledger, "customer", "c1", reason="objection", source="test", now=NOW)
        messages = ledger.execute(sa.select(sa.func.count()).select_from(tables.messages)).scalar_one()
    done = CliRunner().invoke(app, ["new-key", "--by", "ann"])
    assert done.exit_code == 0, done.output
    assert done.output == f"key: made\nvoid_links: {messages}\nvoid_suppressions: 2\n"
    assert len(lost.signing_key()) == 64 and recorded(lost) == [None, "ann"]
    with begin(lost):
        pass


def test_the_key_that_is_there_is_taken(lost: Settings) -> None:
    (lost.home / "secret.key").write_text("the key of an older backup")
    done = CliRunner().invoke(app, ["new-key", "--by", "ann"])
    assert done.output.startswith("key: taken\n")
    assert lost.signing_key() == b"the key of an older backup"
    with begin(lost):
        pass


def test_a_key_that_is_not_lost_is_not_replaced(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    before = ledger_settings.signing_key()
    done = CliRunner().invoke(app, ["new-key"])
    assert isinstance(done.exception, ControlTowerError) and "nothing is lost" in str(done.exception)
    assert ledger_settings.signing_key() == before and recorded(ledger_settings) == [None]
