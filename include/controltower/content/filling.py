"""Filling in the tags of split e-mails (splitting.py), for many customers at a time.

In columns: a question is asked of everybody who comes to it, and a tag is filled in for all the mails of a layout.
What depends on a product alone is found once, whoever is shown it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

import orjson
from markupsafe import escape

from controltower.content.message import Layout, Product, SplitEmail
from controltower.content.slots import Expression, Tags
from controltower.content.slotted import Seen
from controltower.content.templates import headers

# SendGrid documents 10,000 bytes, lately 50,000; sendgrid-python #548 reports refusals from about 8,000.
MOST_BYTES: Final = 8_000
MOST_KEPT = 25_000  # products, each in each place, of which one splitter keeps what it shows: some 1.2 KB

_OfSome = Callable[[Iterable[Seen]], list[Any]]


class Fork:
    """A question, and where each answer leads: to another, to a plan, or to None where there can't be one."""

    def __init__(self, question: Expression) -> None:
        self.ask = partial(_each, question.of)
        self.product = product_of(question)
        self.branches: dict[Any, Any] = {}

    def parted(self, some: list[Seen]) -> Iterable[tuple[Any, list[Seen]]]:
        """Customers by their answers."""
        n, ask = self.product, self.ask
        answers = ask(some) if n is None else _of_product(n, ask, some)
        if answers.count(answers[0]) == len(answers):
            return [(answers[0], some)]
        found: dict[Any, list[Seen]] = {}
        for answer, seen in zip(answers, some, strict=True):
            found.setdefault(answer, []).append(seen)
        return found.items()


class Known(dict[_OfSome, Any]):
    """What functions gave for one product in one place."""

    __slots__ = ("product",)

    def __init__(self, product: Product) -> None:
        self.product = product  # it is kept, so that no other gets its id


class Kept:
    """What depends on a product alone, kept for all customers who are shown it: answers, and what is filled in."""

    def __init__(self) -> None:
        self._kept: dict[str, list[dict[int, Known]]] = {}  # by locale and place, then by the product's id()
        self._many = 0

    def __len__(self) -> int:
        return self._many

    def look_up(self, some: Sequence[Seen]) -> None:
        """Note with customers of one number of products what is known of each of these."""
        by_locale: dict[str, list[Seen]] = {}
        for seen in some:
            by_locale.setdefault(seen.locale, []).append(seen)
        for locale, theirs in by_locale.items():
            shown = zip(*(seen.context.products for seen in theirs), strict=True)
            columns = [self._column(locale, n, column) for n, column in enumerate(shown)]
            for seen, *known in zip(theirs, *columns, strict=True):
                seen.known = known

    def _column(self, locale: str, n: int, products: Sequence[Product]) -> list[Known]:
        place = self._place(locale, n)
        new = {id(product): product for product in products if id(product) not in place}
        if self._many + len(new) > MOST_KEPT:
            self._kept, self._many = {}, 0
            place, new = self._place(locale, n), {id(product): product for product in products}
        place |= {key: Known(product) for key, product in new.items()}
        self._many += len(new)
        return [place[id(product)] for product in products]

    def _place(self, locale: str, n: int) -> dict[int, Known]:
        places = self._kept.setdefault(locale, [])
        places += [{} for _ in range(n + 1 - len(places))]
        return places[n]


class Filling:
    """Tags that are filled in together. First come those of safe values, then what the text part shows."""

    def __init__(self, tags: Tags, some: list[str], text: str, firm: tuple[frozenset[str], frozenset[str]]) -> None:
        def place(tag: str) -> int:
            return 0 if tags.shown[tag][1] is None else 1 if tag in text else 2

        self.tags = sorted(some, key=place)
        self._nonce = tags.nonce
        self._shows = [shown_by(*tags.shown[tag]) for tag in self.tags]
        self._safe = sum(place(tag) == 0 for tag in some)
        self._in_text = sum(place(tag) <= 1 for tag in some)
        self._ends, self._begins = ([n for n, tag in enumerate(self.tags) if tag in edge] for edge in firm)

    def fill(self, some: Iterable[Seen]) -> list[bytes | None]:
        """What stands in each place, as the members of a JSON object. None where the tags wouldn't come out right."""
        rows = list(zip(*(_each(show, some) for show in self._shows), strict=True))
        return [
            orjson.dumps(dict(zip(self.tags, row, strict=True)))[1:-1] if fit else None
            for row, fit in zip(rows, self._fit(rows), strict=True)
        ]

    def _fit(self, rows: list[tuple[str, ...]]) -> list[bool]:
        """Where tags would come out right. What is right with all rows put together is with each."""
        if self._right(rows):
            return [True] * len(rows)
        half = len(rows) // 2
        return self._fit(rows[:half]) + self._fit(rows[half:]) if half else [False]

    def _right(self, rows: list[tuple[str, ...]]) -> bool:
        columns = list(zip(*rows, strict=True))
        safe, text, other = (
            "".join(chain.from_iterable(some))
            for some in (columns[: self._safe], columns[self._safe : self._in_text], columns[self._in_text :])
        )
        return (
            self._nonce not in f"{safe}{text}{other}"
            and len(escape(safe)) == len(safe)
            and len(f"{safe}{text}.".splitlines()) == 1  # the text part is put in order by lines
            and not any(not v or v[-1].isspace() for n in self._ends for v in columns[n])
            and not any(not v or v[0].isspace() for n in self._begins for v in columns[n])
        )


class Plan:
    """A layout, and how customers' values are filled in."""

    def __init__(
        self,
        layout: Layout,
        own: Filling,
        products: list[tuple[int, Filling]],
        unused: list[Callable[[Seen], Any]],
    ) -> None:
        self.layout = layout
        self._own = own
        self._products = [(n, filling.fill) for n, filling in products]
        self._unused = unused

    def fill(self, some: Sequence[Seen]) -> None:
        """Make the e-mails of those that can be filled in."""
        for of in self._unused:  # what fails where the whole e-mail is made must fail here
            for seen in some:
                of(seen)
        columns = [_of_product(n, fill, some) for n, fill in self._products]
        if self._own.tags:
            columns.append(self._own.fill(some))
        for seen, *parts in zip(some, *columns, strict=True):
            if None not in parts and sum(map(len, parts)) + len(parts) < MOST_BYTES:
                seen.email = SplitEmail(self.layout, parts, headers(seen.context))


def _each(of: Callable[[Seen], Any], some: Iterable[Seen]) -> list[Any]:
    return [of(seen) for seen in some]


def _of_product(n: int, of: _OfSome, some: Iterable[Seen]) -> list[Any]:
    """What depends on the nth product alone, for each customer: it is found once for a product."""
    try:
        return [seen.known[n][of] for seen in some]
    except KeyError:
        new = {id(seen.known[n]): seen for seen in some if of not in seen.known[n]}.values()  # by product
        for seen, found in zip(new, of(new), strict=True):
            seen.known[n][of] = found
    return [seen.known[n][of] for seen in some]


def product_of(expression: Expression) -> int | None:
    """The position of the one product that it depends on, if it depends on nothing else."""
    return min(expression.products) if len(expression.products) == 1 and not expression.personal else None


def shown_by(expression: Expression, escaped: bool | None) -> Callable[[Seen], str]:
    of = expression.of
    return (lambda seen: str(escape(of(seen)))) if escaped else (lambda seen: str(of(seen)))
