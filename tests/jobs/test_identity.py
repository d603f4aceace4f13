"""Ingest unites customers in lake and ledger; the command line shows why, and undoes it in both."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from controltower import clock, settings
from controltower.cli import app
from controltower.data.lake import Lake
from controltower.errors import ControlTowerError
from controltower.jobs.identity import list_identity, show_identity
from controltower.jobs.ingest import ingest_data
from controltower.ledger import consents, merges
from controltower.ledger.database import begin
from controltower.settings import Settings
from typer.testing import CliRunner

CUSTOMERS = """customer_id,updated_at,email,phone,signed_up_at
web,2025-03-01,ann@mail.example,010-1234-5678,2025-03-01
store,2025-05-01,,+82 10 1234 5678,2025-05-01
other,2025-05-01,bob@mail.example,010-1234-5678,2025-05-01
"""
CONSENTS = """customer_id,channel,purpose,recorded_at,granted,source
web,email,marketing,2025-03-01,true,shop
store,email,marketing,2025-05-01,false,shop
"""


@pytest.fixture
def conf(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home into which a small shop was loaded."""
    monkeypatch.setenv("CONTROLTOWER_NOW", "2026-01-01T00:00:00+00:00")
    monkeypatch.setenv("CONTROLTOWER_SPEED", "0")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "customers.csv").write_text(CUSTOMERS)
    (folder / "consents.csv").write_text(CONSENTS)
    assert ingest_data(str(folder))["identity"] == {"customers": 3, "merged": 1, "parted": 0}
    return settings.load()


def may_be_written_to(conf: Settings) -> set[str]:
    with begin(conf) as ledger:
        return consents.granted(ledger, "email", "marketing", clock.now(conf))


def test_an_undo_parts_lake_and_ledger_and_the_next_load_keeps_it(conf: Settings, tmp_path: Path) -> None:
    assert may_be_written_to(conf) == set()  # the store's no holds
    (merge,) = list_identity()["merges"]
    assert (merge["person"], merge["gone"], merge["kind"]) == ("web", "store", "phone_hash")
    told = CliRunner().invoke(app, ["identity", "undo", merge["merge"], "--by", "kim"])
    assert told.exit_code == 0, told.output
    assert may_be_written_to(conf) == {"web"}
    assert ingest_data(str(tmp_path / "shop"))["identity"]["merged"] == 0
    with begin(conf) as ledger:
        assert not merges.families(ledger)
    found = list_identity()
    assert (found["merges"], found["persons"]) == ([], 0)
    assert [(u["one"], u["other"], u["by"]) for u in found["undone"]] == [("web", "store", "kim")]
    assert list_identity("2025-12-01")["merged_ids"] == 1


def test_the_command_line_tells_whose_an_id_is_and_why_another_is_not(conf: Settings) -> None:
    shown = CliRunner().invoke(app, ["identity", "show", "store"])
    assert shown.exit_code == 0
    assert "person: web" in shown.output
    assert "ids: store, web" in shown.output
    listed = CliRunner().invoke(app, ["identity", "list"])
    assert "why other_email" in listed.output
    for secret in ("ann@", "bob@", "1234"):
        assert secret not in shown.output + listed.output
    assert show_identity("store", "2025-04-01")["person"] == "store"
    with pytest.raises(ControlTowerError, match="no key in common"):
        show_identity("nobody")


def test_the_keys_in_the_lake_are_hashes(conf: Settings) -> None:
    for table in ("identity", "identity_log", "identity_claims"):
        (part,) = (Lake(conf).root / table).glob("*.parquet")
        rows = str(pq.read_table(part).to_pylist())
        assert "web" in rows
        assert "mail.example" not in rows
        assert "12345678" not in rows
