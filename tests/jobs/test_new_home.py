"""What Airflow's schedule runs in a home before anything is loaded: nothing to do is no failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controltower.errors import BadSettings
from controltower.jobs.dispatch import dispatch_messages
from controltower.jobs.engagement import publish_engagement
from controltower.jobs.events import ingest_events
from controltower.jobs.feedback import ingest_feedback
from controltower.jobs.reconcile import reconcile
from controltower.jobs.unsubscribe_group import sync_asm_group
from controltower.settings import parse_shop


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (ingest_events, {"bodies": 0, "loaded": 0}),
        (ingest_feedback, {"bodies": 0, "events": 0}),
        (reconcile, {"waiting": 0}),
        (publish_engagement, {"messages": 0}),
        (sync_asm_group, {"skipped": "there is no shop file at new/shop.yaml"}),
        (dispatch_messages, {"batches": 0, "pending": 0}),
    ],
)
def test_nothing_is_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Callable[[], dict[str, Any]], said: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTROLTOWER_HOME", "new")
    report = job()
    assert {name: report.get(name) for name in said} == said


@pytest.mark.parametrize(
    ("text", "why"), [("", "is empty"), ("# to be written\n", "is empty"), ("- a\n", "no settings")]
)
def test_a_shop_file_without_settings_is_told_in_words(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(BadSettings, match=f"shop.yaml (has )?{why}"):
        parse_shop(tmp_path / "shop.yaml")
