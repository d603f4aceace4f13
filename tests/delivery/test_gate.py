"""Limits, pauses and the size of a round, with real dispatchers and the sandbox, on each database: nothing is lost."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa
from controltower import cli, clock, settings
from controltower.content.links import of_message
from controltower.data.lake import Lake
from controltower.delivery import sending
from controltower.delivery.dispatch import Dispatcher
from controltower.errors import BadSettings
from controltower.jobs.feedback import ingest_feedback
from controltower.jobs.signing_key import start_key
from controltower.ledger import providers, tables, webhooks
from controltower.ledger.database import begin, reading

from .conftest import AT_ONCE, CUSTOMERS, NOW, Desk

N = len(CUSTOMERS)
HOUR = timedelta(hours=1)
BURST = 10  # of a rate of 100; by the day, so that none comes back while a test runs


def rule(desk: Desk, provider: str = "sendgrid", **rules: Any) -> None:
    with desk.settings.shop_file.open("a") as shop:
        shop.write(f"providers: {json.dumps({provider: rules})}\n")


def standing(desk: Desk, provider: str = "sendgrid") -> providers.Standing:
    with reading(desk.settings) as ledger:
        return providers.standings(ledger)[provider]


def refill(desk: Desk) -> None:
    """Let so much of the database's clock have passed that all that was taken of rates has come back."""
    desk.retry_now()
    with begin(desk.settings) as ledger:
        ledger.execute(sa.update(tables.provider_rates).values(spent_until=0.0))


