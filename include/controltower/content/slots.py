"""Slots: what stands for a customer's values while a template is traced (tracing.py), and what is noted meanwhile.

A slot records what is done to its value: attributes, filters, arithmetic, `~`, inline `if`. Shown, it becomes a tag.
Where the template must know something to go on (an `if`, the length of a loop), it is told about the customer at hand,
and the question is noted with its answer: everybody with the same answers gets the same text with the same tags.
What can be done to a value only (`str()`, hashing, ...) raises Unsplittable.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2.nodes import EvalContext
from markupsafe import escape

from controltower.content.locales import Translate


class Unsplittable(Exception):
    """This template, or this way through it, can't be split."""


class Unanswered(Exception):
    """A question that the customer at hand has no answer to, such as a comparison with a missing value."""


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A value that differs among customers: `of` computes it for one. The same key is the same expression.

    `products` are the positions of those that it depends on, `personal` tells whether it depends on anything else.
    `parts` are shown one after the other in its place. A `safe` value holds nothing that HTML escapes, which whoever
    fills it in makes sure of. `attribute` knows shorter ways to some attributes.
    """

    key: Hashable
    of: Callable[[Any], Any]
    products: frozenset[int] = frozenset()
    personal: bool = False
    constant: bool = False
    safe: bool = False
    parts: tuple[Expression, ...] = ()
    attribute: Callable[[str], Expression | None] | None = None


class Tags:
    """The tags of a group of layouts, by what is shown and how: `escaped` is None for what is the same either way."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self.pattern = re.compile(f"-{nonce}[0-9]+-")
        self.shown: dict[str, tuple[Expression, bool | None]] = {}
        self._by_key: dict[Hashable, str] = {}

    def tag(self, expression: Expression, escaped: bool) -> str:
        how = None if expression.safe else escaped
        tag = self._by_key.setdefault((expression.key, how), f"-{self.nonce}{len(self.shown)}-")
        self.shown.setdefault(tag, (expression, how))
        return tag


class Slot:
    """A customer's value within a template that is being traced."""

    __slots__ = ("expression", "trace")

    def __init__(self, expression: Expression, trace: Trace) -> None:
        self.expression = expression
        self.trace = trace

    def __bool__(self) -> bool:
        return bool(self.trace.ask("truth", bool, self))

    def __len__(self) -> int:
        return int(self.trace.ask("length", len, self))

    def __iter__(self) -> Iterator[Any]:
        items = self.trace.later("list", list, (self,))
        return iter([self.trace.later("item", operator.getitem, (items, n)) for n in range(len(items))])

    def __contains__(self, item: Any) -> bool:
        return bool(self.trace.later("contains", operator.contains, (self, item)))

    def __getitem__(self, item: Any) -> Slot:  # slices; other items go through the environment
        return self.trace.later("slice", operator.getitem, (self, item))

    def __eq__(self, other: object) -> Slot:  # type: ignore[override]
        return self.trace.later("==", operator.eq, (self, other))

    def __ne__(self, other: object) -> Slot:  # type: ignore[override]
        return self.trace.later("!=", operator.ne, (self, other))

    def __lt__(self, other: object) -> Slot:
        return self.trace.later("<", operator.lt, (self, other))

    def __le__(self, other: object) -> Slot:
        return self.trace.later("<=", operator.le, (self, other))

    def __gt__(self, other: object) -> Slot:
        return self.trace.later(">", operator.gt, (self, other))

    def __ge__(self, other: object) -> Slot:
        return self.trace.later(">=", operator.ge, (self, other))

    def __hash__(self) -> int:
        raise Unsplittable("a value is looked up in a dictionary")

    def _refuse(self, *_: Any) -> Any:
        raise Unsplittable("something is done to a value that can't be done later")

    __str__ = __repr__ = __html__ = __format__ = __int__ = __float__ = __index__ = _refuse


