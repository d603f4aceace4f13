"""Test sends: a campaign's messages to the shop's own people, before any customer gets one.

What is sent is made and sent as a customer's message is, its subject or title marked. It is no message: it has no
decision, counts for no cap, no figure and no variant's share, and consumes nothing. Its id, which its links and the
provider's events carry, shows that it is a test (content/links.py), so that whatever comes back of it is left out, and
its links change no customer's consent.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.campaigns.specs import Spec, Variant, find_spec
from controltower.errors import BadSettings, NoData, ProviderDown
from controltower.jobs.control import COMMAND_LINE
from controltower.shop import Shop

if TYPE_CHECKING:
    from controltower.campaigns.composing import CatalogueItem, Composer
    from controltower.content.message import Context, Email, Push
    from controltower.data.lake import Reading
    from controltower.delivery.gate import Gate
    from controltower.delivery.providers.base import Provider, Result
    from controltower.ledger.providers import Standing
    from controltower.profiles.contacts import Contact

log = logging.getLogger(__name__)

MARK = "[TEST] "  # where a label of the law would stand: a test is no advert
MOST = 20  # addresses at once
_WAIT = 60.0  # seconds to the next try where the provider gives no time
_NAME = "Kim"  # of the made-up customer
_WORDS = {"email": "subject", "push": "push_title"}  # which words of a variant a channel needs


@dataclass(frozen=True)
class _Test:
    """One test send, composed: `to` is the position of its address in the list it came from, from 1."""

    test_id: str
    channel: str
    variant: str
    language: str
    to: int
    address: str
    content: Email | Push


_Ended = tuple[_Test, str, str | None]  # a test, its state, the reason


@dataclass(frozen=True)
class _Rendered:
    """As whom the tests are rendered; without a customer id, a made-up customer in each language."""

    customer: Contact | None
    picks: Sequence[Mapping[str, Any]]
    items: Mapping[str, CatalogueItem]


def send_test(
    campaign: str,
    to: Sequence[str] = (),
    variants: Sequence[str] = (),
    customer: str | None = None,
    check_only: bool = False,
    asked_by: str = COMMAND_LINE,
) -> dict[str, Any]:
    """Send each variant in each language to the shop's seed list, or to these e-mail addresses instead.

    Rendered as for `customer`, in their language, else as for a made-up one with products that the campaign recommends
    to somebody today. `check_only`: the providers are to check it, without sending. Returns `rendered_as`, how many
    ended in which state, `not_tested` {channel: why}, and `tests`, one by one: channel, variant, language, `to` (which
    address of the list), state, reason; `not_sent` is one whose address is suppressed, `checked` one that passed.
    BadSettings and BadSpec where nothing can be sent. ProviderDown where a provider can't be used, asks to wait, or
    loses an answer: nothing is sent any more, on no channel, and it says what was, what wasn't, and when to go on.
    """
    from controltower.campaigns.composing import Composer
    from controltower.data.lake import Lake

    conf = settings.load()
    spec = find_spec(conf.campaigns, campaign)
    shop = settings.load_shop(conf)
    chosen = _chosen(spec, variants)
    lists, not_tested = _lists(spec, shop, to)
    composer = Composer.of(conf, shop, spec)
    with Lake(conf).read(clock.now(conf)) as lake:
        rendered = _rendered(lake, shop, spec, customer)
    tests = [
        test
        for channel, addresses in lists.items()
        for variant in chosen
        for test in _composed(composer, channel, variant, addresses, rendered)
    ]
    ended: list[_Ended] = []
    try:
        ended.extend(_send(composer, tests, customer, check_only, asked_by))  # keeps what came before an error
    except ProviderDown as e:
        raise ProviderDown(e.what, _so_far(tests, ended)) from None
    finally:
        states = dict(Counter(state for _, state, _ in ended))
        log.info("%s: test sends by %s: %s", spec.name, asked_by, states)
    return {
        "campaign": spec.name,
        "rendered_as": customer or "a made-up customer",
        **states,
        "not_tested": not_tested,
        "tests": [_told(*one) for one in ended],
    }


def _told(test: _Test, state: str, reason: str | None) -> dict[str, Any]:
    return {
        "channel": test.channel, "variant": test.variant, "language": test.language, "to": test.to, "state": state,
        "reason": reason,
    }  # fmt: skip


def _so_far(tests: Sequence[_Test], ended: Sequence[_Ended]) -> str:
    """Which tests ended how, which are still to be sent, and how to send just those."""
    state_of = {test.test_id: state for test, state, _ in ended if state != "retry"}
    if not state_of:
        return "None was sent."
    told: dict[str, dict[str, list[str]]] = {}
    for test in tests:
        some = told.setdefault(state_of.get(test.test_id, "still to send"), {})
        some.setdefault(f"{test.channel} {test.variant} in {test.language} to ", []).append(str(test.to))
    lines = [
        f"{state.replace('_', ' ').capitalize()}: {'; '.join(what + ', '.join(to) for what, to in some.items())}."
        for state, some in told.items()
    ]
    return " ".join([*lines, "Another test sends all of it again, but with --variant and --to."])


def _chosen(spec: Spec, names: Sequence[str]) -> list[Variant]:
    known = {v.name: v for v in spec.variants}
    for name in names:
        if name not in known:
            raise BadSettings(f"{spec.name} has no variant {name!r}.", f"It has {', '.join(known)}.")
    return [known[n] for n in dict.fromkeys(names)] or list(spec.variants)


def _lists(spec: Spec, shop: Shop, to: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The addresses by channel, and why the campaign's other channels aren't tested."""
    seeds = {"email": list(to or shop.seed_list.email), "push": [] if to else list(shop.seed_list.push)}
    if len(seeds["email"]) > MOST:
        raise BadSettings(f"{len(seeds['email'])} addresses are too many for a test.", f"Name {MOST} at most.")
    lists: dict[str, list[str]] = {c: list(dict.fromkeys(seeds[c])) for c in spec.channels if seeds.get(c)}
    why = {"email": "seed_list names no address", "push": "seed_list names no device", "in_app": "see its preview"}
    if to:
        why["push"] = "--to names addresses only"
    not_tested: dict[str, str] = {c: why[c] for c in spec.channels if c not in lists}
    if not lists:
        told = "; ".join(f"{c}: {w}" for c, w in not_tested.items())
        raise BadSettings(
            f"{spec.name} can be tested by nobody ({told}).",
            "Fill seed_list in shop.yaml (email: [addresses], push: [tokens]), or name addresses with --to.",
        )
    return lists, not_tested


