"""Which day a demo shows, and where it keeps it."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
from controltower.errors import BadSettings, BadSource
from controltower.ledger.database import check_key
from controltower.settings import Settings
from support.patience import PATIENCE
from support.running_demo import ROOT, start_demo

from demo import home, tower

EVENTS = "event_id,occurred_at,event_name\n1,2026-03-01T10:00:00+09:00,view_item\n2,{},view_item\n"


def folder_with(tmp_path: Path, newest: str) -> Path:
    folder = tmp_path / "My shop"
    folder.mkdir()
    (folder / "events.csv").write_text(EVENTS.format(newest))
    return folder


def test_named_sources_have_their_day(tmp_path: Path) -> None:
    assert home.plan("simulated", tmp_path).starts.isoformat() == "2026-06-15T06:30:00+09:00"
    assert home.plan("online-retail", tmp_path).starts.isoformat() == "2011-11-09T06:30:00+00:00"
    assert home.plan("simulated", tmp_path).home == tmp_path / "simulated"


def test_all_of_online_retail_is_loaded_and_other_shops_up_to_their_day(tmp_path: Path) -> None:
    assert home.plan("online-retail", tmp_path).ends == "2011-12-10"
    assert home.plan("simulated", tmp_path).ends == "2026-06-15"
    assert home.plan(str(folder_with(tmp_path, "2026-03-02 23:59:00")), tmp_path).ends == "2026-03-03"


def test_a_folders_day_is_the_one_after_its_newest_fact(tmp_path: Path) -> None:
    plan = home.plan(str(folder_with(tmp_path, "2026-03-02 23:59:00")), tmp_path)
    assert plan.starts.isoformat() == "2026-03-03T06:30:00+00:00"
    assert plan.home.name.startswith("my-shop-")
    assert plan.source == str(tmp_path / "My shop")


@pytest.mark.parametrize("mistake", ["2099-01-01T00:00:00Z", "yesterday", ""])
def test_a_mistaken_date_is_not_the_newest(tmp_path: Path, mistake: str) -> None:
    plan = home.plan(str(folder_with(tmp_path, mistake)), tmp_path)
    assert plan.starts.isoformat() == "2026-03-02T06:30:00+00:00"


def test_a_mapped_column_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "mapped"
    folder.mkdir()
    (folder / "sales.csv").write_text("nr;datum\n".replace(";", ",") + "1,2026-05-05 12:00:00\n")
    (folder / "source.yaml").write_text(
        "tables: {orders: {file: sales.csv, columns: {nr: order_id, datum: ordered_at}}}\n"
    )
    assert home.plan(str(folder), tmp_path).starts.isoformat() == "2026-05-06T06:30:00+00:00"


def test_the_users_clock_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_NOW", "2026-06-10T12:00:00+09:00")
    assert home.plan("simulated", tmp_path).starts.isoformat() == "2026-06-10T12:00:00+09:00"


def test_nothing_of_a_shop_in_earnest_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger, the key and the mail server of the user's own shop: a demo sends to its sandbox only."""
    monkeypatch.setenv("CONTROLTOWER_DATABASE_URL", "postgresql+psycopg://shop@db.example/shop")
    monkeypatch.setenv("CONTROLTOWER_SECRET_KEY", "the key of the shop")
    monkeypatch.setenv("CONTROLTOWER_EMAIL_PROVIDER", "smtp")
    monkeypatch.setenv("CONTROLTOWER_SMTP_URL", "smtps://shop:secret@mail.example")
    plan = home.plan("simulated", tmp_path)
    with mock.patch.dict(os.environ):
        plan.use("http://127.0.0.1:1", "http://127.0.0.1:2")
        used = Settings()
        assert used.ledger_url == f"sqlite:///{tmp_path / 'simulated' / 'ledger.db'}"
        assert (used.secret_key, used.smtp_url, used.email_provider) == (None, None, "sendgrid")
        assert used.sendgrid_url == used.fcm_url == "http://127.0.0.1:1"
        shell = tower.write_shell(tmp_path / "shell.sh", os.environ).read_text()
    assert "export CONTROLTOWER_DATABASE_URL=''" in shell


def test_a_home_whose_key_is_lost_is_refused_before_anything_starts(tmp_path: Path) -> None:
    conf = Settings(home=tmp_path / "simulated")
    check_key(conf)
    (conf.home / "secret.key").unlink()
    refused = start_demo("simulated", tmp_path)
    said, _ = refused.communicate(timeout=PATIENCE)
    assert refused.returncode == 1
    assert "secret.key is missing" in said
    assert f"`rm -rf {os.path.relpath(conf.home, ROOT)}` begins the demo anew." in said
    assert not (conf.home / "logs").exists()


def test_there_is_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"There is no folder .*SOURCE is simulated, null-shop, online-retail, or"):
        home.plan(str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(BadSource, match="holds no"):
        home.plan(str(tmp_path), tmp_path)


@pytest.mark.parametrize("days", ["0", "15", "two", "-1"])
def test_a_number_of_days_that_cannot_be_is_refused(tmp_path: Path, days: str) -> None:
    refused = start_demo("simulated", tmp_path, f"--days={days}")
    said, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert f"DAYS is a number from 1 to 14, not {days}." in said
    assert not any(tmp_path.iterdir())


def test_the_customers_pages_stay_where_the_last_demo_had_them(tmp_path: Path) -> None:
    shell = tmp_path / "shell.sh"
    assert tower.last_public_port(shell) is None
    tower.write_shell(shell, {"CONTROLTOWER_PUBLIC_URL": "http://127.0.0.1:8093"})
    assert tower.last_public_port(shell) == 8093
