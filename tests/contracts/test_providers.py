"""What every provider does, each against its real counterpart (tests/support/counterparts.py), one call at a time.

The providers come from the registry: one without a counterpart fails, and so does a file that isn't registered. The one
of docs/providers.md is held to the same.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import fastapi
import pytest
from controltower import settings
from controltower.content.message import Email, Layout, Push, SplitEmail
from controltower.delivery import providers
from controltower.delivery.providers import registry
from controltower.delivery.providers.base import Envelope, Outgoing, Provider, Result
from controltower.errors import BadSettings
from controltower.sandbox import faults
from controltower.sandbox.store import Fault
from controltower.settings import INCLUDE, parse_shop
from pydantic import SecretStr
from starlette.responses import JSONResponse
from support import counterparts
from support.counterparts import COUNTERPARTS, EMAILS, FAULTS, WAIT, Counterpart, Taken
from test_guides import NAMED, ROOT, blocks

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # on loopback

SHOP = parse_shop(INCLUDE / "shops" / "simulated.yaml")
GUIDE = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
REGISTERED = [(channel, name) for channel, names in registry.CHANNELS.items() for name in names]
HEADERS = {
    "List-Unsubscribe": "<https://haru.example/uTOKEN>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"
}  # fmt: skip
HOSTILE = "Sale\r\nBcc: evil@elsewhere.example\r\n\r\n<script>"


@dataclass
class Bench:
    """A provider as dispatch uses it, and what it talks to."""

    channel: str
    provider: Provider
    counterpart: Counterpart
    other: Callable[[dict[str, str]], Provider]  # the same provider with settings of its own

    def outgoing(self, to: Sequence[str], title: str = "Title", body: str = "body") -> list[Outgoing]:
        return [Outgoing(n, id_of(n), a, content(self.channel, n, title, body)) for n, a in enumerate(to)]

    def send(
        self, outgoing: Sequence[Outgoing], most: int = 1000, by: Provider | None = None, **more: bool
    ) -> list[Result]:
        """Each message's result, in their order; each is in exactly one call."""
        provider = by or self.provider
        if stop := provider.trouble():
            return [Result("retry", stop=stop)] * len(outgoing)
        envelope = Envelope(SHOP, "spring", "a", timedelta(days=1), **more)
        found: dict[int, Result] = {}
        for parcel in provider.pack(outgoing, envelope, most):
            assert parcel.members and len(parcel.members) <= most
            assert not set(parcel.members) & found.keys()
            result = parcel.refused or provider.post(parcel)
            found |= dict.fromkeys(parcel.members, result)
        assert sorted(found) == [o.seq for o in outgoing]
        return [found[o.seq] for o in outgoing]

    def one(self, by: Provider | None = None) -> Result:
        (result,) = self.send(self.outgoing(self.counterpart.addresses[:1]), by=by)
        return result

    def taken(self) -> list[Taken]:
        if "taken" in self.counterpart.cannot:
            pytest.skip(self.counterpart.cannot["taken"])
        return self.counterpart.taken()

    def meet(self, fault: str) -> None:
        if fault in self.counterpart.cannot:
            pytest.skip(self.counterpart.cannot[fault])
        self.counterpart.meet(fault)


def id_of(n: int) -> str:
    return f"{n + 1:032x}"


def content(channel: str, n: int, title: str, body: str) -> Email | Push:
    if channel == "email":
        return Email(title, f"<p>{body}</p>", body, dict(HEADERS))
    return Push(title, body, "https://haru.example/p1", None, {"message_id": id_of(n)})


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="session")
def guide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, type[Counterpart]]:
    """docs/providers.md: the folder with its provider, its lines of settings, its counterpart."""
    found = {NAMED.search(above)["path"]: text for above, _, text in blocks(GUIDE) if NAMED.search(above)}  # type: ignore[index]
    folder = tmp_path_factory.mktemp("providers")
    provider = f"{Path(providers.__path__[0]).relative_to(INCLUDE.parent)}/postmark.py"
    (folder / "postmark.py").write_text(found[provider], encoding="utf-8")
    given = {
        **vars(counterparts),
        **vars(fastapi),
        "JSONResponse": JSONResponse,
        "Fault": Fault,
        "faults": faults,
        "uuid": uuid,
    }
    exec(compile(found["tests/support/counterparts.py"], "counterparts.py", "exec", dont_inherit=True), given)
    return folder, found["include/controltower/settings.py"], given["PostmarkServer"]


