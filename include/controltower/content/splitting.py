"""E-mails in two halves: a layout, which many customers share, and what one customer's mail has in its tags.

A provider that fills in tags itself (SendGrid's substitutions) then takes one body for up to a thousand customers. Put
together, the halves are the same bytes as `Template.email` makes. Which customers share a layout shows when a template
is traced (tracing.py): the questions that it asked, with the answers, are a tree whose leaves are layouts. Where a
template, a customer or a size doesn't allow it, the e-mail is made whole.
"""

from __future__ import annotations

import logging
import re
import secrets
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from threading import Lock
from typing import Any, Final

import jinja2
import orjson
from markupsafe import escape

from controltower.content import tracing
from controltower.content.jinja import compiled
from controltower.content.links import Destinations
from controltower.content.message import Context, Email, Product
from controltower.content.slots import Expression, Slot, Tags, Trace, Unanswered, Unsplittable
from controltower.content.slotted import Seen, Shared, slotted_values
from controltower.content.templates import (
    PREHEADER_LENGTH,
    SUBJECT_LENGTH,
    Template,
    finished_line,
    headers,
    one_liner,
    text_files,
    text_loader,
    tidy,
)

log = logging.getLogger(__name__)

# SendGrid documents 10,000 bytes, lately 50,000; sendgrid-python #548 reports refusals from about 8,000. Its clients'
# documentation tells of 100 substitutions.
MOST_BYTES: Final = 8_000
MOST_TAGS: Final = 100
LAYOUTS = 200  # of one splitter; a layout is some 50 KB. Whoever comes after that gets a whole e-mail
MOST_KEPT = 25_000  # products, each in each place, of which one splitter keeps what it shows: some 1.2 KB

_NEW: Final = object()

Known = dict[Callable[[Seen], Any], Any]


@dataclass(frozen=True, eq=False)
class Layout:
    """What the e-mails of many customers share; each layout equals itself only."""

    subject: str
    html: str
    text: str
    tags: frozenset[str]

    def filled(self, substitutions: Mapping[str, str]) -> tuple[str, str, str]:
        """Subject, HTML and text with everything in its place."""
        subject, html, text = (
            "".join(substitutions[piece] if n % 2 else piece for n, piece in enumerate(pieces))
            for pieces in self._pieces
        )
        return subject, html, text

    @cached_property
    def _pieces(self) -> list[list[str]]:
        """Of each part, its tags and what is between them."""
        tags = re.compile(f"({'|'.join(map(re.escape, self.tags)) or '(?!)'})")
        return [tags.split(part) for part in (self.subject, self.html, self.text)]


@dataclass(frozen=True, slots=True)
class SplitEmail:
    """One customer's e-mail: a layout, and what goes in the place of each of its tags, escaped as the place needs.

    That is kept as JSON, because most of it was made for other customers: `parts` are the members of one object.
    """

    layout: Layout
    parts: Sequence[bytes]
    headers: dict[str, str]

    @property
    def json(self) -> bytes:
        """The `substitutions` as a JSON object."""
        return b"{%s}" % b",".join(self.parts)

    @property
    def substitutions(self) -> dict[str, str]:
        """What goes in the place of each tag."""
        found: dict[str, str] = orjson.loads(self.json)
        return found

    def whole(self) -> Email:
        """The e-mail with everything in its place."""
        return Email(*self.layout.filled(self.substitutions), self.headers)


