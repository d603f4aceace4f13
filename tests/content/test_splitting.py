"""Both ways give each customer the same bytes: split and put together again, or made whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from content.conftest import TEMPLATES
from controltower.content import filling, splitting, templates
from controltower.content.links import Destinations, utm
from controltower.content.message import Context, Email, Product, SplitEmail
from controltower.content.splitting import Group, Splitter
from controltower.content.templates import Template
from controltower.errors import BadSpec
from controltower.sandbox import mail_fields, rendering
from controltower.shop import Shop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Make = Callable[..., Context]
LINES = ("{{ customer.first_name or 'Hello' }}, for you", "{{ products[0].title if products else shop.name }}")

WORDS = st.one_of(
    st.sampled_from(
        [
            "Emma", "", " ", "지우", "{{ 7*7 }}", "{% raw %}", "<b>&\"'</b>", "&amp;", "-a0-",
            "-name-", "--", "%s{name}",
            "x" * 300, "가" * 300, "\u202eابجد", "👩\u200d👩\u200d👧\u200d👦🇰🇷", "a\r\nb", "a\x00b", "a  b ", "\u2028",
            "(광고) x",
            "[Unsubscribe]", "<% asm %>", "\\1\\g<0>", "0", "9", "gold", "Z",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
PAGES = st.none() | st.sampled_from(
    ["https://shop.example/p?a=1&b=<2>#x", "https://shop.example/상품", "javascript:1", "https://shop.example/p1", " "]
)
PRODUCTS = st.builds(
    Product,
    product_id=st.sampled_from(["P1", "P2", "p&3", "P;4=", "상품", "P6"]),
    title=WORDS,
    price=st.sampled_from([Decimal("12300"), Decimal("0.5"), Decimal("1202.95")]),
    currency=st.sampled_from(["KRW", "GBP"]),
    url=PAGES,
    image_url=PAGES,
    reason=st.none() | WORDS,
)
VALUES = st.one_of(st.none(), WORDS, st.integers(-3, 100), st.just(2.5))
CUSTOMERS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("first_name", "last_name", "loyalty_tier", "points", "items"), VALUES)
)
CHANGES = st.fixed_dictionaries(
    {
        "customer": CUSTOMERS,
        "products": st.lists(PRODUCTS, max_size=4).map(tuple),
        "locale": st.sampled_from(["", "ko-KR", "en-GB", "en_US", "fr", "<x>"]),
        "advertisement": st.booleans(),
        "click_url": st.sampled_from(["https://m.example/c-token", "https://m.example/?a&c"]),
        "message_id": st.sampled_from(["0" * 32, "1" * 32]),
    }
)
# Some have what others have, so that columns hold both what is alike and what isn't.
SOME_CHANGES = st.lists(CHANGES, min_size=1, max_size=4).flatmap(
    lambda some: st.permutations([*some, *({**change, "customer": {"first_name": "Emma"}} for change in some)])
)

# What templates may do, each way of it once: those that split, by (MJML, plain text).
SPLITTABLE = {
    "ifs": (
        "{% if customer.first_name %}<mj-text>{{ customer.first_name }}</mj-text>"
        "{% elif customer.loyalty_tier == 'gold' %}<mj-text>Gold</mj-text>"
        "{% else %}<mj-text>{{ customer.points }}</mj-text>{% endif %}",
        "{% if customer.points is number and customer.points > 2 %}many{% endif %}\n{{ customer.last_name }}\n\n\nend",
    ),
    "inline": (
        "<mj-text css-class=\"{{ 'a' if customer.first_name else 'b' }}\">"
        "{{ (customer.first_name or 'you') | shorten(9) }} {{ 'x' ~ customer.last_name ~ 1 }}"
        " {{ customer.first_name and customer.last_name }} {{ not customer.points }}</mj-text>",
        "{{ products[0].title if products else 'none' }} {{ 'a' if customer.points in [1, 2, 'gold'] else 'b' }}",
    ),
    "loops": (
        "{% for p in products if p.reason %}<mj-text>{{ loop.index }}/{{ loop.length }} {{ p.title | shorten(20) }}"
        " {{ p.url }} {{ loop.cycle('odd', p.price) }}</mj-text>{% else %}<mj-text>none</mj-text>{% endfor %}",
        "{% for pair in products | batch(2) %}{% for p in pair %}{{ p.title }}{% if not loop.last %}, {% endif %}"
        "{% endfor %};{% endfor %}\n{% for letter in customer.loyalty_tier %}{{ letter }}.{% endfor %}"
        "\n{{ products | count }}",
    ),
    "filters": (
        "<mj-text>{{ customer.first_name | upper | replace('A', '<i>') }} {{ customer.last_name | e }}"
        " {{ customer.points | default('none', true) }} {{ customer.first_name | urlencode }}"
        " {{ products | map(attribute='title') | join('<, >') }} {{ customer.first_name | length }}</mj-text>",
        "{{ customer.first_name | trim | title }}|{{ customer.last_name | truncate(5) }}|{{ customer.first_name[:3] }}|"
        "{{ [customer.first_name, 'b'] | sort | join(' ') }}|{{ '%-9s' | format(customer.first_name) }}|"
        "{{ products | sort(attribute='title') | map(attribute='price') | join }}|{{ customer.first_name.upper() }}|"
        "{{ {'gold': 1}.get('gold') }}",
    ),
    "scopes": (
        "{% set n = customer.first_name %}{% with m = n ~ '!' %}<mj-text>{{ m }}{{ n }}</mj-text>{% endwith %}",
        "{% set x = 'a' %}{% for p in products %}{% set x = p.title %}{{ x }}{% endfor %}{{ x }}\n"
        '{% with grid = products[1:] %}{% include "partials/products.txt" %}{% endwith %}',
    ),
    "comparisons": (
        "{% if customer.loyalty_tier >= 'gold' and customer.loyalty_tier != 'Z' %}"
        "<mj-text>{{ customer.last_name }}</mj-text>{% endif %}"
        "<mj-text>{{ 'o' in customer.loyalty_tier }} {{ customer.points == 9 }}</mj-text>",
        "{% if customer.first_name == customer.last_name %}same{% else %}{{ customer.first_name }}{% endif %}\n"
        "{% for p in products %}{{ p.price < 'B' }}{% if p.title in ['Z', customer.first_name] %}!{% endif %}"
        "{% endfor %}",
    ),
    "arithmetic": (
        "<mj-text>{{ customer.points is number }} {{ (customer.points | int) * 2 + 1 }} {{ -(customer.points | int) }}"
        " {{ '%s!' % customer.first_name }} {{ products | length - 1 }}</mj-text>",
        "{{ (customer.points | int) // 2 }} {{ 'a' * (customer.points | int % 3) }}.",
    ),
    "attributes": (
        "<mj-text>{{ customer['first_name'] }} {{ customer.items is defined }} {{ customer.nothing is defined }}"
        " {{ customer.nothing | default('none') }} {{ products[0]['title'] if products }}</mj-text>",
        "{{ t('footer.why', shop=customer.first_name) }} {{ t('footer.stop') }} {{ locale }} {{ language }}"
        " {{ message_id }}",
    ),
    "edges": (
        "<mj-text>{{ subject }}{{ preheader }}{{ unsubscribe_url }}{{ advertisement }}</mj-text>",
        "{{ customer.first_name }}{{ customer.last_name }}   \n\n  {{ customer.loyalty_tier }}\n\n{{ shop_url }}"
        "\n{{ subject }} ",
    ),
    "unused": (
        "{% set a = 1 / (customer.first_name | length) %}{% set b = customer.points > 3 %}<mj-text>x</mj-text>",
        "{{ customer.first_name or customer.points + 1 }}"
        "{% if customer.last_name and customer.points > 3 %}x{% endif %}",
    ),
    "bare": (
        "<mj-text>{{ products }} {{ customer.first_name }}</mj-text>",
        "{{ [customer.first_name, 1] }} nothing else",
    ),
}
# What needs a value itself: the whole template stays whole.
UNSPLITTABLE = {
    "set block": "{% set x %}{{ customer.first_name }}{% endset %}{{ x | upper }}",
    "macro": "{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(customer.first_name) | length }}",
    "filter block": "{% filter upper %}{{ customer.first_name }}{% endfilter %}",
    "call block": "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ customer.first_name }}{% endcall %}",
    "autoescape": "{% autoescape true %}{{ customer.first_name }}{% endautoescape %}",
    "recursion": "{% for p in products recursive %}{{ p.title }}{% endfor %}",
    "random": "{{ [1] | random }}",
    "undeclared filter": "{{ customer.first_name | pprint }}",
    "grouping": "{{ products | groupby('title') | length }}",
    "format": "{{ '{}'.format(customer.first_name) }}",
    "join": "{{ ', '.join([customer.first_name]) }}",
    "as a key": "{{ {'Emma': 1}.get(customer.first_name) }}",
    "as a number": "{{ products[: customer.points | int] | length }}",
    "read once": "{% set pairs = products | batch(2) %}{{ pairs | wordcount }}",
}


def destinations(shop: Shop) -> Destinations:
    return Destinations(b"key", utm(shop, "email", "win_back", "a"))


class Both:
    """A template's e-mails both ways."""

    def __init__(self, template: Template, lines: tuple[str, str] = LINES) -> None:
        self.template, self.lines = template, lines
        self.splitter = Splitter(template)

    def group(self, context: Context) -> Group:
        return self.splitter.group(context, *self.lines, destinations(context.shop))

    def __call__(self, context: Context, stays: Callable[[Email], bool] = lambda _: True) -> SplitEmail | Email:
        """The split e-mail, compared with the whole one. BadSpec where both ways end in it."""
        return self._compared(context, *self.group(context).split([context]), stays)

    def together(self, contexts: list[Context], stays: Callable[[Email], bool] = lambda _: True) -> None:
        """All e-mails of each group at once: compared with the whole ones, and the same as one after the other."""
        groups: dict[Group, list[Context]] = {}
        for context in contexts:
            groups.setdefault(self.group(context), []).append(context)
        for group, some in groups.items():
            for context, split in zip(some, group.split(some), strict=True):
                with suppress(BadSpec):
                    self._compared(context, split, stays)
            alone = [group.split([context])[0] for context in some]
            for one, other in zip(group.split(some), alone, strict=True):
                assert one == other or (one and other and not stays(other.whole()))

    def _compared(
        self, context: Context, split: SplitEmail | None, stays: Callable[[Email], bool]
    ) -> SplitEmail | Email:
        """With the whole e-mail (if that `stays`, made again), by our own hand and as the sandbox puts it together."""
        try:
            whole = self.template.email(context, *self.lines, destinations(context.shop))
        except BadSpec:
            assert split is None
            raise
        if split and stays(whole):
            assert split.whole() == whole
            assert set(split.substitutions) == split.layout.tags
            assert len(split.layout.tags) <= splitting.MOST_TAGS
            assert mail_fields.size(split.substitutions) <= filling.MOST_BYTES
            assert filled_in_turn(split) == (whole.subject, whole.html, whole.text)
            received = rendering.mail_as_received(request(split), 0)
            assert (received.subject, received.html, received.text) == (whole.subject, whole.html, whole.text)
        return split or whole