class Trace:
    """One run through the parts of a template, with one customer at hand."""

    def __init__(self, tags: Tags, customer: Any) -> None:
        self.tags = tags
        self.customer = customer
        self.path: list[tuple[Expression, Any]] = []  # what was asked, with the answers
        self.shown = 0
        self.unused: dict[Hashable, Expression] = {}  # computed by the template, and neither shown nor asked
        self._answers: dict[Hashable, Any] = {}
        self._within_arms = False

    def slot(self, expression: Expression) -> Slot:
        return Slot(expression, self)

    def later(
        self,
        name: str,
        function: Callable[..., Any],
        args: Sequence[Any],
        named: Mapping[str, Any] | None = None,
        parts: bool = False,
    ) -> Slot:
        """A slot for what `function` will give. `parts`: it joins them, so that each can be shown by itself."""
        taken = [_expression(a) for a in args]
        by_name = {k: _expression(v) for k, v in (named or {}).items()}
        made = _made((name, tuple(by_name)), [*taken, *by_name.values()], _applied(function, taken, by_name))
        return self._noted(replace(made, parts=tuple(taken)) if parts else made, args, list((named or {}).values()))

    def choice(
        self, name: str, given: Slot, arms: Sequence[Callable[[], Any]], of: Callable[..., Callable[[Any], Any]]
    ) -> Slot | None:
        """A slot for one of the arms or the slot given, which `of` chooses among them: the others aren't computed.

        None where an arm can't be had now, such as a product that only some customers have.
        """
        was, self._within_arms = self._within_arms, True
        try:
            taken = [given.expression, *(_expression(arm()) for arm in arms)]
        except Exception:
            return None
        finally:
            self._within_arms = was
        return self._noted(_made((name,), taken, of(*(t.of for t in taken))), [given])

    def _noted(self, made: Expression, *used: Sequence[Any]) -> Slot:
        """A slot for what was made of others. What is within the arms of a choice may never be computed."""
        if not self._within_arms:
            for slot in slots_in(used):
                self.unused.pop(slot.expression.key, None)
            self.unused[made.key] = made
        return Slot(made, self)

    def ask(self, name: str, function: Callable[[Any], Any], slot: Slot) -> Any:
        """The answer for the customer at hand."""
        key = (name, slot.expression.key)
        if key not in self._answers:
            question = self.later(name, function, (slot,)).expression
            try:
                self._answers[key] = question.of(self.customer)
            except Exception as e:
                raise Unanswered from e
            self.path.append((question, self._answers[key]))
            self.unused.pop(question.key, None)
        return self._answers[key]

    def known(self, slot: Slot) -> bool | None:
        """Whether it is true, where that was asked before."""
        return self._answers.get(("truth", slot.expression.key))

    def show(self, value: Any, escaped: bool) -> str:
        """What stands for a slot, or for a list that holds one, in the text."""
        for slot in slots_in(value):
            self.unused.pop(slot.expression.key, None)
        return self._show(_expression(value), escaped)

    def words(self, t: Translate) -> Translate:
        """A translator whose texts may hold slots."""
        mark = f"\0{self.tags.nonce}"

        def translated(key: str, **values: Any) -> Any:
            late = {name: value for name, value in values.items() if slot_in(value) is not None}
            if not late:
                return t(key, **values)
            text = t(key, **values | {name: f"{mark}{name}\0" for name in late})
            pieces = re.split(f"{mark}(.*?)\0", text)
            joined = [self.later("text", str, (late[p],)) if n % 2 else p for n, p in enumerate(pieces)]
            return self.later("words", lambda *parts: "".join(parts), joined, parts=True)

        return translated

    def _show(self, expression: Expression, escaped: bool) -> str:
        if expression.parts:
            return "".join(self._show(part, escaped) for part in expression.parts)
        if expression.constant:
            text = expression.of(None)
            return str(escape(text)) if escaped else str(text)
        self.shown += 1
        return self.tags.tag(expression, escaped)


def slot_in(value: Any) -> Slot | None:
    """A slot that is this value, or is within it."""
    return next(slots_in(value), None)


def slots_in(value: Any) -> Iterator[Slot]:
    if type(value) is Slot:
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from slots_in(item)
    elif isinstance(value, dict):
        yield from slots_in(list(value.values()))
    elif isinstance(value, slice):
        yield from slots_in([value.start, value.stop, value.step])


def _expression(value: Any) -> Expression:
    """A value as an expression: a slot's own, a container's of its items, else a constant."""
    if type(value) is Slot:
        return value.expression
    kind: Any = type(value)
    if kind in (list, tuple, dict):
        items = [_expression(v) for v in (value.values() if kind is dict else value)]
        names = tuple(value) if kind is dict else ()
        ofs = [item.of for item in items]
        if all(item.constant for item in items):
            return Expression((kind, *names, *(i.key for i in items)), lambda _: value, constant=True)
        if kind is dict:
            return _made((kind, *names), items, lambda who: {k: of(who) for k, of in zip(names, ofs, strict=True)})
        return _made((kind,), items, lambda who: kind(of(who) for of in ofs))
    if slot_in(value) is not None:
        raise Unsplittable(f"needs the values in a {kind.__name__}")
    key: Any = id(value)  # `of` keeps the value, so that no other gets its id
    if isinstance(value, EvalContext):
        key = value.autoescape
    elif isinstance(value, slice):
        key = (value.start, value.stop, value.step)
    elif value is None or isinstance(value, str | int | float):
        key = value
    return Expression((kind, key), lambda _: value, constant=True)


def _made(name: tuple[Any, ...], taken: Sequence[Expression], of: Callable[[Any], Any]) -> Expression:
    return Expression(
        key=(*name, *(t.key for t in taken)),
        of=of,
        products=frozenset().union(*(t.products for t in taken)),
        personal=any(t.personal for t in taken),
    )


def _applied(
    function: Callable[..., Any], taken: Sequence[Expression], named: Mapping[str, Expression]
) -> Callable[[Any], Any]:
    first, *others = (e.of for e in taken)
    late = {k: e.of for k, e in named.items()}
    if all(e.constant for e in (*taken[1:], *named.values())):
        rest, more = [of(None) for of in others], {k: of(None) for k, of in late.items()}
        return lambda customer: function(first(customer), *rest, **more)
    return lambda customer: function(
        first(customer), *[of(customer) for of in others], **{k: of(customer) for k, of in late.items()}
    )
