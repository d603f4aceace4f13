"""The page where a customer chooses channels and purposes. Guard: the message's preferences token.

Only a box that the customer changed appends a consent row. "Stop everything" is the objection of GDPR Art. 21: it
withdraws every box and suppresses the person on all channels. The objection ends when the person, on this page, checks
a box of messages again: the page says so beside the button.

The box of profiling is no channel's: it is checked while a yes holds on some channel and no word on any, of any of the
person's ids, is a no (as `consents.agreed` has it). Who checks it takes back each no; who clears it says no on all.

Where the customer's address of now is suppressed, no mail leaves whatever is checked, and the page says so with what to
do about it. A complaint was a wish, so who checks the e-mail box again takes it back, and the suppression ends. A
bounce is a fact about the address: it stays, and so does everything else (`controltower suppressions` lifts it). The
address comes from the lake; while that can't be read, the page says nothing of it and ends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from urllib.parse import parse_qs

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from controltower import clock
from controltower.ledger import consents, recipients, suppressions
from controltower.ledger.database import begin, reading
from controltower.ledger.recipients import Recipient
from controltower.settings import Settings
from controltower.web.public import bodies, unsubscribe
from controltower.web.public.page import RETRY, Reader, page, reader_of
from controltower.web.public.tokens import message_of

Box = tuple[str, str]  # channel, purpose
Said = Mapping[tuple[str, str, str], consents.Standing]  # by customer, channel and purpose

BOXES: Final[tuple[Box, ...]] = (("email", "marketing"), ("push", "marketing"), ("push", "night_marketing"))
_IN_APP: Final = ("in_app", "marketing")  # on the page of those only who ever said yes or no to it
_PROFILING: Final = ("you", consents.PROFILING)
_WITHDRAWN_ON: Final = frozenset(["email", "push"])  # profiling, besides the channels on which a word was said
SOURCE: Final = "preference_page"
OBJECTION: Final = "objection"
COMPLAINT: Final = "complained"
_MAIL: Final = ("email", "marketing")
_BOUNCES: Final = {"bounced", "invalid"}
_NIGHT: Final = ("push", "night_marketing")  # means nothing without the channel's marketing


@dataclass(frozen=True)
class Form:
    """What was posted: the button, the boxes checked, and those that the page had shown checked."""

    action: str
    checked: frozenset[Box]
    shown: frozenset[Box]


@dataclass(frozen=True)
class Change:
    """What a post changed: boxes from no to yes and back, an objection that began or ended, a complaint taken back."""

    moment: datetime
    granted: tuple[Box, ...] = ()
    withdrawn: tuple[Box, ...] = ()
    objected: bool = False
    objection_ended: bool = False
    complaint_ended: bool = False

    @property
    def anything(self) -> bool:  # a complaint ends only where a box was granted
        return bool(self.granted or self.withdrawn or self.objected or self.objection_ended)


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()

    @routes.get("/p{token}")
    def choices(token: str, request: Request) -> Response:
        message_id = message_of(settings, "preferences", token)
        recipient = addressee(message_id)
        reader = reader_of(settings, recipient, request)
        now = clock.now(settings)
        with reading(settings) as ledger:
            boxes = offered(ledger, recipient, now)
            held, objected = holding(ledger, recipient, now), objection(ledger, recipient, now)
            closed = closed_for(ledger, hashed(reader), now)
        return show(request, reader, boxes, held, objected, closed, None)

    @routes.post("/p{token}")
    async def save(token: str, request: Request) -> Response:
        message_id = message_of(settings, "preferences", token)
        form = read_form(await bodies.read(request, bodies.LARGEST_FORM))
        return await run_in_threadpool(apply, message_id, request, form)

    def apply(message_id: str, request: Request, form: Form) -> Response:
        recipient = addressee(message_id)
        reader = reader_of(settings, recipient, request)
        if reader.shop is None and form.action == "save" and form.checked - form.shown:
            raise HTTPException(503, headers=RETRY)  # whom the consent is for could not be said
        now = clock.now(settings)
        with begin(settings) as ledger:
            recipient = recipients.find(ledger, message_id, lock=True) or recipient
            boxes = offered(ledger, recipient, now)
            if not form.checked | form.shown <= set(boxes):
                raise HTTPException(400)
            before, objected = holding(ledger, recipient, now), objection(ledger, recipient, now)
            text = text_version(reader, boxes)
            change = (
                object_to_all(ledger, recipient, now, boxes, before, text, already=objected is not None)
                if form.action == "stop"
                else choose(ledger, recipient, now, boxes, before, form, text, objected is not None)
            )
            if _MAIL in change.granted and (address := hashed(reader)):
                ended = suppressions.end(ledger, "address", [address], COMPLAINT, now, SOURCE)
                change = replace(change, complaint_ended=ended > 0)
            closed = closed_for(ledger, hashed(reader), now)
            if (recipient.channel, unsubscribe.PURPOSE) in change.withdrawn:
                unsubscribe.note(ledger, message_id, now)
        held = (before | set(change.granted)) - set(change.withdrawn)
        if change.objected or change.objection_ended:
            objected = now if change.objected else None
        return show(request, reader, boxes, held, objected, closed, change)

    def addressee(message_id: str) -> Recipient:
        with reading(settings) as ledger:
            recipient = recipients.find(ledger, message_id)
        if recipient is None:
            raise HTTPException(404, "unknown_message")
        return recipient

    def hashed(reader: Reader) -> str | None:
        return suppressions.address_hash(settings.signing_key(), reader.email) if reader.email else None

    def show(
        request: Request, reader: Reader, boxes: Collection[Box], held: Collection[Box], objected: datetime | None,
        closed: str | None, change: Change | None,
    ) -> Response:  # fmt: skip
        return page(
            request, reader, "preferences.html",
            boxes=boxes, mail=_MAIL, held=held, objected=objected, closed=closed, change=change,
        )  # fmt: skip

    return routes


def offered(ledger: sa.Connection, recipient: Recipient, now: datetime) -> tuple[Box, ...]:
    """The boxes of this person's page."""
    said = consents.standing(ledger, recipient.customers, now)
    return (*BOXES, *[_IN_APP] * any((c, *_IN_APP) in said for c in recipient.customers), _PROFILING)