def two_at_once(desk: Desk, now: datetime = NOW) -> None:
    clock.set_clock(desk.settings, now, speed=0)
    threads = [Thread(target=desk.dispatch, args=(None,)) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def mails(desk: Desk) -> int:
    caught = desk.caught()
    assert caught["duplicates"] == 0
    assert desk.totals().accounted
    return caught["mails"]


def test_two_dispatchers_never_exceed_a_rate_together(desk: Desk) -> None:
    rule(desk, rate="100/day")
    desk.plan(campaign="picked_for_you")
    desk.plan(campaign="win_back", due_at=NOW)
    for left in (BURST, 2 * BURST, 3 * BURST, 4 * BURST, 2 * N):
        two_at_once(desk)
        two_at_once(desk)
        assert mails(desk) == left
        refill(desk)


def test_what_waits_for_the_rate_is_told_and_is_no_trouble(desk: Desk) -> None:
    rule(desk, rate="100/day")
    desk.plan()
    report = desk.dispatch()
    assert (report.requests, report.deferred, report.trouble) == ({"sent": BURST}, {"rate_limit": N - BURST}, {})
    assert desk.totals().pending == N - BURST
    refill(desk)
    desk.dispatch(NOW + 25 * HOUR)  # it expires all the same
    assert (desk.totals().accepted, desk.totals().not_sent) == ({"sendgrid": BURST}, {"expired": N - BURST})


def test_a_push_counts_once_a_device(desk: Desk) -> None:
    rule(desk, "fcm", rate="100/day")
    desk.plan("push")
    assert desk.dispatch().requests == {"sent": BURST}


@pytest.mark.parametrize("domain", ["customers.example", "*"])
def test_a_domain_has_its_own_rate_and_its_messages_wait_for_their_turn(desk: Desk, domain: str) -> None:
    rule(desk, per_domain={domain: "100/day", "other.example": "1/day"})
    desk.plan()
    report = desk.dispatch()
    assert (report.requests, report.deferred, report.trouble) == ({"sent": BURST}, {"domain_limit": N - BURST}, {})
    with reading(desk.settings) as ledger:
        kept = set(ledger.execute(sa.select(tables.provider_rates.c.domain)).scalars())
    assert ("customers.example" in kept) is (domain != "*")  # a domain of one's own tells who one is
    assert desk.dispatch(NOW + 2 * HOUR).batches == 0
    for hours, left in ((3, 2 * BURST), (6, N)):  # ten come back in 2 h 40
        refill(desk)
        two_at_once(desk, NOW + hours * HOUR)
        assert mails(desk) == left


def test_a_domain_that_is_not_ready_after_all_waits_again_and_expires_at_last(desk: Desk) -> None:
    rule(desk, per_domain={"customers.example": "100/day"})
    desk.plan()
    desk.dispatch()
    assert desk.dispatch(NOW + 3 * HOUR).deferred == {"domain_limit": BURST}
    desk.dispatch(NOW + 6 * HOUR)
    desk.dispatch(NOW + 48 * HOUR)
    assert (desk.totals().accepted, desk.totals().not_sent) == ({"sendgrid": BURST}, {"expired": N - BURST})


def test_a_day_of_warm_up_is_shared_and_the_rest_leaves_tomorrow(desk: Desk) -> None:
    rule(desk, warm_up={"start": "2026-06-15", "days": [10, 13]})
    desk.plan()
    two_at_once(desk)
    assert mails(desk) == 10
    assert desk.dispatch(NOW + 8 * HOUR).batches == 0
    assert desk.dispatch(NOW + 22 * HOUR).deferred == {"warm_up": 1}
    assert mails(desk) == 23
    desk.dispatch(NOW + 48 * HOUR)
    assert desk.totals().not_sent == {"expired": 1}


def test_a_message_that_could_leave_but_did_not_takes_nothing(desk: Desk) -> None:
    rule(desk, warm_up={"start": "2026-06-15", "days": [20]})
    desk.plan()
    desk.fault("503", count=AT_ONCE)
    assert desk.dispatch().requests == {"retry": AT_ONCE}  # its other four of today are given back
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": 4}
    assert mails(desk) == 4


def test_a_run_stays_until_there_is_room(desk: Desk) -> None:
    rule(desk, rate="100/day")
    desk.plan()
    clock.set_clock(desk.settings, NOW, speed=0)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        refill(desk)

    with Lake(desk.settings).read(NOW) as lake:
        dispatcher = Dispatcher(desk.settings, settings.load_shop(desk.settings), lake)
        dispatcher._sleep = sleep
        report = dispatcher.run(stay=100_000.0)
    assert (report.requests, report.deferred) == ({"sent": N}, {})
    assert slept == [pytest.approx(BURST / (90 / 86_400), abs=5), pytest.approx(4 / (90 / 86_400), abs=5)]


def test_what_leaves_after_new_key_is_signed_with_it(
    desk: Desk, messages: Callable[[str], list[dict[str, Any]]]
) -> None:
    """A run may wait for minutes: what it made before then isn't kept beyond."""
    rule(desk, rate="100/day")
    desk.plan()
    clock.set_clock(desk.settings, NOW, speed=0)
    keys = [desk.settings.signing_key(), b"the key that was started", b"and the one thereafter"]
    later = keys[1:]

    def sleep(_: float) -> None:
        (desk.settings.home / "secret.key").write_bytes(later.pop(0))
        start_key("ann")
        refill(desk)

    with Lake(desk.settings).read(NOW) as lake:
        dispatcher = Dispatcher(desk.settings, settings.load_shop(desk.settings), lake)
        dispatcher._sleep = sleep
        assert dispatcher.run(stay=100_000.0).requests == {"sent": N}
    with reading(desk.settings) as ledger:
        ids = ledger.execute(sa.select(tables.messages.c.message_id)).scalars().all()
    signed = Counter(
        key for m in ids for key in keys if of_message(key, "", m).unsubscribe in json.dumps(messages(m)[0])
    )
    assert [signed[key] for key in keys] == [BURST, BURST, N - 2 * BURST]


def test_without_rules_no_limit_is_asked_for(desk: Desk) -> None:
    desk.plan()
    assert desk.dispatch().requests == {"sent": N}
    with reading(desk.settings) as ledger:
        assert providers.standings(ledger) == {}
        assert not ledger.execute(sa.select(tables.provider_rates)).all()


def test_rules_for_a_provider_that_there_is_not_are_no_rules(desk: Desk) -> None:
    rule(desk, "sendgird", rate="100/day")
    desk.plan()
    with pytest.raises(BadSettings, match="sendgird"):
        desk.dispatch()


def test_retry_after_pauses_a_provider_for_everybody(desk: Desk) -> None:
    desk.plan("push")
    desk.fault("429", count=1, seconds=30)
    report = desk.dispatch()
    assert report.requests == {"retry": 1, "sent": N - 1}
    stands = standing(desk, "fcm")
    assert (25 < stands.waits <= 30, stands.failures) == (True, 0)
    desk.plan("push", due_at=NOW - 19 * HOUR)
    other = desk.dispatch()  # another dispatcher
    assert (other.batches, other.requests, "push" in other.trouble) == (0, {}, True)
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": N + 1}
    caught = desk.caught()
    assert (caught["pushes"], caught["duplicates"]) == (2 * N, 0)


def test_a_pause_holds_for_a_batch_that_another_dispatcher_is_at(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.plan()
    real = sending.wait

    def paused_meanwhile(calls: list[Any]) -> None:
        real(calls)
        with begin(desk.settings) as ledger:
            providers.write(ledger, providers.lock(ledger, "sendgrid")._replace(waits=60.0, why="rate_limited"))

    monkeypatch.setattr(sending, "wait", paused_meanwhile)
    report = desk.dispatch()
    assert report.requests == {"sent": AT_ONCE}
    assert "rate_limited" in report.trouble["email"]
    monkeypatch.setattr(sending, "wait", real)
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": N - AT_ONCE}


def test_a_lost_answer_halves_what_is_under_way_and_pauses(batching_desk: Desk) -> None:
    desk = batching_desk
    desk.plan(campaign="picked_for_you")
    desk.fault("drop", count=1, seconds=0)
    assert desk.dispatch().requests == {"unknown": 1}
    stands = standing(desk)
    assert (stands.size, 55 < stands.waits <= 60, desk.totals().unknown) == (N // 2, True, N)
    desk.plan(campaign="win_back")
    assert desk.dispatch().batches == 0
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": 2}  # twelve, and twelve of the twenty-four that may be by then
    assert standing(desk).size == 2 * N
    assert desk.totals().accepted == {"sendgrid": N}


def test_with_short_pauses_a_run_goes_on_by_smaller_rounds(desk: Desk) -> None:
    rule(desk, pause=0, longest_pause=0, pause_after_unknown=0)
    desk.plan()
    desk.fault("drop", count=3, seconds=0)
    assert desk.dispatch().requests == {"unknown": 3, "sent": N - 3}
    assert standing(desk).size == AT_ONCE  # halved to eight, and eight were answered
    assert mails(desk) == N


def test_failures_open_the_circuit_and_one_message_tells_that_it_can_close(desk: Desk) -> None:
    desk.plan()
    desk.fault("503", count=AT_ONCE + 1)
    assert desk.dispatch().requests == {"retry": AT_ONCE}
    stands = standing(desk)
    assert (stands.pauses, 55 < stands.waits <= 60) == (1, True)
    desk.retry_now()
    assert desk.dispatch().requests == {"retry": 1}
    stands = standing(desk)
    assert (stands.pauses, 115 < stands.waits <= 120) == (2, True)
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": N}
    assert (standing(desk).pauses, mails(desk)) == (0, N)


def test_refused_credentials_are_not_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.plan()
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", "SG.wrong")
    desk.settings = settings.load()
    assert desk.dispatch().requests == {"retry": AT_ONCE}
    desk.retry_now()
    report = desk.dispatch()
    assert (report.batches, "provider resume sendgrid" in report.trouble["email"]) == (0, True)
    monkeypatch.setattr(sys, "argv", ["controltower", "provider", "resume", "sendgrid", "--by", "ann"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert desk.dispatch().requests == {"retry": AT_ONCE}


def complain(desk: Desk, first: int, count: int) -> dict[str, Any]:
    """Some customers report their mail as spam; what reading that says."""
    with begin(desk.settings) as ledger:
        ids = list(ledger.execute(sa.select(tables.messages.c.message_id).order_by(tables.messages.c.seq)).scalars())
        events = [
            {"email": "x@customers.example", "timestamp": int(NOW.timestamp()), "event": "spamreport",
             "sg_event_id": f"e{n}", "message_id": ids[n]} for n in range(first, first + count)
        ]  # fmt: skip
        webhooks.store(ledger, "sendgrid", [json.dumps(events).encode()], NOW)
    return ingest_feedback()


def test_complaints_pause_until_somebody_resumes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["controltower", "provider", *words])
        with pytest.raises(SystemExit):
            cli.main()
        return capsys.readouterr().out

    rule(desk, complaints_of=20)
    desk.plan(campaign="picked_for_you")
    desk.dispatch()
    assert complain(desk, 0, 4)["paused"] == []
    assert complain(desk, 4, 1)["paused"] == ["sendgrid"]
    desk.plan(campaign="win_back")
    report = desk.dispatch()
    assert (report.batches, "5 of 24 messages were reported as spam" in report.trouble["email"]) == (0, True)
    assert "sendgrid, state paused until resumed, why 5 of 24 messages" in command("list")
    assert "was: paused until resumed" in command("resume", "sendgrid")
    clock.set_clock(desk.settings, NOW + timedelta(minutes=1), speed=0)
    assert complain(desk, 5, 1)["paused"] == []  # counted from then on
    assert desk.dispatch(NOW + timedelta(minutes=2)).requests["sent"] > 0
    assert "state open" in command("list")


def test_what_a_paused_provider_held_up_expires_all_the_same(desk: Desk) -> None:
    desk.plan()
    with begin(desk.settings) as ledger:
        providers.write(ledger, providers.lock(ledger, "sendgrid")._replace(waits=providers.FOREVER, why="complaints"))
    report = desk.dispatch()
    assert (report.batches, desk.totals().pending, "complaints" in report.trouble["email"]) == (0, N, True)
    report = desk.dispatch(NOW + 25 * HOUR)
    assert (desk.totals().not_sent, report.trouble) == ({"expired": N}, {})


def test_a_run_stays_for_a_domains_turn(desk: Desk) -> None:
    rule(desk, per_domain={"customers.example": "100/day"})
    desk.plan()
    clock.set_clock(desk.settings, NOW, speed=0)

    def sleep(seconds: float) -> None:
        clock.set_clock(desk.settings, clock.now(desk.settings) + timedelta(seconds=seconds + 1), speed=0)
        refill(desk)

    with Lake(desk.settings).read(NOW) as lake:
        dispatcher = Dispatcher(desk.settings, settings.load_shop(desk.settings), lake)
        dispatcher._sleep = sleep
        assert dispatcher.run(stay=100_000.0).requests == {"sent": N}