class Splitter:
    """Splits the e-mails of one template; what it has learned it keeps. Threads may share it."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.layouts = 0  # made, or found impossible
        self.growing = Lock()  # tags and shapes are numbered
        self.tags = Tags(draw_nonce())
        self.kept = Kept()
        self._groups: dict[tuple[Any, ...], Group] = {}

    def group(
        self, context: Context, subject: str, preheader: str = "", destinations: Destinations | None = None
    ) -> Group:
        """Those who are written to like this customer; the arguments are those of `Template.email`."""
        language, t = self.template.language(context)
        shared = Shared(context.shop, language, t, context.advertisement, len(context.products), destinations)
        key = (id(context.shop), t, shared.advertisement, shared.products, destinations, subject, preheader)
        if key not in self._groups:
            self._groups[key] = Group(self, shared, (subject, preheader))
        return self._groups[key]


class Group:
    """Customers with the same language, lines, number of products and label: the tree of their layouts."""

    def __init__(self, splitter: Splitter, shared: Shared, lines: tuple[str, str]) -> None:
        self.splitter = splitter
        self.shared = shared
        self.lines = lines  # the sources of subject and preheader
        self.tags = splitter.tags
        self._root = _Fork(Expression((), lambda _: None))

    def email(self, context: Context) -> SplitEmail | Email:
        """A customer's e-mail, split where that is possible. BadSpec as of `Template.email`."""
        try:
            split = self._split(context)
        except Exception:  # whatever it is, the ordinary way decides
            split = None
        return split or self.splitter.template.email(context, *self.lines, self.shared.destinations)

    def _split(self, context: Context) -> SplitEmail | None:
        seen = Seen(self.shared, context)
        plan: Any = self._root
        known = self.splitter.kept.of(seen)
        while type(plan) is _Fork:
            n, ask = plan.product, plan.ask
            if n is None:
                answer = ask(seen)
            elif (answer := known[n].get(ask, _NEW)) is _NEW:
                answer = known[n][ask] = ask(seen)
            plan = plan.branches.get(answer, _NEW)
        if plan is _NEW:
            with self.splitter.growing:
                plan = self._grow(seen)
        parts = plan.fill(seen, known) if plan else None
        return SplitEmail(plan.layout, parts, headers(context)) if plan and parts is not None else None

    def _grow(self, seen: Seen) -> _Plan | None:
        """Trace a way that nobody went before, and remember where it led."""
        if self.splitter.layouts >= LAYOUTS:
            return None
        trace = Trace(self.tags, seen)
        try:
            plan = self._plan(trace)
        except Unanswered:
            return None
        except Exception as e:  # nothing in it depends on the customer, beyond the answers
            why = str(e) if isinstance(e, Unsplittable) else type(e).__name__
            log.info("e-mails of %s stay whole: %s", self.splitter.template.name, why)
            plan = None
        self.splitter.layouts += 1
        if self.splitter.layouts == LAYOUTS:
            log.info("%s has %d layouts: what needs another one stays whole", self.splitter.template.name, LAYOUTS)
        fork, answer = self._root, None
        for question, next_answer in trace.path:
            fork, answer = fork.branches.setdefault(answer, _Fork(question)), next_answer
        fork.branches[answer] = plan
        return plan

    def _plan(self, trace: Trace) -> _Plan:
        html_part, text_part = _traced(self.splitter.template)
        values = slotted_values(trace, self.shared)
        values["subject"] = self._line(trace, "subject", values, SUBJECT_LENGTH)
        values["preheader"] = self._line(trace, "preheader", values, PREHEADER_LENGTH) if self.lines[1] else ""
        subject = trace.show(values["subject"], escaped=False) if type(values["subject"]) is Slot else values["subject"]
        html = self._filled(trace, html_part, values)
        text = self._filled(trace, text_part, values)
        found = {tag: None for part in (subject, html, text) for tag in self.tags.pattern.findall(part)}
        if len(found) > MOST_TAGS:
            raise Unsplittable(f"more than {MOST_TAGS} tags")
        layout = Layout(subject, html, tidy(text), frozenset(found))
        "".join((subject, html, text)).encode()  # else it can't be sent split
        return _Plan(layout, *self._sorted(found, text), [unused.of for unused in trace.unused.values()])

    def _filled(self, trace: Trace, part: jinja2.Template, values: dict[str, Any]) -> str:
        """A part with tags. That as many are in it as were shown tells that nothing else in it looks like one."""
        before = trace.shown
        text = part.render(values)
        if text.count(self.tags.nonce) != trace.shown - before:
            raise Unsplittable("something in it looks like a tag")
        return text

    def _sorted(self, tags: Iterable[str], text: str) -> tuple[_Filling, list[tuple[int, _Filling]]]:
        """What is each customer's own, and what depends on one product alone."""
        firm = _firm(text, self.tags.pattern)
        kinds: dict[int | None, list[str]] = {}
        for tag in tags:
            kinds.setdefault(_product_of(self.tags.shown[tag][0]), []).append(tag)
        own = _Filling(self.tags, kinds.pop(None, []), text, firm)
        return own, [(n, _Filling(self.tags, some, text, firm)) for n, some in kinds.items() if n is not None]

    def _line(self, trace: Trace, what: str, values: dict[str, Any], most: int) -> Slot | str:
        """The subject or the preheader: one slot as a whole, because it is cut and cleaned as a whole."""
        source = self.lines[what == "preheader"]
        one_liner(what, source)  # BadSpec for one that is wrong for everybody
        filled = self._filled(trace, _traced_line(source), values)
        labelled = self.shared.advertisement and what == "subject"
        finish = partial(finished_line, what, source, most=most, advertisement=labelled)
        tags = self.tags.pattern.findall(filled)
        if not tags:
            return finish(filled)
        texts = self.tags.pattern.split(filled)
        shows = [_shown_by(*self.tags.shown[tag]) for tag in tags]

        def line(seen: Seen) -> str:
            if what not in seen.lines:
                words = [show(seen) + text for show, text in zip(shows, texts[1:], strict=True)]
                seen.lines[what] = finish(texts[0] + "".join(words))
            return seen.lines[what]

        made = Expression((what, source, labelled, *texts, *tags), line, personal=True)
        trace.unused[made.key] = made
        return trace.slot(made)


class _Fork:
    """A question, and where each answer leads: to another, to a plan, or to None where there can't be one."""

    __slots__ = ("ask", "branches", "product")

    def __init__(self, question: Expression) -> None:
        self.ask = question.of
        self.product = _product_of(question)
        self.branches: dict[Any, Any] = {}


