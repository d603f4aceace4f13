"""From what the sandbox caught to what its customers are going to do about it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from controltower.sandbox import rendering, webhook
from controltower.sandbox.acts import Act, Caught
from controltower.simulation import answers, purchases
from controltower.simulation.answers import Delivery, Message, Reaction
from controltower.simulation.truth import Customer, Truth

EVENT, CLICK, LEAVE, ROWS = "event", "click", "leave", "rows"  # kinds of acts
_ADDRESSES = re.compile(r"""<a\b[^>]*?\shref\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_TAKES = timedelta(seconds=2)  # a mailbox of which nothing is known


@dataclass(frozen=True)
class Decided:
    """What follows from one caught message, and its row of the truth where a simulated customer has it."""

    acts: list[Act]
    true: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Content:
    """What a message shows its customer: `links` by product (None: the one of a message without products)."""

    campaign: str
    words: str
    links: dict[str | None, str]
    unsubscribe: str = ""


def decide(truth: Truth | None, public_url: str, caught: Caught, again: bool) -> Decided:
    """All acts about one message. Where it came `again` (sent twice, to a second device), the customer has decided."""
    customer = truth.whose(caught.recipient) if truth else None
    return (_about_mail if caught.channel == "email" else _about_push)(truth, customer, public_url, caught, again)


def _about_mail(truth: Truth | None, customer: Customer | None, public_url: str, caught: Caught,
                again: bool) -> Decided:  # fmt: skip
    mail = rendering.mail_as_received(rendering.parse(caught.request), caught.position)
    content = _Content(
        min(mail.categories, key=len, default=""),  # the campaign; the other is campaign.variant
        mail.subject,
        _product_links(public_url, map(html.unescape, _ADDRESSES.findall(mail.html))),
        _unsubscribe_address(public_url, mail.headers),
    )
    message = _message(caught, content)
    told: dict[str, Any] = {
        "email": caught.recipient.partition(",")[0], "provider_id": caught.provider_id,
        "position": caught.position, "categories": mail.categories, "custom_args": mail.custom_args,
    }  # fmt: skip

    def event(name: str, at: datetime, number: int = 0, **more: Any) -> Act:
        return Act(at, EVENT, webhook.event(name, at, number=number, **told, **more))

    delivery = Delivery("delivered", message.received_at + _TAKES)
    if truth and customer:
        delivery = answers.deliver(truth, caught.recipient, message)
    acts = [event("processed", caught.received_at)]
    for attempt, at in enumerate(delivery.deferred, 1):
        acts.append(event("deferred", at, attempt, response="421 4.7.0 Try again later", attempt=str(attempt)))
    if delivery.state == "delivered":
        acts.append(event("delivered", delivery.at, **webhook.TOOK_IT))
    else:
        refusal = webhook.BAD_ADDRESS if delivery.state == "bounced" else webhook.FULL_MAILBOX
        acts.append(event("bounce", delivery.at, **refusal))
    if truth is None or customer is None or again:
        return Decided(acts)
    name = purchases.short_name(answers.key(customer, message, truth))
    message_id = caught.message_id or name
    if delivery.state != "delivered":
        return Decided(acts, purchases.true_message(message_id, customer, message, delivery, None, name))
    reaction = answers.react(truth, customer, message, delivery.at)
    if reaction.machine_open_at:
        acts.append(event("open", reaction.machine_open_at, 1, **webhook.opening(machine=True)))
    if reaction.seen_at and not reaction.open_hidden:
        acts.append(event("open", reaction.seen_at, 2, **webhook.opening(machine=False)))
    if reaction.left_at and reaction.leaves_by == "complaint":
        acts.append(event("spamreport", reaction.left_at))
    elif reaction.left_at and content.unsubscribe:
        acts.append(Act(reaction.left_at, LEAVE, {"url": content.unsubscribe, "by": reaction.leaves_by}))
    acts += _visits(truth, customer, content, reaction, name, message_id)
    return Decided(acts, purchases.true_message(message_id, customer, message, delivery, reaction, name))


def _about_push(truth: Truth | None, customer: Customer | None, public_url: str, caught: Caught,
                again: bool) -> Decided:  # fmt: skip
    """FCM tells nothing after it took a push: what the shop sees of it are taps, and orders."""
    if truth is None or customer is None or again:
        return Decided([])
    push = rendering.push_as_received(rendering.parse(caught.request))
    links = _product_links(public_url, [push.link])
    content = _Content(push.options.get("Analytics label", ""), push.title, links)
    message = _message(caught, content)
    delivery = Delivery("delivered", message.received_at + _TAKES)
    reaction = answers.react(truth, customer, message, delivery.at)
    name = purchases.short_name(answers.key(customer, message, truth))
    message_id = caught.message_id or name
    acts = _visits(truth, customer, content, reaction, name, message_id)
    return Decided(acts, purchases.true_message(message_id, customer, message, delivery, reaction, name))


def _message(caught: Caught, content: _Content) -> Message:
    arrives = max(caught.received_at, datetime.fromtimestamp(caught.send_at or 0, UTC))
    shown = tuple(product for product in content.links if product)
    return Message(content.campaign, content.words, "email" if caught.channel == "email" else "push", arrives, shown)


def _visits(truth: Truth, customer: Customer, content: _Content, reaction: Reaction, name: str,
            message_id: str) -> list[Act]:  # fmt: skip
    """The links opened, what the shop's site saw of it, and what was bought."""
    acts: list[Act] = []

    def happens(rows: purchases.Rows) -> None:
        if rows:
            acts.append(Act(purchases.known_at(rows), ROWS, purchases.as_json(rows)))

    for number, click in enumerate(reaction.clicks, 1):
        if click.product_id in content.links:
            acts.append(Act(click.at, CLICK, {"url": content.links[click.product_id]}))
            happens(purchases.visit(customer, truth, click, number, name, message_id))
    if reaction.purchase:
        happens(purchases.bought(customer, truth, reaction.purchase, name, message_id))
        if reaction.purchase.cancelled_at:
            happens(purchases.cancelled(customer, truth, reaction.purchase, name))
    return acts


def _product_links(public_url: str, urls: Iterable[str]) -> dict[str | None, str]:
    """Our click links by the product that they name, in the message's order. Others are nobody's to open here."""
    found: dict[str | None, str] = {}
    for url in urls:
        if url.startswith(f"{public_url}/c"):
            product = parse_qs(urlsplit(url).query, separator=";").get("p", [None])[0]
            found.setdefault(product, url)
    return found


def _unsubscribe_address(public_url: str, headers: Mapping[str, str]) -> str:
    """The public app's address in List-Unsubscribe; empty where there is none."""
    given = next((v for name, v in headers.items() if name.lower() == "list-unsubscribe"), "")
    return next((url for url in re.findall("<([^<>]+)>", given) if url.startswith(f"{public_url}/")), "")