def filled_in_turn(split: SplitEmail) -> tuple[str, ...]:
    """As a provider would that replaces one tag after the other."""
    parts = [split.layout.subject, split.layout.html, split.layout.text]
    for tag, value in split.substitutions.items():
        parts = [part.replace(tag, value) for part in parts]
    return tuple(parts)


def request(split: SplitEmail) -> dict[str, Any]:
    layout = split.layout
    content = [{"type": "text/plain", "value": layout.text}, {"type": "text/html", "value": layout.html}]
    one = {"to": [{"email": "a@b.example"}], "substitutions": split.substitutions}
    return {"personalizations": [one], "from": {"email": "s@b.example"}, "subject": layout.subject, "content": content}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Both]:
    """The two ways of a small template; one of a kind for all examples, so that layouts are met again."""
    folder = Path(shutil.copytree(TEMPLATES, tmp_path_factory.mktemp("split") / "templates"))
    kept: dict[tuple[str, str], Both] = {}

    def make(body: str, text: str) -> Both:
        if (body, text) not in kept:
            page = f"<mjml><mj-body><mj-section><mj-column>{body}</mj-column></mj-section></mj-body></mjml>"
            (folder / "email/x.mjml").write_text(page, encoding="utf-8")
            (folder / "email/x.txt").write_text(text, encoding="utf-8")
            kept[body, text] = Both(templates.load(folder, "x"))
        return kept[body, text]

    return make


