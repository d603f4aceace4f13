"""CPU per rendered six-product mail: MJML and CSS compiled once, beside compiling them for every mail."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import css_inline
import mrml
from controltower.content import templates
from controltower.content.message import Context, Email, Product
from controltower.content.sources import MJML_INCLUDE, Sources, read_sources
from controltower.content.values import template_values
from controltower.settings import INCLUDE, parse_shop
from jinja2 import Environment

FOLDER = INCLUDE / "templates"
NAME = "win_back"
SUBJECT = "{{ customer.first_name }}, it has been a while"
PAIRS, MAILS, NAIVE_MAILS = 5, 300, 30


def run() -> list[dict[str, Any]]:
    """Medians of interleaved pairs: the machine is noisy, the naive side most of all."""
    template = templates.load(FOLDER, NAME)
    contexts = [_context(number) for number in range(MAILS)]
    naive = _naive_way()
    for context in contexts[:10]:
        template.email(context, SUBJECT, "Six things")
        naive(context)
    ours, theirs = [], []
    for _ in range(PAIRS):
        ours.append(_micros(lambda c: template.email(c, SUBJECT, "Six things"), contexts))
        theirs.append(_micros(naive, contexts[:NAIVE_MAILS]))
    return [
        {
            "name": "render a six-product mail (HTML, text, subject), CPU",
            "value": round(statistics.median(ours), 1),
            "unit": "µs",
            "naive": round(statistics.median(theirs), 1),
        }
    ]


def _naive_way() -> Callable[[Context], Email]:
    """Fill in the MJML for each customer, then compile it and inline its CSS; Jinja itself is compiled once, and
    neither sandboxed nor strict, in the naive way's favour."""
    template = templates.load(FOLDER, NAME)
    sources = read_sources(FOLDER, NAME)
    env = Environment(autoescape=True)
    env.filters["shorten"] = lambda text, most: text[:most]
    page = env.from_string(_with_partials(sources, f"email/{NAME}.mjml"))
    subject = env.from_string(SUBJECT)
    text = template._text
    assert text is not None
    inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)
    translate = template.locales.translator(("en",))

    def render(context: Context) -> Email:
        values = template_values(context, "en", translate)
        values |= {"subject": subject.render(values), "preheader": "Six things"}
        html = inliner.inline(mrml.to_html(page.render(values)).content)
        return Email(values["subject"], html, text.render(values))

    return render


def _with_partials(sources: Sources, path: str) -> str:
    return MJML_INCLUDE.sub(lambda m: _with_partials(sources, f"email/{m['path']}"), sources.get(path) or "")


def _micros(render: Callable[[Context], Email], contexts: list[Context]) -> float:
    started = time.process_time()
    for context in contexts:
        render(context)
    return (time.process_time() - started) / len(contexts) * 1e6


def _context(number: int) -> Context:
    shop = parse_shop(INCLUDE / "shops" / "online-retail.yaml")
    products = tuple(
        Product(
            product_id=f"P{(number * 7 + n) % 500}",
            title=f"Product {(number * 7 + n) % 500} of the catalogue",
            price=Decimal((number * 7 + n) % 500) / 4,
            currency="GBP",
            url=f"{shop.url}/products/{n}",
            image_url=f"{shop.url}/images/{n}.jpg",
            reason="Popular right now",
        )
        for n in range(6)
    )
    return Context(
        shop=shop,
        customer={"first_name": f"Customer {number}"},
        locale="en-GB",
        products=products,
        message_id=f"{number:032x}",
        unsubscribe_url=f"https://m.example/u{number:035d}",
        preferences_url=f"https://m.example/p{number:035d}",
        view_url=f"https://m.example/v{number:035d}",
        click_url=f"https://m.example/c{number:035d}",
    )