class Kept:
    """What depends on a product alone, kept for all customers who are shown it: answers, and what is filled in."""

    def __init__(self) -> None:
        self._kept: dict[str, list[dict[int, tuple[Product, Known]]]] = {}  # by locale and place
        self._many = 0

    def __len__(self) -> int:
        return self._many

    def of(self, seen: Seen) -> list[Known]:
        """What is known of each product of a customer: what a function gave for it."""
        products, found = seen.context.products, []
        if self._many + len(products) > MOST_KEPT:
            self._kept.clear()
            self._many = 0
        places = self._kept.setdefault(seen.locale, [])
        places += [{} for _ in products[len(places) :]]
        for place, product in zip(places, products, strict=False):
            kept = place.get(id(product))  # the product is kept, so that no other gets its id
            if kept is None:
                kept = place[id(product)] = product, {}
                self._many += 1
            found.append(kept[1])
        return found


class _Filling:
    """Tags that are filled in together. First come those of safe values, then what the text part shows."""

    def __init__(self, tags: Tags, some: list[str], text: str, firm: tuple[frozenset[str], frozenset[str]]) -> None:
        def place(tag: str) -> int:
            return 0 if tags.shown[tag][1] is None else 1 if tag in text else 2

        self.tags = sorted(some, key=place)
        self._nonce = tags.nonce
        self._shows = [_shown_by(*tags.shown[tag]) for tag in self.tags]
        self._safe = sum(place(tag) == 0 for tag in some)
        self._in_text = sum(place(tag) <= 1 for tag in some)
        self._ends, self._begins = ([n for n, tag in enumerate(self.tags) if tag in edge] for edge in firm)

    def fill(self, seen: Seen) -> bytes | None:
        """What stands in each place, as the members of a JSON object. None where the tags wouldn't come out right."""
        values = [show(seen) for show in self._shows]
        safe, text = "".join(values[: self._safe]), "".join(values[self._safe : self._in_text])
        everything = f"{safe}{text}{''.join(values[self._in_text :])}"
        if self._nonce in everything or len(escape(safe)) != len(safe):
            return None
        if len(f"{safe}{text}.".splitlines()) > 1:  # the text part is put in order by lines
            return None
        for n in self._ends:
            if not values[n] or values[n][-1].isspace():
                return None
        for n in self._begins:
            if not values[n] or values[n][0].isspace():
                return None
        return orjson.dumps(dict(zip(self.tags, values, strict=True)))[1:-1]


class _Plan:
    """A layout, and how a customer's values are filled in."""

    def __init__(
        self,
        layout: Layout,
        own: _Filling,
        products: list[tuple[int, _Filling]],
        unused: list[Callable[[Seen], Any]],
    ) -> None:
        self.layout = layout
        self._own = own
        self._products = [(n, filling.fill) for n, filling in products]
        self._unused = unused

    def fill(self, seen: Seen, known: list[Known]) -> list[bytes] | None:
        for of in self._unused:  # what fails where the whole e-mail is made must fail here
            of(seen)
        parts = []
        for n, fill in self._products:
            part = known[n].get(fill, _NEW)
            if part is _NEW:
                part = known[n][fill] = fill(seen)
            if part is None:
                return None
            parts.append(part)
        own = self._own.fill(seen)
        if own is None:
            return None
        if own:
            parts.append(own)
        return parts if sum(map(len, parts)) + len(parts) < MOST_BYTES else None


def draw_nonce() -> str:
    """What no text holds by chance: six of 62 characters."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(6))


def _product_of(expression: Expression) -> int | None:
    """The position of the one product that it depends on, if it depends on nothing else."""
    return min(expression.products) if len(expression.products) == 1 and not expression.personal else None


def _shown_by(expression: Expression, escaped: bool | None) -> Callable[[Seen], str]:
    of = expression.of
    return (lambda seen: str(escape(of(seen)))) if escaped else (lambda seen: str(of(seen)))


def _firm(text: str, tag: re.Pattern[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The tags that end a line of the text part, and the one that begins it: blanks there would be taken away."""
    at_end = re.compile(f"({tag.pattern})$")
    ends = (at_end.search(line.rstrip()) for line in text.splitlines())
    begin = tag.match(text.lstrip())
    return frozenset(m[1] for m in ends if m), frozenset([begin[0]] if begin else [])


@lru_cache(maxsize=64)
def _traced(template: Template) -> tuple[jinja2.Template, jinja2.Template]:
    """The HTML and the text part, compiled to take slots. Unsplittable where that can't be."""
    markup = tracing.tracing(autoescape=True)
    tracing.check(markup, template.page)
    files = text_files(template.sources)
    plain = tracing.tracing(autoescape=False, loader=text_loader(files))
    for source in files.values():
        tracing.check(plain, source)
    name = f"{template.name}.txt"
    return compiled(markup, template.page, f"email/{template.name}.mjml"), plain.get_template(name)


@lru_cache(maxsize=512)
def _traced_line(source: str) -> jinja2.Template:
    env = tracing.tracing(autoescape=False)
    tracing.check(env, source)
    return compiled(env, source, source)
