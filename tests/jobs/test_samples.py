"""Samples of a campaign for chosen customers, before it runs and of a frozen run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from controltower.errors import BadSettings
from controltower.jobs.campaigns import plan_campaign, preview_campaign
from controltower.jobs.samples import sample_run
from controltower.ledger import database, plans, tables
from controltower.settings import Settings
from support import scored_shop
from support.patience import PATIENCE


@pytest.fixture
def shop(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return scored_shop.make(ledger_settings.home, monkeypatch)


def test_every_customer_asked_for_has_a_named_outcome(shop: Settings) -> None:
    asked = ["asleep", "c1", "silent", "nobody", "fresh", "c1", "'; drop table"]
    samples = preview_campaign("spring", customer_ids=asked)["samples"]
    assert [(s["customer_id"], s["outcome"]) for s in samples] == [
        ("asleep", "not_in_audience"),
        ("c1", "message"),
        ("silent", "not_sent"),
        ("nobody", "unknown_customer"),
        ("fresh", "no_data"),
        ("'; drop table", "unknown_customer"),
    ]
    found = {s["customer_id"]: s for s in samples}
    assert found["silent"]["reason"] == "no_consent"
    assert found["c1"]["subject"] in ("(광고) A Title p0", "(광고) B")
    assert "Title p0" in found["c1"]["html"]
    assert {s.keys() >= {"customer_id", "outcome", "reason", "variant", "channel", "due_at"} for s in samples} == {True}


def test_nobody_asked_for_is_no_sample(shop: Settings) -> None:
    assert preview_campaign("spring", customer_ids=[])["samples"] == []


def test_words_that_cannot_be_said_are_an_outcome(shop: Settings) -> None:
    scored_shop.write_spec(shop, variants=[{"name": "a", "subject": {"en": "{{ products[99].title }}"}}])
    (sample,) = preview_campaign("spring", customers=1)["samples"]
    assert (sample["outcome"], sample["variant"]) == ("not_composed", "a")


def test_a_frozen_run_shows_every_variant_first(shop: Settings) -> None:
    run_id = plan_campaign("spring")["run_id"]
    report = sample_run(run_id, customers=2)
    assert {s["variant"] for s in report["samples"]} == {"a", "b"}
    assert (report["template_changed"], report["hold"], report["messages"]) == (False, "approval", 8)
    assert len(sample_run(run_id, customers=50)["samples"]) == 8
    with (shop.templates / "email" / "win_back.txt").open("a") as f:
        f.write("edited\n")
    assert sample_run(run_id)["template_changed"]
    (shop.templates / "email" / "win_back.mjml").unlink()
    assert {s["outcome"] for s in sample_run(run_id)["samples"]} == {"not_composed"}


def test_a_run_that_is_not_there(shop: Settings) -> None:
    with pytest.raises(BadSettings, match="no run 7"):
        sample_run(7)


def test_a_preview_and_a_rehearsal_wait_for_no_writer_and_write_nothing(shop: Settings) -> None:
    """Another transaction holds SQLite's write lock, and on PostgreSQL the new subjects of the same customers."""
    with ThreadPoolExecutor(1) as pool, database.opened(shop).connect() as writer:  # rolled back at its end
        plans.subject_ids(writer, [f"c{n}" for n in range(8)], scored_shop.NOW)
        shown = pool.submit(preview_campaign, "spring", 8).result(timeout=PATIENCE)
        rehearsed = pool.submit(plan_campaign, "spring", "2026-06-14").result(timeout=PATIENCE)
    with database.reading(shop) as ledger:
        assert ledger.execute(sa.select(sa.func.count()).select_from(tables.subjects)).scalar_one() == 0
    assert (shown["messages"], rehearsed["rehearsed"]) == (8, True)
    run_id = plan_campaign("spring")["run_id"]
    with database.reading(shop) as ledger:
        frozen = {d.customer_id: d.arm for d in plans.decided(ledger, run_id)}
    assert frozen == {s["customer_id"]: s["variant"] for s in shown["samples"]}, "with the subjects that it foresaw"


def test_a_process_whose_first_look_reads_waits_for_no_writer(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> int:
        with database.reading(shop) as ledger:
            return int(ledger.execute(sa.select(sa.func.count()).select_from(tables.campaign_runs)).scalar_one())

    with ThreadPoolExecutor(1) as pool, database.opened(shop).connect() as writer:
        plans.subject_ids(writer, ["c0"], scored_shop.NOW)
        monkeypatch.setattr(database, "_up_to_date", set())  # as in a process that hasn't opened it yet
        assert pool.submit(look).result(timeout=PATIENCE) == 0