def follow(guide: tuple[Path, str, type[Counterpart]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what the guide says."""
    folder, lines, counterpart = guide
    given = {"Settings": settings.Settings, "SecretStr": SecretStr, "__name__": __name__}
    exec(f"class More(Settings):\n{lines}", given)
    monkeypatch.setattr(settings, "Settings", given["More"])
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(folder)])
    monkeypatch.setitem(registry.CHANNELS, "email", (*registry.CHANNELS["email"], "postmark"))
    monkeypatch.setitem(COUNTERPARTS, "postmark", counterpart)


@pytest.fixture(params=[*REGISTERED, ("email", "postmark")], ids=[*(name for _, name in REGISTERED), "guide"])
def bench(
    request: pytest.FixtureRequest, home: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    channel, name = request.param
    if name == "postmark":
        follow(request.getfixturevalue("guide"), monkeypatch)
    assert name in COUNTERPARTS, f"write a counterpart of {name} in tests/support/counterparts.py"
    made: list[Provider] = []

    def provider_with(environment: dict[str, str]) -> Provider:
        with monkeypatch.context() as given:
            given.setenv("CONTROLTOWER_EMAIL_PROVIDER", name if channel == "email" else "sendgrid")
            for variable, value in environment.items():
                given.setenv(variable, value)
            made.append(registry.provider_of(settings.load(), channel))
        return made[-1]

    with COUNTERPARTS[name](tmp_path, keys) as counterpart:
        for module in counterpart.hasten:
            monkeypatch.setattr(module, "ANSWER", 1.0)
        yield Bench(channel, provider_with(counterpart.environment), counterpart, provider_with)
        for provider in made:
            provider.close()


def test_every_provider_is_registered_under_its_own_name() -> None:
    """`registry.py`: a file that holds a provider and isn't named there is never used."""
    files = {
        p.stem for p in Path(providers.__path__[0]).glob("*.py") if "\nPROVIDER = " in p.read_text(encoding="utf-8")
    }
    assert files == {name for _, name in REGISTERED} == set(COUNTERPARTS)


def test_it_says_what_it_is(bench: Bench) -> None:
    provider = bench.provider
    assert (provider.name, provider.channel) == (bench.counterpart.provider, bench.channel)
    assert 1 <= provider.calls_at_once <= 1000
    assert {type(provider.splits), type(provider.checks), type(provider.local)} == {bool}
    assert provider.trouble() is None


def test_it_takes_a_message(bench: Bench) -> None:
    to = bench.counterpart.addresses[0]
    (result,) = bench.send(bench.outgoing([to], "제목 👩‍👩‍👧", "\u202bمرحبا\u202c & more"))
    assert (result.state, result.reason, result.stop) == ("sent", None, None)
    (taken,) = bench.taken()
    assert taken.to == (to,)
    assert taken.message_id == id_of(0)
    assert taken.title == "제목 👩‍👩‍👧"
    assert "مرحبا" in taken.whole and bench.counterpart.calls == 1


def test_each_message_of_a_batch_has_one_outcome_and_leaves_once(bench: Bench) -> None:
    to = bench.counterpart.addresses
    results = bench.send(bench.outgoing(to), most=2)
    assert [r.state for r in results] == ["sent"] * len(to)
    taken = bench.taken()
    assert sorted(t.to for t in taken) == sorted((a,) for a in to)
    assert len({t.message_id for t in taken}) == len(to)


def test_mails_in_halves_arrive_whole(bench: Bench) -> None:
    if not bench.provider.splits:
        pytest.skip("it takes whole mails only")
    layout = Layout("-s-", "<p>-b-</p>", "-b-", ("-s-", "-b-"))

    def halves(n: int) -> SplitEmail:
        parts = [b'"-s-":"Hello %d {{ name }}"' % n, b'"-b-":"body %d"' % n]
        return SplitEmail(layout, parts, dict(HEADERS))

    outgoing = [replace(o, content=halves(o.seq)) for o in bench.outgoing(EMAILS)]
    assert {r.state for r in bench.send(outgoing)} == {"sent"}
    assert bench.counterpart.calls == 1
    assert [t.title for t in bench.taken()] == [f"Hello {n} {{{{ name }}}}" for n in range(len(EMAILS))]


def test_a_bad_address_is_refused_alone_with_its_reason(bench: Bench) -> None:
    good, bad = bench.counterpart.addresses, bench.counterpart.bad_addresses
    mixed = [*good[:2], *bad, *good[2:]]
    results = bench.send(bench.outgoing(mixed))
    by_address = dict(zip(mixed, results, strict=True))
    assert {by_address[a].state for a in good} == {"sent"}
    for address in bad:
        result = by_address[address]
        assert (result.state, result.of_address, result.stop) == ("rejected", True, None), address
        assert result.reason and (len(address) < 3 or address not in result.reason)
    assert sorted(t.to for t in bench.taken()) == sorted((a,) for a in good)


def test_no_address_at_all_is_refused_alone(bench: Bench) -> None:
    """A null from a broken source, past every check before."""
    if not bench.counterpart.bad_addresses:
        pytest.skip("any customer id is an address")
    good = bench.counterpart.addresses[0]
    first, second = bench.outgoing([good, good])
    results = bench.send([first, replace(second, to=None)])  # type: ignore[arg-type]
    assert [r.state for r in results] == ["sent", "rejected"]


def test_what_a_text_says_cannot_become_a_header_or_a_recipient(bench: Bench) -> None:
    to = bench.counterpart.addresses[0]
    (result,) = bench.send(bench.outgoing([to], HOSTILE, HOSTILE))
    if result.state == "rejected":
        assert bench.counterpart.taken() == []
        return
    assert result.state == "sent"
    (taken,) = bench.taken()
    assert taken.to == (to,)
    assert not [line for line in taken.whole.partition("\n\n")[0].splitlines() if line.lower().startswith("bcc:")]


@pytest.mark.parametrize(
    "text", ["{{ customer.email }} {% raw %}", "%name% -x1- [[x]]", "a" * 300, "\ud83d", "\0\x1b["]
)
def test_odd_texts_are_sent_or_refused_alone(bench: Bench, text: str) -> None:
    to = bench.counterpart.addresses
    outgoing = bench.outgoing(to[:3])
    outgoing[1] = replace(outgoing[1], content=content(bench.channel, 1, text, text))
    first, odd, last = bench.send(outgoing)
    assert (first.state, last.state) == ("sent", "sent")
    assert odd.state == "sent" or (odd.state == "rejected" and odd.reason)
    found = [t for t in bench.taken() if t.to == (to[1],)]
    assert len(found) == (odd.state == "sent")
    if text.isascii() and text.isprintable() and found:
        assert found[0].title == text


def test_too_much_is_sent_or_refused_alone(bench: Bench) -> None:
    to = bench.counterpart.addresses
    outgoing = bench.outgoing(to[:3])
    outgoing[1] = replace(outgoing[1], content=content(bench.channel, 1, "Title", "x" * 5000))  # a push has 4096 bytes
    assert [r.state for r in bench.send(outgoing)] == ["sent"] * 3


EXPECTED = {"too_many": "retry", "unavailable": "retry", "broken": "unknown", "lost": "unknown", "silent": "unknown"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_one_call_and_nothing_is_asked_twice(bench: Bench, fault: str) -> None:
    """Above all: no hidden retries. What came after the message left says nothing: unknown."""
    bench.meet(fault)
    result = bench.one()
    assert (result.state, result.stop) == (EXPECTED[fault], None)
    assert result.reason
    assert bench.counterpart.calls == 1
    assert len(bench.counterpart.taken()) == (fault in ("lost", "silent"))
    assert bench.one().state == "sent", "the next call must find a sound connection"
    assert bench.counterpart.calls == 2


def test_a_limit_that_says_when_is_heeded(bench: Bench) -> None:
    bench.meet("too_many")
    wait = bench.one().retry_in
    if bench.counterpart.says_when:
        assert wait and WAIT <= wait <= WAIT + 2
    else:
        assert wait is None


def test_where_nothing_listens_nothing_left(bench: Bench) -> None:
    if "nobody" in bench.counterpart.cannot:
        pytest.skip(bench.counterpart.cannot["nobody"])
    result = bench.one(by=bench.other(bench.counterpart.nobody))
    assert (result.state, result.reason) == ("retry", "no_connection:ConnectionRefusedError")
    assert result.stop and "127.0.0.1" in result.stop


def test_wrong_credentials_stop_everything_and_say_what_to_check(bench: Bench) -> None:
    for name, environment in bench.counterpart.wrong.items():
        result = bench.one(by=bench.other(environment))
        assert result.state == "retry", name
        assert result.stop and "Check" in result.stop and "be reached" not in result.stop, name
    if bench.counterpart.wrong:
        assert bench.counterpart.taken() == []


def test_without_credentials_it_cannot_be_made(bench: Bench) -> None:
    if not bench.counterpart.environment:
        pytest.skip("it needs none")
    with pytest.raises(BadSettings) as told:
        bench.other({})
    assert "CONTROLTOWER_" in told.value.remedy


def test_a_check_reaches_nobody(bench: Bench) -> None:
    if not bench.provider.checks:
        pytest.skip("it can't check without sending, and says so")
    results = bench.send(bench.outgoing(bench.counterpart.addresses), check_only=True)
    assert {r.state for r in results} == {"sent"}
    assert bench.counterpart.taken() == [] and bench.counterpart.calls >= 1


def test_threads_share_it(bench: Bench) -> None:
    to = bench.counterpart.addresses
    outgoing = bench.outgoing(to)
    parcels = list(bench.provider.pack(outgoing, Envelope(SHOP, "spring", "a", timedelta(days=1)), 1))
    assert bench.provider.trouble() is None
    with ThreadPoolExecutor(len(parcels)) as pool:
        results = list(pool.map(bench.provider.post, parcels))
    assert {r.state for r in results} == {"sent"}
    assert sorted(t.to for t in bench.taken()) == sorted((a,) for a in to)


def test_nothing_secret_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Neither keys nor addresses, in whatever a call ends."""
    caplog.set_level(logging.DEBUG)
    to, bad = bench.counterpart.addresses[1], [a for a in bench.counterpart.bad_addresses if len(a) > 2]
    outgoing = bench.outgoing([to, *bad])
    told = [repr(bench.provider), repr(outgoing), repr(bench.send(outgoing))]
    told += [repr(p) for p in bench.provider.pack(outgoing, Envelope(SHOP, "spring", "a", timedelta(days=1)), 1)]
    for fault in FAULTS:
        if fault not in bench.counterpart.cannot:
            bench.counterpart.meet(fault)
            told.append(repr(bench.one()))
    for environment in (*bench.counterpart.wrong.values(), bench.counterpart.nobody):
        if environment:
            told.append(repr(bench.one(by=bench.other(environment))))
    said = "\n".join([*told, *(r.getMessage() for r in caplog.records if r.name.startswith("controltower"))])
    assert not [s for s in (*bench.counterpart.secrets, to, *bad) if s in said or repr(s)[1:-1] in said]