@pytest.fixture(scope="module")
def shipped() -> dict[str, Both]:
    return {name: Both(templates.load(TEMPLATES, name)) for name in ("win_back", "picked_for_you")}


@settings(max_examples=60, deadline=None)
@given(changes=SOME_CHANGES, language=st.sampled_from(["ko", "en"]))
@pytest.mark.parametrize("name", ["win_back", "picked_for_you"])
def test_the_shipped_designs(
    name: str, shipped: dict[str, Both], make_context: Make, changes: list[dict[str, Any]], language: str
) -> None:
    shipped[name].together([make_context(language, **change) for change in changes])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=SOME_CHANGES, language=st.sampled_from(["ko", "en"]))
@pytest.mark.parametrize("name", SPLITTABLE)
def test_whatever_templates_do(
    name: str, made: Callable[[str, str], Both], make_context: Make, changes: list[dict[str, Any]], language: str
) -> None:
    made(*SPLITTABLE[name]).together([make_context(language, **change) for change in changes])


@pytest.mark.parametrize("name", SPLITTABLE)
def test_it_is_split_where_it_can_be(name: str, made: Callable[[str, str], Both], make_context: Make) -> None:
    customer = {"first_name": "Emma", "last_name": "Lee", "loyalty_tier": "silver", "points": 7}
    both = made(*SPLITTABLE[name])
    one, other = (both(make_context("en", customer=customer | {"first_name": n})) for n in ("Emma", "Olga"))
    assert isinstance(one, SplitEmail) and isinstance(other, SplitEmail)
    assert one.layout is other.layout
    assert "Emma" not in one.layout.html + one.layout.text + one.layout.subject


