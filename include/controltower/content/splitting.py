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
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from threading import Lock
from typing import Any, Final

import jinja2

from controltower.content import tracing
from controltower.content.filling import Filling, Fork, Kept, Plan, product_of, shown_by
from controltower.content.jinja import compiled
from controltower.content.links import Destinations
from controltower.content.message import Context, Layout, SplitEmail
from controltower.content.slots import Expression, Slot, Tags, Trace, Unanswered, Unsplittable
from controltower.content.slotted import Seen, Shared, slotted_values
from controltower.content.templates import (
    PREHEADER_LENGTH,
    SUBJECT_LENGTH,
    Template,
    finished_line,
    one_liner,
    text_files,
    text_loader,
    tidy,
)

log = logging.getLogger(__name__)

MOST_TAGS: Final = 100  # so SendGrid's clients' documentation
LAYOUTS = 200  # of one splitter; a layout is some 50 KB. Whoever comes after that gets a whole e-mail


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
        self._root = Fork(Expression((), lambda _: None))

    def split(self, contexts: Sequence[Context]) -> list[SplitEmail | None]:
        """These customers' e-mails, made together; None in the place of one that must be made whole."""
        try:
            return self._split(contexts)
        except Exception:  # of one of them; whatever it is, the ordinary way decides
            half = len(contexts) // 2
            return self.split(contexts[:half]) + self.split(contexts[half:]) if half else [None] * len(contexts)

    def _split(self, contexts: Sequence[Context]) -> list[SplitEmail | None]:
        """In columns: each question is asked of everybody who comes to it, each tag filled in for all of a layout."""
        seen = [Seen(self.shared, context) for context in contexts]
        self.splitter.kept.look_up(seen)
        ways: list[tuple[Any, list[Seen]]] = [(self._root, seen)]
        while ways:
            plan, some = ways.pop()
            if type(plan) is Fork:
                ways += self._beyond(plan, some)
            elif plan:
                plan.fill(some)
        return [one.email for one in seen]

    def _beyond(self, fork: Fork, some: list[Seen]) -> Iterator[tuple[Any, list[Seen]]]:
        """Where customers come to from a fork; the first of those who go where nobody went finds the way."""
        for answer, theirs in fork.parted(some):
            if answer in fork.branches:
                yield fork.branches[answer], theirs
                continue
            with self.splitter.growing:
                plan = self._grow(theirs[0])
            yield plan, theirs[:1]
            if theirs[1:]:
                yield fork, theirs[1:]

    def _grow(self, seen: Seen) -> Plan | None:
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
            fork, answer = fork.branches.setdefault(answer, Fork(question)), next_answer
        fork.branches[answer] = plan
        return plan

    def _plan(self, trace: Trace) -> Plan:
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
        return Plan(layout, *self._sorted(found, text), [unused.of for unused in trace.unused.values()])

    def _filled(self, trace: Trace, part: jinja2.Template, values: dict[str, Any]) -> str:
        """A part with tags. That as many are in it as were shown tells that nothing else in it looks like one."""
        before = trace.shown
        text = part.render(values)
        if text.count(self.tags.nonce) != trace.shown - before:
            raise Unsplittable("something in it looks like a tag")
        return text

    def _sorted(self, tags: Iterable[str], text: str) -> tuple[Filling, list[tuple[int, Filling]]]:
        """What is each customer's own, and what depends on one product alone."""
        firm = _firm(text, self.tags.pattern)
        kinds: dict[int | None, list[str]] = {}
        for tag in tags:
            kinds.setdefault(product_of(self.tags.shown[tag][0]), []).append(tag)
        own = Filling(self.tags, kinds.pop(None, []), text, firm)
        return own, [(n, Filling(self.tags, some, text, firm)) for n, some in kinds.items() if n is not None]

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
        shows = [shown_by(*self.tags.shown[tag]) for tag in tags]

        def line(seen: Seen) -> str:
            if what not in seen.lines:
                words = [show(seen) + text for show, text in zip(shows, texts[1:], strict=True)]
                seen.lines[what] = finish(texts[0] + "".join(words))
            return seen.lines[what]

        made = Expression((what, source, labelled, *texts, *tags), line, personal=True)
        trace.unused[made.key] = made
        return trace.slot(made)


def draw_nonce() -> str:
    """What no text holds by chance: six of 62 characters."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(6))


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