def holding(ledger: sa.Connection, recipient: Recipient, now: datetime) -> set[Box]:
    """The boxes for which anybody of this person's customer ids has a consent that holds."""
    said = consents.standing(ledger, recipient.customers, now)
    boxes = (*BOXES, _IN_APP)
    found = {box for box in boxes for c in recipient.customers if (word := said.get((c, *box))) and word.holds}
    profiling = _of_profiling(said).values()
    agrees = any(word.holds for word in profiling) and all(word.granted for word in profiling)
    return found | {_PROFILING} if agrees else found


def _of_profiling(said: Said) -> dict[tuple[str, str], consents.Standing]:
    """By customer and channel."""
    return {
        (customer, channel): word
        for (customer, channel, purpose), word in said.items()
        if purpose == consents.PROFILING
    }


def objection(ledger: sa.Connection, recipient: Recipient, now: datetime) -> datetime | None:
    return suppressions.since(ledger, "customer", recipient.customers, OBJECTION, now)


def closed_for(ledger: sa.Connection, address: str | None, now: datetime) -> str | None:
    """Why no mail leaves to an address (its hash): `bounced`, `complained`, `other`; None: nothing is in the way."""
    found = suppressions.of(ledger, {"address": [address]}, now) if address else []
    reasons = {s.reason for s in found if s.channel in (None, "email") and s.purpose in (None, "marketing")}
    if not reasons:
        return None
    if reasons & _BOUNCES:
        return "bounced"
    return COMPLAINT if reasons == {COMPLAINT} else "other"