@pytest.mark.parametrize(
    ("name", "where"),
    [
        (name, where)
        for name, source in UNSPLITTABLE.items()
        for where in ("text", "subject", "page")
        if where != "page" or "{%" not in source  # MJML takes no such block
    ],
)
def test_what_needs_a_value_stays_whole(
    name: str, where: str, made: Callable[[str, str], Both], make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = UNSPLITTABLE[name]
    monkeypatch.setattr("random.choice", lambda of: of[0])
    text = source if where == "text" else "text"
    both = made(f"<mj-text>{source if where == 'page' else 'page'}</mj-text>", text)
    both = Both(both.template, (f"{source} x" if where == "subject" else "x", ""))
    for first_name in ("Emma", "Olga", ""):
        context = make_context("en", customer={"first_name": first_name, "points": 2})
        assert isinstance(both(context), Email)
    assert both.splitter.layouts == 1  # tried once, and remembered


def test_the_same_questions_give_the_same_layout(shipped: dict[str, Both], make_context: Make) -> None:
    both = shipped["win_back"]
    layouts = [
        both(make_context("ko", **{"customer": {"first_name": name}, "count": count} | more)).layout  # type: ignore[union-attr]
        for name, count, more in [
            ("지우", 6, {}), ("민지", 6, {}), ("민지", 6, {"locale": "ko"}), ("", 6, {}), ("민지", 5, {}),
            ("민지", 6, {"advertisement": False}), ("민지", 6, {"locale": "en"}),
        ]
    ]  # fmt: skip
    assert layouts[0] is layouts[1] is layouts[2]
    assert len(set(layouts)) == 5


def test_a_mail_of_six_products_is_small(shipped: dict[str, Both], make_context: Make) -> None:
    for both in shipped.values():
        for language in ("ko", "en"):
            split = both(make_context(language))
            assert isinstance(split, SplitEmail)
            assert mail_fields.size(split.substitutions) < 5_000
            assert len(split.layout.html.encode()) > 30_000


def test_threads_may_share_a_splitter(shipped: dict[str, Both], make_context: Make) -> None:
    both = Both(shipped["picked_for_you"].template)
    contexts = [
        make_context(language, count=count, customer={"first_name": name}, advertisement=label)
        for language in ("ko", "en") for count in range(7) for name in ("", "Emma") for label in (True, False)
    ]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda context: both.group(context).split([context])[0], contexts * 3))
    for context, email in zip(contexts * 3, found, strict=True):
        assert isinstance(email, SplitEmail)
        assert email.whole() == both.template.email(context, *LINES, destinations(context.shop))


