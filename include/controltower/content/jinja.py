"""Jinja as templates get it: sandboxed, strict about unknown names, and telling file and line of what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jinja2
from jinja2 import StrictUndefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from controltower.content.text import shorten
from controltower.content.values import NAMES, ShownProduct
from controltower.errors import BadSpec

Places = Mapping[int, str]  # line of the compiled text -> file:line of the source
_SHOWN = frozenset(f.name for f in fields(ShownProduct))


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without its long way round for our own products: that took a third of a mail's time."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is ShownProduct and attribute in _SHOWN:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


def environment(autoescape: bool, loader: jinja2.BaseLoader | None = None, kind: type[Sandbox] = Sandbox) -> Sandbox:
    env = kind(
        autoescape=autoescape,
        undefined=StrictUndefined,
        loader=loader,
        trim_blocks=not autoescape,
        lstrip_blocks=not autoescape,
    )
    env.globals.clear()
    del env.filters["safe"]  # a customer's or a catalogue's text is never markup
    env.filters["shorten"] = lambda text, most: shorten(str(text), most)
    return env


def compiled(env: jinja2.Environment, source: str, path: str) -> jinja2.Template:
    """Compiled under its own file name, so that an error's traceback tells the line.

    It gets no template name: Jinja 3.1 puts it into its code unquoted, and ours hold quotes.
    """
    code = env.compile(source, None, path)
    return jinja2.Template.from_code(env, code, env.globals)


def check_names(env: jinja2.Environment, source: str, path: str, places: Places | None) -> None:
    """BadSpec for a syntax error or a name that templates don't know."""
    try:
        tree = env.parse(source, path)
        env.compile(tree, None, path)  # unknown filters show here
        unknown = meta.find_undeclared_variables(tree) - NAMES
    except jinja2.TemplateSyntaxError as e:
        where = (places or {}).get(e.lineno, f"{path}:{e.lineno}")
        raise BadSpec(f"{where}: {str(e.message).rstrip('.')}.", "Correct the template.") from None
    except jinja2.TemplateError as e:  # in what Jinja computes beforehand, such as ''[0]
        raise BadSpec(f"{path}: {str(e.message).rstrip('.')}.", "Correct the template.") from None
    for node in tree.find_all(nodes.Name):
        if node.name in unknown:
            where = (places or {}).get(node.lineno, f"{path}:{node.lineno}")
            raise BadSpec(f"{where}: {node.name!r} is unknown.", f"Templates may use {', '.join(sorted(NAMES))}.")


def _place(error: BaseException, part: jinja2.Template, places: Places | None) -> str:
    """File and line of the innermost template frame that an error passed."""
    found = part.filename or "the template"
    trace = error.__traceback__
    while trace:
        if "__jinja_exception__" in trace.tb_frame.f_globals:  # Jinja's stand-in for a line of a template
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            found = (places or {}).get(trace.tb_lineno, where)
        trace = trace.tb_next
    return found


def fill(part: jinja2.Template, values: dict[str, Any], places: Places | None = None) -> str:
    """The template filled in. Errors tell file and line, and never a customer's data."""
    try:
        return part.render(values)
    except BadSpec as e:
        raise BadSpec(f"{_place(e, part, places)}: {e.what}", e.remedy) from None
    except jinja2.TemplateError as e:  # an unknown variable, or what the sandbox forbids; its text names no values
        raise BadSpec(f"{_place(e, part, places)}: {e.message}.", "See the names that templates may use.") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as e:
        # The error's own text may hold a customer's data.
        raise BadSpec(f"{_place(e, part, places)}: {type(e).__name__}.", "Check the filters used there.") from None