def _rendered(lake: Reading, shop: Shop, spec: Spec, customer: str | None) -> _Rendered:
    from controltower.campaigns.composing import catalogue
    from controltower.profiles.contacts import contact_of

    contact = contact_of(lake, shop, customer) if customer else None
    if customer and contact is None:
        raise BadSettings(f"There is no customer {customer!r} as of now.", "Look in the shop's own data.")
    picks = _picks(lake, spec, customer)
    return _Rendered(contact, picks, catalogue(lake, sorted({pick["product_id"] for pick in picks})))


def _picks(lake: Reading, spec: Spec, customer: str | None) -> list[dict[str, Any]]:
    """The campaign's products for a customer, as decisions name them; without one, for somebody with a full list."""
    try:
        rows = lake.derived("recommendations")
    except NoData:  # a shop that hasn't been scored yet
        return []
    rows = rows.filter(
        rows.customer_id.notnull(), rows.placement == spec.recommend.placement, rows["rank"] <= spec.recommend.products
    )
    if customer is None:
        longest = lake.arrow(rows.order_by(rows["rank"].desc(), rows.customer_id).limit(1).select("customer_id"))
        customer = next(iter(longest["customer_id"].to_pylist()), "")
    mine = rows.filter(rows.customer_id == customer).order_by("rank")
    chosen = mine.select("product_id", reason=rows.reason_code, value=rows.reason_value)
    found: list[dict[str, Any]] = lake.arrow(chosen).to_pylist()
    return found


def _composed(
    composer: Composer, channel: str, variant: Variant, addresses: Sequence[str], rendered: _Rendered
) -> Iterator[_Test]:
    from controltower.content import links

    languages = [rendered.customer.locale] if rendered.customer else list(getattr(variant, _WORDS[channel]))
    for language in languages:
        for number, address in enumerate(addresses, 1):
            test_id = links.test_id(composer.key)
            context = _context(composer, rendered, language, test_id)
            if channel == "email":
                mail = composer.email(context, variant.name)
                content: Email | Push = replace(mail, subject=MARK + mail.subject)
            else:
                push = composer.push(context, variant.name)
                content = replace(push, title=MARK + push.title)
            yield _Test(test_id, channel, variant.name, language, number, address, content)


def _context(composer: Composer, rendered: _Rendered, language: str, test_id: str) -> Context:
    from controltower.content.templates import sample_products
    from controltower.profiles.contacts import Contact

    shop = composer.shop
    contact = rendered.customer or Contact("", None, language, shop.country, shop.zone, {"first_name": _NAME})
    context = composer.context(contact, rendered.picks, rendered.items, test_id)
    if context.products or rendered.customer:
        return context
    made_up = sample_products(composer.spec.recommend.products, shop, composer.template.language(context)[0], True)
    return context._replace(products=made_up)


