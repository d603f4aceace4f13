"""What the doctor says of settings and approvals."""

from __future__ import annotations

from pathlib import Path

import pytest
from controltower.jobs.doctor import examine
from support import scored_shop


def test_the_doctor_says_who_approves_large_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = scored_shop.make(home, monkeypatch)

    def found() -> str:
        (finding,) = [f for f in examine() if f["name"] == "approval"]
        assert finding["ok"]
        return str(finding["text"])

    assert "nobody is named" in found()
    assert "CONTROLTOWER_APPROVERS" in found()
    monkeypatch.setenv("CONTROLTOWER_APPROVERS", "ann, ben")
    assert found() == "large runs wait for ann or ben"
    scored_shop.write_shop(conf, approve_above=None)
    assert found() == "no run waits for a second person"
    scored_shop.write_spec(conf, approve_above=3)
    assert found() == "large runs wait for ann or ben"


def test_the_doctor_names_a_misspelled_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "setting" not in examine()[0]["text"]
    monkeypatch.setenv("CONTROLTOWER_MEMRY", "2GB")
    assert examine()[0] == {
        "name": "settings",
        "ok": True,
        "text": f"home {home}; CONTROLTOWER_MEMRY is no setting, is CONTROLTOWER_MEMORY meant?",
    }


def test_a_setting_that_cannot_be_used_is_one_finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_THREADS", "many")
    (finding,) = examine()
    assert (finding["name"], finding["ok"]) == ("settings", False)
    assert "CONTROLTOWER_THREADS can't be used" in finding["text"]
