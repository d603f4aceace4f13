"""`controltower suppressions`: listing and lifting, by customer or by address, without ever showing an address."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, timedelta

import pytest
import sqlalchemy as sa
from controltower import cli, clock
from controltower.ledger import persons, suppressions, tables
from controltower.ledger.database import begin, reading
from controltower.settings import Settings
from delivery.conftest import NOW, write_shop

ADDRESS = "c0@customers.example"
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def shop(ledger_settings: Settings) -> Settings:
    """c0's address bounced, its push token is dead, c1 objected, c2's address was reported."""
    conf = ledger_settings
    write_shop(conf)
    clock.set_clock(conf, NOW, speed=0)

    def add(kind: str, value: str, reason: str, channel: str | None, days: int) -> None:
        hashed = suppressions.address_hash(conf.signing_key(), value) if kind == "address" else value
        with begin(conf) as ledger:
            suppressions.add(ledger, kind, hashed, reason=reason, channel=channel, source="test",
                             now=NOW - timedelta(days=days))  # fmt: skip

    add("address", ADDRESS, "bounced", "email", 3)
    add("address", "token-c0", "dead_token", "push", 2)
    add("customer", "c1", "objection", None, 1)
    add("address", "c2@customers.example", "complained", "email", 1)
    return conf


@pytest.fixture
def command(
    shop: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Command:
    """Call the command line; gives its exit code and all that it wrote, logs too."""
    caplog.set_level(logging.DEBUG)

    def call(*arguments: str, given: str = "") -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["controltower", "suppressions", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        code = 0
        try:
            cli.main()
        except SystemExit as e:
            code = int(e.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err + caplog.text

    return call


def reasons(said: str) -> list[str]:
    return [line.split("reason ")[1].split(",")[0] for line in said.splitlines() if line.startswith("  - ")]


def test_counts_of_all(command: Command) -> None:
    code, said = command("list")
    assert code == 0 and sorted(reasons(said)) == ["bounced", "complained", "dead_token", "objection"]
    assert "kind customer, channel all, reason objection, number 1" in said


@pytest.mark.parametrize(
    ("whose", "given", "expected"),
    [(["--customer", "c0"], "", ["bounced", "dead_token"]), (["--customer", "c1"], "", ["objection"]),
     (["--customer", "c3"], "", []), (["--address"], " C0@Customers.example\n", ["bounced"]),
     (["--address"], "token-c0", ["dead_token"])],
)  # fmt: skip
def test_what_is_known_of_one(command: Command, whose: Sequence[str], given: str, expected: list[str]) -> None:
    code, said = command("list", *whose, given=given)
    assert code == 0 and reasons(said) == expected
    assert "@" not in said and "token-c0" not in said


def test_what_is_known_of_a_merged_customer_is_known_of_all_its_ids(command: Command, shop: Settings) -> None:
    with begin(shop) as ledger:
        persons.follow(ledger, {"c1": "c3"}, NOW)
    assert reasons(command("list", "--customer", "c3")[1]) == ["objection"]


@pytest.mark.parametrize("whose", [(["--customer", "c0"], ""), (["--address"], ADDRESS)])
def test_a_lifted_row_stays_with_its_end(command: Command, shop: Settings, whose: tuple[Sequence[str], str]) -> None:
    arguments, given = whose
    code, said = command("lift", "--reason", "bounced", *arguments, given=given)
    assert code == 0 and reasons(said) == ["bounced"] and "source test, since 2026-06-12" in said
    assert "SendGrid keeps lists of its own" in said and "@" not in said
    s = tables.suppressions.c
    with reading(shop) as ledger:
        rows = ledger.execute(sa.select(s.reason, s.until).order_by(s.suppression_id)).all()
    assert rows == [("bounced", NOW), ("dead_token", None), ("objection", None), ("complained", None)]

    code, said = command("lift", "--reason", "bounced", *arguments, given=given)
    assert code == 1 and "Nothing is suppressed for that reason" in said
    clock.set_clock(shop, NOW + timedelta(hours=1), speed=0)
    with begin(shop) as ledger:  # it bounces again
        value = suppressions.address_hash(shop.signing_key(), ADDRESS)
        keys = {"channel": "email", "reason": "bounced", "source": "test", "now": NOW + timedelta(hours=1)}
        assert suppressions.add(ledger, "address", value, **keys)  # type: ignore[arg-type]
    assert reasons(command("list", "--address", given=ADDRESS)[1])[-1] == "bounced"


@pytest.mark.parametrize(("more", "by"), [([], "command line"), (["--by", "Ann"], "Ann")])
def test_who_lifted_it_and_when_is_kept_and_shown(command: Command, more: Sequence[str], by: str) -> None:
    assert "lifted: none" in command("list", "--customer", "c0")[1]
    code, _ = command("lift", "--reason", "bounced", "--customer", "c0", *more)
    assert code == 0
    for whose, given in ((["--customer", "c0"], ""), (["--address"], ADDRESS)):
        code, said = command("list", *whose, given=given)
        held, _, lifted = said.partition("lifted:\n")
        assert code == 0 and "bounced" not in reasons(held) and reasons(lifted) == ["bounced"]
        assert f"since 2026-06-12T03:00:00+00:00, until {NOW.astimezone(UTC).isoformat()}, lifted_by {by}\n" in lifted


@pytest.mark.parametrize(
    ("arguments", "given", "error"),
    [(["--reason", "objection", "--customer", "c1"], "", "takes it back on their preference page"),
     (["--reason", "bounced", "--customer", "nobody"], "", "no such customer"),
     (["--reason", "bounced"], ADDRESS, "either --customer or --address"),
     (["--reason", "bounced", "--customer", "c0", "--address"], ADDRESS, "either --customer or --address"),
     (["--reason", "bounced", "--address"], " \n", "no address on standard input")],
)  # fmt: skip
def test_what_cannot_be_lifted(
    command: Command, shop: Settings, arguments: Sequence[str], given: str, error: str
) -> None:
    code, said = command("lift", *arguments, given=given)
    assert code == 1 and error in said and "@" not in said
    with reading(shop) as ledger:
        assert sum(n for *_, n in suppressions.counts(ledger, clock.now(shop))) == 4
