"""Templates that nobody would write: whatever Jinja makes of them, it is the same both ways."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from content.conftest import TEMPLATES
from content.test_splitting import CHANGES, Both
from controltower.content import templates
from controltower.content.message import Context
from controltower.errors import BadSpec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ATOMS = st.sampled_from(
    "customer.first_name customer.points customer['last_name'] customer.loyalty_tier customer.nothing"
    " shop.name shop.sender.name products[0].title products[1].url products[0] products p.title p.price p.url p.reason"
    " p.image_url p['tint'] p x locale language message_id shop_url preheader view_url 'a' '<b>' '' 0 3 -1 none true"
    " loop.index loop.last loop.length".split()
)
FILTERS = st.sampled_from(
    "upper lower title trim length count string e urlencode int list first last sort join reverse escape wordcount"
    " shorten(5) truncate(4) default('d') default('d',true) replace('a','<i>') round abs float join(', ') striptags"
    " indent(2) center(9) batch(2) map('upper') map(attribute='title') selectattr('reason') select rejectattr('url')"
    " sort(attribute='title') sum max min tojson format(1) dictsort slice(2) unique pprint forceescape xmlattr".split(
        " "
    )
)
TESTS = st.sampled_from("defined none string number mapping iterable sameas(1) eq('a') undefined odd lower".split())


def _more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def two(form: str) -> st.SearchStrategy[str]:
        return st.tuples(inner, inner).map(lambda pair: form.format(*pair))

    return st.one_of(
        st.tuples(inner, FILTERS).map(lambda pair: f"({pair[0]} | {pair[1]})"),
        st.tuples(inner, TESTS).map(lambda pair: f"({pair[0]} is {pair[1]})"),
        st.tuples(inner, inner, inner).map(lambda three: "({} if {} else {})".format(*three)),
        *map(two, ["({} ~ {})", "({} or {})", "({} and {})", "({} == {})", "({} < {})", "({} in [{}])", "({} in {})"]),
        *map(two, ["({} + {})", "('%s-%s' % ({}, {}))", "[{}, {}]", "t('footer.why', shop={} ~ {})", "({} if {})"]),
        inner.map(lambda e: f"(not {e})"),
        inner.map(lambda e: f"({e})[:2]"),
        inner.map(lambda e: f"({e}).title"),
        inner.map(lambda e: f"({e}).upper()"),
        inner.map(lambda e: f"({e})[0]"),
        inner.map(lambda e: f"-{e}"),
    )


EXPRESSIONS = st.recursive(ATOMS, _more, max_leaves=5)
SHOWN = EXPRESSIONS.map(lambda e: f"{{{{ {e} }}}}")
STATIC = st.sampled_from(["a", " ", "", ": ", "\n", "\n\n", " - \n", "- "])


def _block(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(EXPRESSIONS, inner).map(lambda t: "{{% if {} %}}{}{{% endif %}}".format(*t)),
        st.tuples(EXPRESSIONS, inner, inner).map(lambda t: "{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format(*t)),
        inner.map(lambda t: f"{{% for p in products %}}{t}{{% else %}}none{{% endfor %}}"),
        st.tuples(EXPRESSIONS, inner).map(lambda t: "{{% for p in {} %}}{}{{% endfor %}}".format(*t)),
        st.tuples(EXPRESSIONS, inner).map(lambda t: "{{% for p in products if {} %}}{}{{% endfor %}}".format(*t)),
        st.tuples(EXPRESSIONS, inner).map(lambda t: "{{% set x = {} %}}{}".format(*t)),
        st.tuples(EXPRESSIONS, inner).map(lambda t: "{{% with x = {} %}}{}{{% endwith %}}".format(*t)),
        st.tuples(EXPRESSIONS, EXPRESSIONS, inner).map(
            lambda t: "{{% with p = products[0], x = {} %}}{{% set x = {} %}}{}{{% endwith %}}".format(*t)
        ),
    )


TEXTS = st.recursive(st.one_of(SHOWN, STATIC), _block, max_leaves=6)
N = int(os.environ.get("EXAMPLES", "100"))
ADDRESS = re.compile("generator|0x", re.IGNORECASE)  # an object's own is another one each time
GIVEN = "{% with x = 'x', p = products[0], loop = none %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(TEMPLATES, tmp_path_factory.mktemp("any") / "templates"))


@settings(max_examples=N, deadline=None, suppress_health_check=list(HealthCheck))
@given(source=TEXTS, where=st.sampled_from(["page", "text", "line"]), changes=st.lists(CHANGES, min_size=5, max_size=5))
def test_any_template(
    folder: Path, make_context: Callable[..., Context], source: str, where: str, changes: list[dict[str, Any]]
) -> None:
    parts = {"page": "x", "text": "x", "line": "x"} | {where: f"{GIVEN}{source}{{% endwith %}}"}
    body = f"<mj-section><mj-column><mj-text>{parts['page']}</mj-text></mj-column></mj-section>"
    (folder / "email/x.mjml").write_text(f"<mjml><mj-body>{body}</mj-body></mjml>", encoding="utf-8")
    (folder / "email/x.txt").write_text(parts["text"], encoding="utf-8")
    try:
        template = templates.load(folder, "x")
    except BadSpec:
        return
    both = Both(template, (parts["line"] + ".", "{{ customer.first_name }}."))
    contexts = [make_context("en", **change) for change in (*changes, *changes[:2])]
    both.together(contexts, lambda whole: not ADDRESS.search(str(whole)))
