"""The demo fails where the ledger and the sandbox tell different stories."""

from __future__ import annotations

from typing import Any

import pytest

from demo.summary import disagreements

CAUGHT = {"mails": 3, "pushes": 2, "message_ids": 5, "duplicates": 0}


def total(**changes: Any) -> dict[str, Any]:
    run = {"campaign": "win_back", "occurrence": "2026-06-15", "accounted": True}
    return {"accepted": {"sendgrid": 3, "fcm": 2}, "pending": 0, "runs": [run]} | changes


def test_they_agree() -> None:
    assert disagreements(total(), CAUGHT) == []


@pytest.mark.parametrize(
    ("ledger", "inbox", "told"),
    [
        ({"accepted": {"sendgrid": 4, "fcm": 2}}, {}, "the ledger counts 6 accepted messages, the sandbox 5"),
        ({"accepted": {"sendgrid": 2, "fcm": 3}}, {}, "the ledger counts 2 accepted mails, the sandbox 3"),
        ({"pending": 7}, {}, "7 messages still wait"),
        ({"runs": []}, {}, "no campaign was planned"),
        ({"runs": [{"campaign": "a", "occurrence": "b", "accounted": False}]}, {}, "without an outcome"),
        ({}, {"duplicates": 1}, "reached the inbox twice"),
    ],
)
def test_each_disagreement_is_told(ledger: dict[str, Any], inbox: dict[str, int], told: str) -> None:
    (found,) = disagreements(total(**ledger), CAUGHT | inbox)
    assert told in found


def test_no_answer_is_no_agreement() -> None:
    assert disagreements(total(), {}) == ["the sandbox doesn't answer"]