def _send(
    composer: Composer, tests: Sequence[_Test], customer: str | None, check_only: bool, asked_by: str
) -> Iterator[_Ended]:
    """Send what may be sent. ProviderDown as soon as a provider is paused or can't be used: the rest isn't tried."""
    from controltower.delivery import circuit
    from controltower.delivery.gate import Gate
    from controltower.ledger import suppressions
    from controltower.ledger.database import reading

    conf = composer.settings
    hashes = {t.address: suppressions.address_hash(composer.key, t.address) for t in tests}
    gate = Gate(conf, composer.shop)
    with reading(conf) as ledger:
        gate.look(ledger)
        held = {
            channel: suppressions.held(
                ledger, "address", channel, composer.spec.purpose, clock.now(conf), hashes.values()
            )
            for channel in {t.channel for t in tests}
        }
    with ExitStack() as opened:
        channels = dict.fromkeys(t.channel for t in tests)
        for provider in [opened.enter_context(closing(_provider(composer, c, check_only))) for c in channels]:
            if gate.standing(provider.name).refused:
                gate.reopen(provider, clock.now(conf))
            if stop := provider.trouble():
                raise ProviderDown(stop)
            for test in (t for t in tests if t.channel == provider.channel):
                if hashes[test.address] in held[test.channel]:
                    yield test, "not_sent", "suppressed"
                    continue
                if gate.standing(provider.name).waits:
                    raise ProviderDown(f"{gate.told(provider.name).rstrip('.')}.")
                known = {"customer_id": customer, "address_hash": hashes[test.address], "asked_by": asked_by}
                result = _call(composer, gate, provider, test, check_only, known)
                yield test, "checked" if check_only and result.state == "sent" else result.state, result.reason
                if not circuit.works(result):
                    raise ProviderDown(_why(result, gate.standing(provider.name)))


def _provider(composer: Composer, channel: str, check_only: bool) -> Provider:
    """The way out of a channel; BadSettings where no test may leave by it."""
    from controltower.delivery.policy import unfit_to_send
    from controltower.delivery.providers.registry import provider_of

    provider = provider_of(composer.settings, channel)
    if unfit := unfit_to_send(composer.settings, composer.shop, provider):
        provider.close()
        raise BadSettings(unfit, "`controltower doctor` tells all that is amiss.")
    if check_only and not provider.checks:
        provider.close()
        raise BadSettings(f"{provider.name} can't check a message without sending it.", "Leave --sandbox-mode.")
    return provider


def _call(
    composer: Composer, gate: Gate, provider: Provider, test: _Test, check_only: bool, known: Mapping[str, Any]
) -> Result:
    """Make one call, written down before and after; what it says of the provider's state, dispatch is to know too."""
    from controltower.delivery import circuit
    from controltower.delivery.providers.base import Envelope, Outgoing
    from controltower.ledger import test_sends
    from controltower.ledger.database import begin

    conf, spec = composer.settings, composer.spec
    expires_in = timedelta(hours=spec.window.expires_hours)
    envelope = Envelope(composer.shop, spec.name, test.variant, expires_in, test=True, check_only=check_only)
    (parcel,) = provider.pack([Outgoing(0, test.test_id, test.address, test.content)], envelope, 1)
    row = {
        "test_id": test.test_id, "campaign": spec.name, "spec_hash": spec.hash,
        "content_hash": composer.template.content_hash, "channel": test.channel, "variant": test.variant,
        "language": test.language, "provider": provider.name, "check_only": check_only,
    }  # fmt: skip
    with begin(conf) as ledger:
        test_sends.open_call(ledger, row | dict(known), clock.now(conf))
    result = parcel.refused or provider.post(parcel)
    ended = {
        "state": result.state, "reason": result.reason, "http_status": result.http_status,
        "provider_message_id": result.provider_message_id,
    }  # fmt: skip
    with begin(conf) as ledger:
        test_sends.close_call(ledger, test.test_id, ended, clock.now(conf))
        if result.retry_in or not circuit.works(result):  # one good call is too little to end what others found
            gate.note(ledger, provider, [result], 1)
    return result


def _why(result: Result, standing: Standing) -> str:
    """Why a provider took no test, and when it may be tried again."""
    when = "" if standing.waits == math.inf else f" Try again in {standing.waits or _WAIT:.0f} s."
    return (result.stop or f"{standing.name}: {result.reason}.") + when
