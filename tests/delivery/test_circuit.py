"""When a provider is paused, and how much is asked of it: as functions of values."""

from __future__ import annotations

import pytest
from controltower.delivery.circuit import MOST, after, complained_of, messages_at_once, tells
from controltower.delivery.providers.base import Answer, Result
from controltower.delivery.providers.sendgrid import read_answer
from controltower.ledger.providers import FOREVER, Standing
from controltower.shop import ProviderRules

RULES = ProviderRules()
SENT = Result("sent")
BROKEN = Result("retry", "unavailable", 503)
LOST = Result("unknown", "no_answer:EOFError")
DEAD = Result("retry", "no_connection:ConnectionRefusedError", stop="it can't be reached")
FULL_BOX = Result("retry", "recipient_refused:452", 452, of_address=True)
WELL = Standing("sendgrid")


def test_what_goes_well_changes_nothing() -> None:
    assert not tells([SENT, Result("rejected", "invalid:subject", 400), FULL_BOX], WELL)
    assert after(WELL, [SENT], 1000, RULES) == WELL


@pytest.mark.parametrize("failure", [BROKEN, DEAD])
def test_so_many_failures_in_a_row_pause_it(failure: Result) -> None:
    assert tells([failure], WELL)
    four = after(WELL, [failure] * 4, 4, RULES)
    assert (four.waits, four.failures) == (0, 4)
    assert after(four, [failure, SENT], 2, RULES) == WELL
    five = after(four, [failure], 1, RULES)
    assert (five.waits, five.pauses, five.why) == (60, 1, failure.stop or failure.reason)


def test_a_pause_is_followed_by_one_message_and_doubles_until_that_is_answered() -> None:
    standing, waits = WELL, []
    for _ in range(9):
        standing = after(standing, [BROKEN] * (1 if standing.pauses else 5), 5, RULES)
        waits.append(standing.waits)
        standing = standing._replace(waits=0.0)  # it is over
        assert messages_at_once(standing) == 1
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert messages_at_once(after(standing, [SENT], 1, RULES)) == MOST


def test_two_dispatchers_that_fail_at_once_double_it_once() -> None:
    first = after(WELL, [BROKEN] * 5, 5, RULES)
    assert after(first, [BROKEN] * 5, 5, RULES) == first._replace(failures=5)


def test_a_lost_answer_halves_what_is_under_way_down_to_one_and_answers_double_it() -> None:
    standing, sizes = WELL, []
    for _ in range(11):
        standing = after(standing, [LOST, SENT], messages_at_once(standing), RULES)
        assert standing.waits == 60
        standing = standing._replace(waits=0.0)
        sizes.append(messages_at_once(standing))
    assert sizes == [500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1]
    grown = []
    for _ in range(10):
        standing = after(standing, [SENT], messages_at_once(standing), RULES)
        grown.append(messages_at_once(standing))
    assert grown == [2, 4, 8, 16, 32, 64, 128, 256, 512, MOST]


def test_a_lost_answer_halves_what_was_under_way_then() -> None:
    assert after(WELL, [LOST] + [SENT] * 31, 32, RULES).size == 16


@pytest.mark.parametrize(("asked", "waits"), [(30.0, 30.0), (90_000.0, 3600.0)])
@pytest.mark.parametrize("state", ["retry", "sent"])
def test_what_the_provider_asks_for_is_done_within_bounds(asked: float, waits: float, state: str) -> None:
    result = Result(state, "rate_limited", 429, retry_in=asked)  # type: ignore[arg-type]
    assert tells([SENT, result], WELL)
    standing = after(WELL, [SENT, result], 2, RULES)
    assert (standing.waits, standing.why, standing.failures) == (waits, "rate_limited", 0)


def test_a_limit_that_is_used_up_is_read_from_the_headers_of_a_success() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1781492412", "date": "Mon, 15 Jun 2026 03:00:00 GMT"}
    assert read_answer(Answer(202, headers, b"")).retry_in == 12
    assert read_answer(Answer(202, headers | {"x-ratelimit-remaining": "1"}, b"")).retry_in is None
    assert read_answer(Answer(202, {}, b"")).retry_in is None


def test_refused_credentials_pause_until_somebody_does_something() -> None:
    refused = Result("retry", "unauthorized", 401, stop="check the key")
    standing = after(WELL, [refused, SENT], 2, RULES)
    assert (standing.waits, standing.why) == (FOREVER, "check the key")


def test_an_address_that_is_none_of_the_providers_pauses_at_once_and_longer_each_time() -> None:
    wrong = Result("retry", "http_404", 404, stop="check the address")
    first = after(WELL, [wrong], 1, RULES)
    assert (first.waits, first.why) == (60, "check the address")
    assert after(first._replace(waits=0.0), [wrong], 1, RULES).waits == 120


def test_a_longer_pause_stays() -> None:
    forever = WELL._replace(waits=FOREVER, why="complaints")
    assert after(forever, [LOST], 4, RULES)[1:3] == (FOREVER, "complaints")


def test_pauses_can_be_none() -> None:
    short = ProviderRules(pause=0, longest_pause=0, pause_after_unknown=0)
    standing = WELL
    for _ in range(3000):
        standing = after(standing, [LOST], 1, short)
    assert (standing.waits, standing.size) == (0, 1)


@pytest.mark.parametrize(
    ("complaints", "messages", "paused"),
    [(3, 1000, False), (4, 1000, False), (5, 1000, True), (9, 999, False), (300, 100_000, False), (301, 100_000, True)],
)
def test_complaints_over_three_in_a_thousand_pause_it_unless_they_are_few(
    complaints: int, messages: int, paused: bool
) -> None:
    assert complained_of(complaints, messages, RULES) is paused
