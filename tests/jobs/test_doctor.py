"""What the doctor says of approvals."""

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
