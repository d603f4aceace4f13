"""Templates run with slots (slots.py) where a customer's values belong.

Jinja itself runs them, with filters, tests and operators that leave what is done to a slot for later. What can't be
left for later (a filter that isn't listed here, captured text, random) raises Unsplittable.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes, pass_eval_context
from jinja2.compiler import CodeGenerator
from jinja2.runtime import Context as Running
from jinja2.runtime import markup_join, str_join
from markupsafe import Markup

from controltower.content.jinja import Sandbox, environment
from controltower.content.slots import Slot, Unsplittable, slot_in

# What may be done to a slot later: these look at nothing but their arguments and give the same each time.
_DEFERRED = frozenset(
    "abs attr capitalize center count d default dictsort e escape filesizeformat first float forceescape format"
    " indent int join last length list lower max min replace round shorten sort string striptags sum title tojson"
    " trim truncate upper urlencode urlize wordcount wordwrap xmlattr".split()
)
# What only looks at the items of a list one by one, so that it can be done to a list of slots, or to a slot for a list.
_BY_ITEM = frozenset("batch map reject rejectattr select selectattr slice".split())
_BY_LIST = frozenset("count first last length list reverse".split())  # and this to a list of slots
_TAKES_ITERATORS = frozenset("join max min sort sum".split())
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.With, nodes.Assign, nodes.Include,
    nodes.Name, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr,
    nodes.Filter, nodes.Test, nodes.Call, nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat, nodes.Compare,
    nodes.Operand, nodes.BinExpr, nodes.UnaryExpr,
)  # fmt: skip


class _Deferring(CodeGenerator):
    """Jinja's compiler, but what is short-circuited is handed over whole."""

    def visit_CondExpr(self, node: Any, frame: Any) -> None:  # noqa: N802
        frame = frame.soft()
        self._call("choose", [node.test], [node.expr1, node.expr2], frame)

    def visit_And(self, node: Any, frame: Any) -> None:  # noqa: N802
        self._call("both", [node.left], [node.right], frame)

    def visit_Or(self, node: Any, frame: Any) -> None:  # noqa: N802
        self._call("either", [node.left], [node.right], frame)

    def visit_Not(self, node: Any, frame: Any) -> None:  # noqa: N802
        self._call("negate", [node.node], [], frame)

    def visit_Concat(self, node: Any, frame: Any) -> None:  # noqa: N802
        self._call("joined_escaped" if frame.eval_ctx.autoescape else "joined", node.nodes, [], frame)

    def _call(self, name: str, now: list[nodes.Expr], lazily: list[nodes.Expr | None], frame: Any) -> None:
        self.write(f"environment.{name}(")
        for node in now:
            self.visit(node, frame)
            self.write(", ")
        for lazy in lazily:
            self.write("lambda: ")
            if lazy is None:
                self.write("cond_expr_undefined('no else')")
            else:
                self.visit(lazy, frame)
            self.write(", ")
        self.write(")")


