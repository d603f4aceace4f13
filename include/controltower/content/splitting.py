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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from json.encoder import encode_basestring
from threading import Lock
from typing import Any, Final

import jinja2
from markupsafe import escape

from controltower.content import tracing
from controltower.content.jinja import compiled
from controltower.content.links import Destinations
from controltower.content.message import Context, Email
from controltower.content.slots import Expression, Slot, Tags, Trace, Unanswered, Unsplittable
from controltower.content.slotted import PRODUCT, Seen, Shared, slotted_values
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
from controltower.content.values import ShownProduct

log = logging.getLogger(__name__)

# SendGrid documents 10,000 bytes, lately 50,000; sendgrid-python #548 reports refusals from about 8,000. Its clients'
# documentation tells of 100 substitutions.
MOST_BYTES: Final = 8_000
MOST_TAGS: Final = 100
LAYOUTS = 200  # of one splitter; a layout is some 50 KB. Whoever comes after that gets a whole e-mail
FRAGMENTS = 20_000  # of one splitter: what its layouts show of a product, some 1.5 KB each

_NEW: Final = object()


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What the e-mails of many customers share; each layout equals itself only."""

    subject: str
    html: str
    text: str
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class SplitEmail:
    """One customer's e-mail: a layout, and what goes in the place of each of its tags, escaped as the place needs."""

    layout: Layout
    substitutions: dict[str, str]
    headers: dict[str, str]

    def whole(self) -> Email:
        """The e-mail with everything in its place."""
        tags = re.compile("|".join(map(re.escape, self.layout.tags)) or "(?!)")

        def filled(text: str) -> str:
            return tags.sub(lambda m: self.substitutions[m[0]], text)

        layout = self.layout
        return Email(filled(layout.subject), filled(layout.html), filled(layout.text), self.headers)


class Splitter:
    """Splits the e-mails of one template; what it has learned it keeps. Threads may share it."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.layouts = 0  # made, or found impossible
        self.growing = Lock()  # tags and shapes are numbered
        self.tags = Tags(draw_nonce())
        self.fragments: dict[tuple[int, ShownProduct], _Filled | None] = {}
        self.shapes: dict[tuple[Any, ...], int] = {}
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
        self._root = _Fork(lambda _: None)

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
        while type(plan) is _Fork:
            plan = plan.branches.get(plan.ask(seen), _NEW)
        if plan is _NEW:
            with self.splitter.growing:
                plan = self._grow(seen)
        substitutions = plan.fill(seen, self.splitter.fragments) if plan else None
        return SplitEmail(plan.layout, substitutions, headers(context)) if plan and substitutions is not None else None

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
            fork, answer = fork.branches.setdefault(answer, _Fork(question.of)), next_answer
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
        kinds: dict[int, list[str]] = {}
        for tag in tags:
            expression, _ = self.tags.shown[tag]
            products = () if expression.personal else tuple(expression.products)
            kinds.setdefault(products[0] if len(products) == 1 else -1, []).append(tag)

        own = _Filling(self.tags, kinds.pop(-1, []), text, firm)
        return own, [(n, self._shaped(n, _Filling(self.tags, some, text, firm))) for n, some in sorted(kinds.items())]

    def _shaped(self, n: int, filling: _Filling) -> _Filling:
        """Say what the filling has in common with those of other places: there a product shows the same."""
        shape = (*(_anywhere(self.tags.shown[tag][0].key, n) for tag in filling.tags), *filling.rules)
        filling.shape = self.splitter.shapes.setdefault(shape, len(self.splitter.shapes))
        return filling

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

    __slots__ = ("ask", "branches")

    def __init__(self, ask: Callable[[Seen], Any]) -> None:
        self.ask = ask
        self.branches: dict[Any, Any] = {}


@dataclass(frozen=True, slots=True)
class _Filled:
    values: list[str]
    size: int  # bytes as JSON


class _Filling:
    """Tags that are filled in together. First come those of safe values, then what the text part shows."""

    def __init__(self, tags: Tags, some: list[str], text: str, firm: tuple[frozenset[str], frozenset[str]]) -> None:
        def place(tag: str) -> int:
            return 0 if tags.shown[tag][1] is None else 1 if tag in text else 2

        self.tags = sorted(some, key=place)
        self.overhead = sum(len(tag) + len('"":"",') for tag in some)
        self.shape = -1
        self._nonce = tags.nonce
        self._shows = [_shown_by(*tags.shown[tag]) for tag in self.tags]
        self._safe = sum(place(tag) == 0 for tag in some)
        self._in_text = sum(place(tag) <= 1 for tag in some)
        self._ends, self._begins = ([n for n, tag in enumerate(self.tags) if tag in edge] for edge in firm)
        hows = (tags.shown[tag][1] for tag in self.tags)
        self.rules = (*hows, self._safe, self._in_text, tuple(self._ends), tuple(self._begins))

    def fill(self, seen: Seen) -> _Filled | None:
        """What stands in each place. None where the tags wouldn't come out right with it."""
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
        return _Filled(values, len(encode_basestring(everything).encode()))


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
        self._products = products
        self._unused = unused
        self._overhead = own.overhead + sum(filling.overhead for _, filling in products)

    def fill(self, seen: Seen, fragments: dict[tuple[int, ShownProduct], _Filled | None]) -> dict[str, str] | None:
        for of in self._unused:  # what fails where the whole e-mail is made must fail here
            of(seen)
        own = self._own.fill(seen)
        if own is None:
            return None
        substitutions, size = dict(zip(self._own.tags, own.values, strict=True)), own.size + self._overhead
        for n, filling in self._products:
            key = (filling.shape, seen.products[n])
            filled: Any = fragments.get(key, _NEW)
            if filled is _NEW:
                if len(fragments) >= FRAGMENTS:
                    fragments.clear()
                filled = fragments[key] = filling.fill(seen)
            if filled is None:
                return None
            substitutions.update(zip(filling.tags, filled.values, strict=True))
            size += filled.size
        return substitutions if size <= MOST_BYTES else None


def draw_nonce() -> str:
    """What no text holds by chance: six of 62 characters."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(6))


def _shown_by(expression: Expression, escaped: bool | None) -> Callable[[Seen], str]:
    of = expression.of
    return (lambda seen: str(escape(of(seen)))) if escaped else (lambda seen: str(of(seen)))


def _anywhere(key: Any, n: int) -> Any:
    """An expression's key without the product's position in it."""
    if not isinstance(key, tuple):
        return key
    return (PRODUCT, *key[2:]) if key[:2] == (PRODUCT, n) else tuple(_anywhere(k, n) for k in key)


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
