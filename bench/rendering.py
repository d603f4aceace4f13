"""CPU per six-product mail: MJML and CSS compiled once, beside compiling them for every mail; then split into a layout
and substitutions, beside rendering it whole."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import css_inline
import mrml
from controltower.content import templates
from controltower.content.links import Destinations, utm
from controltower.content.message import Context, Email, Product, SplitEmail
from controltower.content.sources import MJML_INCLUDE, Sources, read_sources
from controltower.content.splitting import Splitter
from controltower.content.values import template_values
from controltower.settings import INCLUDE, parse_shop
from controltower.shop import Shop
from jinja2 import Environment

FOLDER = INCLUDE / "templates"
NAME = "win_back"
LINES = ("{{ customer.first_name }}, it has been a while", "Six things")
PAIRS, MAILS, NAIVE_MAILS = 5, 300, 30
_Way = Callable[[list[Context]], Any]


def run() -> list[dict[str, Any]]:
    contexts = [_context(number) for number in range(MAILS)]
    template = templates.load(FOLDER, NAME)
    leading = _destinations(NAME)
    ours, naive = _pairs(
        _each(lambda c: template.email(c, *LINES, leading)), _each(_naive_way()), contexts, NAIVE_MAILS
    )
    rows = [
        {"name": "render a six-product mail (HTML, text, subject), CPU", "value": ours, "unit": "µs", "naive": naive}
    ]
    return rows + [row for name in ("win_back", "picked_for_you") for row in _split(name, contexts)]


def _split(name: str, contexts: list[Context]) -> list[dict[str, Any]]:
    template, leading = templates.load(FOLDER, name), _destinations(name)
    group = Splitter(template).group(contexts[0], *LINES, leading)
    split = group.split(contexts)[-1]  # a campaign's first messages find the layouts, and fill the catalogue's share
    assert isinstance(split, SplitEmail)
    ours, naive = _pairs(group.split, _each(lambda c: template.email(c, *LINES, leading)), contexts, MAILS)
    whole = split.whole()
    bytes_whole = len(json.dumps([whole.subject, whole.html, whole.text], ensure_ascii=False).encode())
    bytes_split = len(json.dumps(split.substitutions, ensure_ascii=False, separators=(",", ":")).encode())
    return [
        {"name": f"split {name}, beside rendering it whole, CPU", "value": ours, "unit": "µs", "naive": naive},
        {"name": "  what it adds to a request", "value": bytes_split, "unit": "B", "naive": bytes_whole},
    ]


def _each(render: Callable[[Context], Any]) -> _Way:
    return lambda contexts: [render(context) for context in contexts]


def _pairs(ours: _Way, naive: _Way, contexts: list[Context], naive_mails: int) -> tuple[float, float]:
    """Medians of interleaved pairs: the machine is noisy, the naive side most of all."""
    ours(contexts[:10])
    naive(contexts[:10])
    pairs = [(_micros(ours, contexts), _micros(naive, contexts[:naive_mails])) for _ in range(PAIRS)]
    return round(statistics.median(p[0] for p in pairs), 1), round(statistics.median(p[1] for p in pairs), 1)


def _naive_way() -> Callable[[Context], Email]:
    """Fill in the MJML for each customer, then compile it and inline its CSS; Jinja itself is compiled once, and
    neither sandboxed nor strict, in the naive way's favour."""
    template = templates.load(FOLDER, NAME)
    sources = read_sources(FOLDER, NAME)
    env = Environment(autoescape=True)
    env.filters["shorten"] = lambda text, most: text[:most]
    page = env.from_string(_with_partials(sources, f"email/{NAME}.mjml"))
    subject = env.from_string(LINES[0])
    text = template._text
    assert text is not None
    inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)
    translate, leading = template.locales.translator(("en",)), _destinations(NAME)

    def render(context: Context) -> Email:
        values = template_values(context, "en", translate, leading)
        values |= {"subject": subject.render(values), "preheader": LINES[1]}
        html = inliner.inline(mrml.to_html(page.render(values)).content)
        return Email(values["subject"], html, text.render(values))

    return render


def _with_partials(sources: Sources, path: str) -> str:
    return MJML_INCLUDE.sub(lambda m: _with_partials(sources, f"email/{m['path']}"), sources.get(path) or "")


def _destinations(campaign: str) -> Destinations:
    return Destinations(b"k" * 64, utm(_shop(), "email", campaign, "whats_new"))


def _micros(way: _Way, contexts: list[Context]) -> float:
    started = time.process_time()
    way(contexts)
    return (time.process_time() - started) / len(contexts) * 1e6


@cache
def _shop() -> Shop:
    return parse_shop(INCLUDE / "shops" / "online-retail.yaml")


@cache  # a catalogue's products return, as in a campaign
def _product(number: int) -> Product:
    return Product(
        product_id=f"P{number}",
        title=f"Product {number} of the catalogue",
        price=Decimal(number) / 4,
        currency="GBP",
        url=f"{_shop().url}/products/{number}",
        image_url=f"{_shop().url}/images/{number}.jpg",
        reason="Popular right now",
    )


def _context(number: int) -> Context:
    return Context(
        shop=_shop(),
        customer={"first_name": f"Customer {number}"},
        locale="en-GB",
        products=tuple(_product((number * 7 + n) % 500) for n in range(6)),
        message_id=f"{number:032x}",
        unsubscribe_url=f"https://m.example/u{number:035d}",
        preferences_url=f"https://m.example/p{number:035d}",
        view_url=f"https://m.example/v{number:035d}",
        click_url=f"https://m.example/c{number:035d}",
    )