def test_headers_are_each_customers_own(shipped: dict[str, Both], make_context: Make) -> None:
    split = shipped["win_back"](make_context("en", unsubscribe_url="https://m.example/u-own"))
    assert split.headers["List-Unsubscribe"] == "<https://m.example/u-own>"


@pytest.mark.parametrize("what", ["first_name", "last_name", "title", "reason", "preheader"])
def test_values_that_hold_a_tag_stay_whole(what: str, made: Callable[[str, str], Both], make_context: Make) -> None:
    """A nonce is drawn at random, and nobody outside sees one; whoever knows it gains nothing."""
    page = (
        "<mj-text>{{ customer.first_name }} {{ preheader }} {{ products[0].title }} {{ products[0].reason }}</mj-text>"
    )
    both = made(page, "{{ customer.last_name }}")
    both = Both(both.template, ("x", "{{ customer.loyalty_tier or 'x' }}"))
    plain = {"first_name": "Emma", "last_name": "Lee"}
    first = both(make_context("en", customer=plain))
    assert isinstance(first, SplitEmail)
    for tag in (*sorted(first.layout.tags), both.group(make_context("en", customer=plain)).tags.nonce):
        context = make_context("en", customer=plain | {"loyalty_tier" if what == "preheader" else what: f"a {tag} b"})
        if what in ("title", "reason"):
            shown = replace(context.products[0], **{what: f"a {tag} b"})
            context = context._replace(products=(shown, *context.products[1:]))
        assert isinstance(both(context), Email)


def test_a_nonce_that_the_design_holds_is_noticed(
    made: Callable[[str, str], Both], make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "draw_nonce", lambda: "center")
    template = made("<mj-text>{{ customer.first_name }} -center0-</mj-text>", "x").template
    assert isinstance(Both(template, ("x", ""))(make_context("en")), Email)
    other = made("<mj-text>{{ customer.first_name }}</mj-text>", "{{ customer.last_name }} center").template
    assert isinstance(Both(other, ("x", ""))(make_context("en", customer={"last_name": "Lee"})), Email)
    monkeypatch.setattr(splitting, "draw_nonce", lambda: "middle")
    assert isinstance(Both(template, ("x", ""))(make_context("en")), SplitEmail)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Emma", True),
        ("", False),
        ("a\u2028b", False),
        ("a\x85b", False),
        ("a b", True),
        ("{{ x }}", True),
        ("<b>", True),
    ],
)
def test_the_text_part_keeps_its_lines(
    name: str, split: bool, made: Callable[[str, str], Both], make_context: Make
) -> None:
    """Lines are put in order after they are filled in, so that what breaks or ends one needs the whole text."""
    both = made("<mj-text>x</mj-text>", "Dear {{ products[0].title }}, this is for {{ customer.first_name }}\n\n\nEnd")
    both = Both(both.template, ("x", ""))
    title = replace(make_context("en").products[0], reason=name)
    text = made("<mj-text>x</mj-text>", "{{ products[0].reason }}\n\nEnd").template
    for template in (both.template, text):
        found = Both(template, ("x", ""))(make_context("en", customer={"first_name": name}, products=(title,)))
        if template is text:
            assert isinstance(found, SplitEmail) == split