def choose(
    ledger: sa.Connection, recipient: Recipient, now: datetime, boxes: Collection[Box], before: Collection[Box],
    form: Form, text: str, objected: bool,
) -> Change:  # fmt: skip
    """Do what the customer changed on the page; what changed elsewhere since it was shown stays as it is now."""
    off = set(form.shown - form.checked)
    on = form.checked - form.shown
    if ("push", "marketing") not in form.checked and _NIGHT in form.checked | form.shown:
        on, off = on - {_NIGHT}, off | {_NIGHT}
    granted = tuple(b for b in boxes if b in on and b not in before)
    withdrawn = tuple(b for b in boxes if b in off and b in before)
    for box in granted:
        _grant(ledger, recipient, box, now, text)
    for box in withdrawn:
        _withdraw(ledger, recipient, box, now, text)
    ended = bool(objected and set(granted) - {_PROFILING})  # who may be guessed about isn't written to
    if ended:
        suppressions.end(ledger, "customer", recipient.customers, OBJECTION, now, SOURCE)
    return Change(now, granted, withdrawn, objection_ended=ended)


def object_to_all(
    ledger: sa.Connection, recipient: Recipient, now: datetime, boxes: Collection[Box], before: Collection[Box],
    text: str, already: bool,
) -> Change:  # fmt: skip
    """Withdraw every box and suppress the person; again, it changes nothing."""
    for box in boxes:
        _withdraw(ledger, recipient, box, now, text)
    if not already:
        for customer in recipient.customers:
            suppressions.add(ledger, "customer", customer, reason=OBJECTION, source=SOURCE, now=now)
    return Change(now, withdrawn=tuple(b for b in boxes if b in before), objected=not already)


def _grant(ledger: sa.Connection, recipient: Recipient, box: Box, now: datetime, text: str) -> None:
    words = {(recipient.customer_id, recipient.channel if box == _PROFILING else box[0])}
    if box == _PROFILING:
        said = _of_profiling(consents.standing(ledger, recipient.customers, now))
        words |= {who for who, word in said.items() if not word.granted}
    for customer, channel in sorted(words):
        consents.grant(
            ledger, customer, channel, box[1], now, source=SOURCE, proof=recipient.message_id, text_version=text
        )


def _withdraw(ledger: sa.Connection, recipient: Recipient, box: Box, now: datetime, text: str) -> None:
    channels = {box[0]}
    if box == _PROFILING:
        said = _of_profiling(consents.standing(ledger, recipient.customers, now))
        channels = {*_WITHDRAWN_ON, *(channel for _, channel in said)}
    for channel in sorted(channels):
        consents.withdraw(
            ledger, recipient.customers, channel, box[1], now, source=SOURCE, proof=recipient.message_id,
            text_version=text,
        )  # fmt: skip


def read_form(body: bytes) -> Form:
    """The posted form; HTTPException 400 for anything that this page doesn't send."""
    try:
        fields = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=40)
    except ValueError:
        raise HTTPException(400) from None

    def boxes(name: str) -> frozenset[Box]:
        return frozenset(tuple(value.split(".", 1)) for value in fields.get(name, ()))  # type: ignore[misc]

    form = Form(fields.get("action", [""])[-1], boxes("box"), boxes("shown"))
    if form.action not in ("save", "stop") or not (form.checked | form.shown) <= {*BOXES, _IN_APP, _PROFILING}:
        raise HTTPException(400)
    return form


def text_version(reader: Reader, boxes: Collection[Box]) -> str:
    """Names the very words that the customer agreed to or refused: language and digest."""
    words = "\n".join(reader.t(f"what.{channel}.{purpose}") for channel, purpose in boxes)
    return f"{SOURCE}.{reader.language}.{hashlib.sha256(words.encode()).hexdigest()[:8]}"
