"""A push token that FCM calls dead is not tried again; a new token of the same device is."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from controltower.data.lake import Lake
from controltower.delivery.providers import fcm
from controltower.delivery.providers.base import Answer, Result
from controltower.ledger import suppressions, tables
from controltower.ledger.database import begin
from sqlalchemy import select
from support.lakes import publish_rows
from support.small_shop import rows

from .conftest import CUSTOMERS, NOW, Desk

N = len(CUSTOMERS)
DAY = timedelta(days=1)


def give_tokens(desk: Desk, day: int, **tokens: str) -> None:
    """The shop's app reports a token of a device, named by its customer."""
    moment = NOW + day * DAY - timedelta(hours=1)
    publish_rows(Lake(desk.settings), "devices", f"day {day}",
        rows("devices", *({"device_id": f"d-{c}", "customer_id": c, "push_token": token, "platform": "ios",
                           "updated_at": moment, "last_seen_at": moment} for c, token in tokens.items())),
    )  # fmt: skip


def suppressed(desk: Desk) -> list[tuple[str, str, str, str]]:
    s = tables.suppressions.c
    with begin(desk.settings) as ledger:
        return [tuple(r) for r in ledger.execute(select(s.kind, s.channel, s.reason, s.source))]


def test_a_dead_token_is_not_tried_again_but_a_new_one_is(desk: Desk) -> None:
    give_tokens(desk, 0, c0="unregistered-1", c1="not a token")
    desk.plan("push")
    assert desk.dispatch().requests == {"sent": N - 2, "rejected": 2}
    assert desk.totals().rejected == {"unregistered": 1, "invalid_token": 1}
    assert suppressed(desk) == [("address", "push", "dead_token", "fcm")] * 2
    desk.plan("push", NOW + 8 * DAY)  # beyond the frequency cap
    report = desk.dispatch(NOW + 8 * DAY)
    assert (report.requests, report.refused) == ({"sent": N - 2}, {"no_device": 2})
    give_tokens(desk, 16, c0="renewed")
    desk.plan("push", NOW + 16 * DAY)
    assert desk.dispatch(NOW + 16 * DAY).requests == {"sent": N - 1}
    assert len(suppressed(desk)) == 2


def test_a_row_of_dead_tokens_does_not_stop_the_channel(desk: Desk) -> None:
    """Of twelve devices eleven are dead: more than the eight refusals in a row that mean that we are at fault."""
    give_tokens(desk, 0, **{c: f"unregistered-{c}" for c in CUSTOMERS[:-2]}, **{CUSTOMERS[-2]: "not a token"})
    desk.plan("push")
    report = desk.dispatch()
    assert report.requests == {"rejected": N - 1, "sent": 1}
    assert report.trouble == {} and len(suppressed(desk)) == N - 1


def test_a_suppressed_device_stays_suppressed_with_a_new_token(desk: Desk) -> None:
    with begin(desk.settings) as ledger:
        suppressions.add(ledger, "device", "d-c0", reason="stolen", source="desk", now=NOW - DAY)
    give_tokens(desk, 0, c0="renewed")
    desk.plan("push")
    report = desk.dispatch()
    assert (report.requests, report.refused) == ({"sent": N - 1}, {"no_device": 1})


def test_what_is_wrong_with_the_message_or_the_project_kills_no_token() -> None:
    violation = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "message.token"}]}
    dead = _read(400, "INVALID_ARGUMENT", "Invalid value", violation)
    assert (dead.reason, dead.suppress) == ("invalid_token", "dead_token")
    assert _read(400, "INVALID_ARGUMENT", "Android message is too big").suppress is None
    assert _read(403, "SENDER_ID_MISMATCH", "SenderId mismatch").suppress is None


def _read(status: int, code: str, message: str, *details: dict[str, object]) -> Result:
    told = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
    error = {"error": {"code": status, "status": code, "message": message, "details": [*details, told]}}
    return fcm.read_answer(Answer(status, {}, json.dumps(error).encode()))


@pytest.mark.parametrize(
    "body", [b"[]", b'{"error": []}', b'{"error": {"details": [7]}}', b'{"error": {"message": 7}}']
)
def test_an_answer_of_no_form_blames_no_token(body: bytes) -> None:
    assert fcm.read_answer(Answer(400, {}, body)).suppress is None


def test_a_message_to_several_devices_is_accepted_if_one_of_them_is(desk: Desk) -> None:
    second = {"c0": "token-second", "c1": "unregistered-second", "c2": "unregistered-second"}
    known = NOW - timedelta(hours=1)
    publish_rows(Lake(desk.settings), "devices", "second",
        rows("devices", *({"device_id": f"second-{c}", "customer_id": c, "push_token": f"{token}-{c}",
                           "platform": "android", "updated_at": known, "last_seen_at": known}
                          for c, token in second.items())),
    )  # fmt: skip
    give_tokens(desk, 0, c2="unregistered-first")
    desk.plan("push")
    report = desk.dispatch()
    assert report.requests == {"sent": N, "rejected": 3}
    totals = desk.totals()
    assert (totals.accepted, totals.rejected) == ({"fcm": N - 1}, {"unregistered": 1})
    assert suppressed(desk) == [("address", "push", "dead_token", "fcm")] * 3