def test_layouts_are_limited_and_remembered(
    made: Callable[[str, str], Both], make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []
    plan = Group._plan
    monkeypatch.setattr(splitting, "LAYOUTS", 3)
    monkeypatch.setattr(Group, "_plan", lambda group, trace: (traced.append(1), plan(group, trace))[1])
    both = made("{% for p in products %}{% if p.reason %}<mj-text>{{ p.reason }}</mj-text>{% endif %}{% endfor %}", "x")
    both = Both(both.template, ("x", ""))
    found = []
    for _ in range(2):
        for number in range(8):
            base = make_context("en").products
            shown = tuple(replace(base[n], reason="why" if number & 1 << n else None) for n in range(3))
            found.append(isinstance(both(make_context("en", products=shown)), SplitEmail))
    assert found == ([True] * 3 + [False] * 5) * 2
    assert len(traced) == both.splitter.layouts == 3


@pytest.mark.parametrize("sign", ["x", "가", '"', "\\", "<", "👩"])
def test_substitutions_stay_below_the_limit(sign: str, made: Callable[[str, str], Both], make_context: Make) -> None:
    both = made("<mj-text>x</mj-text>", "{{ customer.first_name }}")
    both = Both(both.template, ("x", ""))
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for length in (*range(1900, 2100, 20), 2600, 2700, 3900, 4100, 7900, 8000):
        split = both(make_context("en", customer={"first_name": sign * length}))
        size = mail_fields.size({"-abcdef0-": sign * length})
        sizes[isinstance(split, SplitEmail)].append(size)
    assert max(sizes[True]) <= filling.MOST_BYTES < min(sizes[False])


def test_a_hundred_tags_at_most(made: Callable[[str, str], Both], make_context: Make) -> None:
    for tags, split in ((100, True), (101, False)):
        text = "".join(f"{{{{ customer.first_name ~ {n} | string if customer.points else {n} }}}}" for n in range(tags))
        both = Both(made("<mj-text>x</mj-text>", text).template, ("x", ""))
        assert isinstance(both(make_context("en", customer={"first_name": "Emma", "points": 1})), SplitEmail) == split


def test_what_a_catalogue_shows_is_kept_within_limits(
    shipped: dict[str, Both], make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "MOST_KEPT", 10)
    both = Both(shipped["win_back"].template)
    for price in range(20):
        context = make_context("en")
        products = tuple(replace(p, price=Decimal(price), title=f"{p.title} {price}") for p in context.products)
        assert isinstance(both(context._replace(products=products)), SplitEmail)
        assert len(both.splitter.kept) <= 10


def test_what_a_product_shows_is_made_once_whoever_is_shown_it(shipped: dict[str, Both], make_context: Make) -> None:
    both = Both(shipped["win_back"].template)
    base = make_context("en")
    for _ in range(2):  # at first its way is traced
        assert isinstance(both(base), SplitEmail)
    kept = len(both.splitter.kept)
    assert kept
    assert isinstance(both(base._replace(customer={"first_name": "Olga"}, message_id="0" * 32)), SplitEmail)
    assert len(both.splitter.kept) == kept
    assert isinstance(both(base._replace(products=tuple(map(replace, base.products)))), SplitEmail)
    assert len(both.splitter.kept) == 2 * kept


def test_a_product_is_shown_as_each_locale_writes_it(shipped: dict[str, Both], make_context: Make) -> None:
    """French isn't among the languages: the words are those of the shop's, the prices are French."""
    both, base = Both(shipped["win_back"].template), make_context("en")
    contexts = [base._replace(locale=locale) for locale in ("en-GB", "fr", "en-GB", "fr")]
    assert len(set(map(both.group, contexts))) == 1
    both.together(contexts)


def test_a_customer_who_cannot_be_written_to_is_refused_either_way(
    shipped: dict[str, Both], make_context: Make
) -> None:
    both = Both(shipped["win_back"].template, ("{{ customer.first_name }}", ""))
    assert isinstance(both(make_context("en")), SplitEmail)
    nameless, named = (make_context("en", customer={"first_name": name}) for name in ("", "Emma"))
    with pytest.raises(BadSpec, match="empty for some customers"):
        both(nameless)
    found = both.group(named).split([named, nameless, named, named])  # the others don't suffer by it
    assert [email is not None for email in found] == [True, False, True, True]


def test_a_tag_without_a_value_is_an_error_rather_than_shown(shipped: dict[str, Both], make_context: Make) -> None:
    email = shipped["win_back"](make_context("en"))
    assert isinstance(email, SplitEmail)
    tag, *others = email.substitutions
    with pytest.raises(KeyError, match=tag):
        email.layout.filled(dict.fromkeys(others, ""))