class Tracing(Sandbox):
    """The templates' environment, with slots let through. `ordinary` does later what is left for later."""

    code_generator_class = _Deferring
    intercepted_binops = frozenset(Sandbox.default_binop_table)
    intercepted_unops = frozenset(Sandbox.default_unop_table)
    ordinary: Sandbox

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is not Slot:
            return super().getattr(obj, attribute)
        short = obj.expression.attribute and obj.expression.attribute(attribute)
        return Slot(short, obj.trace) if short else obj.trace.later(".", self.ordinary.getattr, (obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        slot = obj if type(obj) is Slot else slot_in(argument)
        if slot is None:
            return super().getitem(obj, argument)
        return slot.trace.later("[]", self.ordinary.getitem, (obj, argument))

    def call(self, context: Running, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if type(obj) is not Slot:
            return super().call(context, obj, *args, **kwargs)
        named = {k: v for k, v in kwargs.items() if k not in ("_loop_vars", "_block_vars")}
        return obj.trace.later("()", self._call_later, (obj, *args), named)

    def _call_later(self, function: Any, *args: Any, **named: Any) -> Any:
        if not self.ordinary.is_safe_callable(function):
            raise jinja2.exceptions.SecurityError("not safely callable")
        return function(*args, **named)

    def call_binop(self, _context: Running, sign: str, left: Any, right: Any) -> Any:
        function = self.binop_table[sign]
        slot = slot_in([left, right])
        return slot.trace.later(f"2{sign}", function, (left, right)) if slot is not None else function(left, right)

    def call_unop(self, _context: Running, sign: str, arg: Any) -> Any:
        function = self.unop_table[sign]
        slot = slot_in(arg)
        return slot.trace.later(f"1{sign}", function, (arg,)) if slot is not None else function(arg)

    def choose(self, test: Any, then: Callable[[], Any], other: Callable[[], Any]) -> Any:
        if _open(test):
            arms = (then, other)
            slot = test.trace.choice("if", test, arms, lambda t, a, b: lambda who: a(who) if t(who) else b(who))
            if slot is not None:
                return slot
        return then() if test else other()

    def both(self, left: Any, right: Callable[[], Any]) -> Any:
        if _open(left):
            slot = left.trace.choice("and", left, (right,), lambda a, b: lambda who: a(who) and b(who))
            if slot is not None:
                return slot
        return left and right()

    def either(self, left: Any, right: Callable[[], Any]) -> Any:
        if _open(left):
            slot = left.trace.choice("or", left, (right,), lambda a, b: lambda who: a(who) or b(who))
            if slot is not None:
                return slot
        return left or right()

    def negate(self, value: Any) -> Any:
        return value.trace.later("not", operator.not_, (value,)) if _open(value) else not value

    def joined(self, *values: Any) -> Any:
        return self._joined("~", str_join, values)

    def joined_escaped(self, *values: Any) -> Any:
        return self._joined("~ escaped", markup_join, values)

    def _joined(self, name: str, join: Callable[[Any], str], values: tuple[Any, ...]) -> Any:
        slot = slot_in(values)
        if slot is None:
            return join(values)
        return slot.trace.later(name, lambda *parts: join(parts), values, parts=True)


def tracing(autoescape: bool, loader: jinja2.BaseLoader | None = None) -> Tracing:
    """An environment whose templates take slots."""
    env = environment(autoescape, loader, Tracing)
    assert isinstance(env, Tracing)
    env.ordinary = environment(autoescape)
    env.finalize = _finalize
    env.filters = {name: _filter(name, function) for name, function in env.filters.items()}
    env.tests = {name: _test(name, function) for name, function in env.tests.items()}
    return env


def check(env: jinja2.Environment, source: str) -> None:
    """Unsplittable for what can't be traced, whoever the customer is."""
    for node in env.parse(source).find_all(nodes.Node):
        if not isinstance(node, _NODES):
            raise Unsplittable(f"captured text, or more of Jinja than is traced: {type(node).__name__}")
        if isinstance(node, nodes.For) and node.recursive:
            raise Unsplittable("a recursive loop captures text")
        if isinstance(node, nodes.Filter) and node.name == "random":
            raise Unsplittable("random")
        if isinstance(node, nodes.Include) and not isinstance(node.template, nodes.Const):
            raise Unsplittable("an include that depends on values")


def _open(value: Any) -> bool:
    """Whether it differs among the customers who came this way if it is true."""
    return type(value) is Slot and value.trace.known(value) is None


@pass_eval_context
def _finalize(eval_ctx: nodes.EvalContext, value: Any) -> Any:
    slot = slot_in(value)
    if slot is None:
        return value
    text = slot.trace.show(value, eval_ctx.autoescape)
    return Markup(text) if eval_ctx.autoescape else text  # noqa: S704 - made of tags and escaped constants


def _filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    passed = int(hasattr(function, "jinja_pass_arg"))  # Jinja's own first argument comes before the value

    @wraps(function)  # keeps Jinja's mark
    def apply(*args: Any, **named: Any) -> Any:
        value = args[passed]
        if name in _BY_ITEM or (name in _BY_LIST and type(value) is not Slot):
            return function(*args, **named)
        if isinstance(value, Iterator):
            if name not in _TAKES_ITERATORS:
                raise Unsplittable(f"the filter {name} of what can be read only once")
            args = (*args[:passed], list(value), *args[passed + 1 :])
        slot = slot_in([args, named])
        if slot is None:
            return function(*args, **named)
        if name not in _DEFERRED:
            raise Unsplittable(f"the filter {name} needs the value")
        return slot.trace.later(f"|{name}", function, args, named)

    return apply


def _test(name: str, function: Any) -> Callable[..., Any]:
    @wraps(function)
    def apply(*args: Any, **named: Any) -> Any:
        slot = slot_in([args, named])
        return slot.trace.later(f"is {name}", function, args, named) if slot is not None else function(*args, **named)

    return apply
