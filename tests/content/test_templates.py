"""What every rendered message keeps: escaping, headers, labels, languages, and a hash of what it was made of."""

from __future__ import annotations

import html as html_module
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from content.conftest import MESSAGE_ID, TEMPLATES
from controltower.content import templates
from controltower.content.message import GMAIL_CLIPS_AT, Context, Email, Product
from controltower.content.templates import check, load
from controltower.errors import BadSpec
from controltower.shop import Shop
from hypothesis import given, settings
from hypothesis import strategies as st

Make = Callable[..., Context]
DESIGNS = ["win_back", "picked_for_you"]
SUBJECT = "{{ customer.first_name or 'you' }}"

NASTY = st.one_of(
    st.sampled_from(
        [
            "{{7*7}}", "{% for x in y %}", "<script>alert(1)</script>", '"><img src=x onerror=1>', "ctjinja0z", " ",
            "<!--ctjinja1z-->", "👩\u200d👩\u200d👧\u200d👦🇰🇷", "\u202eابجد", "x" * 300, "김\r\nBcc: a@b.example",
            "a\x00b", "&amp;", "{name}", "javascript:alert(1)",
        ]
    ),
    st.text(max_size=300),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(name=NASTY, title=NASTY)
def test_what_customers_and_catalogues_bring_comes_out_as_text(make_context: Make, name: str, title: str) -> None:
    context = make_context("en", customer={"first_name": name}, advertisement=True)
    product = replace(context.products[0], title=title, reason=title, url=title, image_url=title)
    context = context._replace(products=(product, *context.products[1:3]))
    template = load(TEMPLATES, "win_back")
    email = template.email(context, SUBJECT, "{{ products[0].title }}")
    push = template.push(context, SUBJECT, "{{ products[0].title }}")
    plain = template.email(make_context("en", count=3, advertisement=True), "x")
    assert structure(email) == structure(plain)
    for line in (email.subject, push.title, push.body.split("\n")[0]):
        assert line.isprintable() or not any(c in line for c in "\r\n\x00\x0b\x85\u2028")
    assert "49" not in email.subject or "49" in name
    assert len(email.subject) <= templates.SUBJECT_LENGTH
    assert email.subject.startswith("(광고) ")
    email.html.encode()
    assert push.data["message_id"] == MESSAGE_ID
    assert push.url.startswith("https://")


def structure(email: Email) -> list[str]:
    """The document's elements in order, without pictures and reasons, which depend on the product."""
    found: list[str] = []

    class Walk(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            names = sorted(a for a, _ in attrs)
            if tag in {"script", "img"}:
                found.append(f"{tag} {names}")
            assert not any(a.startswith("on") for a in names)
            assert not (dict(attrs).get("href") or "https://").lower().startswith("javascript")

    Walk().feed(email.html)
    return found


def test_markup_in_a_name_is_shown_literally(make_context: Make) -> None:
    context = make_context("en", customer={"first_name": "{{7*7}} <b>&"})
    email = load(TEMPLATES, "win_back").email(context, SUBJECT)
    assert email.subject == "{{7*7}} <b>&"  # a header is not HTML
    assert "{{7*7}} &lt;b&gt;&amp;, we" in email.html
    assert "{{7*7}} <b>&, we'd love" in email.text


@pytest.mark.parametrize("design", DESIGNS)
def test_headers_and_footer(design: str, make_context: Make) -> None:
    context = make_context("ko")
    email = load(TEMPLATES, design).email(context, "제목")
    assert email.headers == {
        "List-Unsubscribe": "<https://m.example/u-token>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    sender = context.shop.sender
    for part in (html_module.unescape(email.html), email.text):
        for shown in (sender.name, sender.contact, sender.postal_address, "수신거부", "수신에 동의", "시연용 데이터"):
            assert shown in part
        assert part.count(context.unsubscribe_url) == 1
    assert not email.clipped
    real = context._replace(shop=context.shop.model_copy(update={"simulated": []}))
    assert "시연용" not in load(TEMPLATES, design).email(real, "제목").html


@pytest.mark.parametrize(
    "subject",
    ["봄 세일", "(광고) 봄 세일", "[광고] 봄 세일", "(광 고)봄 세일", "( 광고 ) (광고) 봄 세일", "（광.고）봄 세일"],
)
def test_the_label_is_there_once_in_the_lawful_form(subject: str, make_context: Make) -> None:
    template = load(TEMPLATES, "picked_for_you")
    assert template.email(make_context(), subject).subject == "(광고) 봄 세일"
    push = template.push(make_context(), subject, "본문")
    assert push.title == "(광고) 봄 세일"
    assert push.body == "본문\n하루상점 Haru 02-000-0000 · 수신거부: 앱 설정 > 알림"


def test_no_label_without_need(make_context: Make) -> None:
    context = make_context("en")
    assert load(TEMPLATES, "win_back").email(context, "광고 없는 하루").subject == "광고 없는 하루"
    assert load(TEMPLATES, "win_back").push(context, "Hi", "there").body == "there"


@pytest.mark.parametrize(
    ("locale", "shop_locale", "language", "price"),
    [
        ("ko-KR", "en", "ko", "12,300원"),
        ("ko_KR", "en", "ko", "12,300원"),
        ("EN-us", "ko", "en", "₩12,300"),
        ("fr-FR", "ko", "ko", "12 300 ₩"),
        ("", "ko", "ko", "12,300원"),
        ("fr", "de", "en", "12 300 ₩"),
    ],
)
def test_languages_fall_back_to_the_shops_then_english(
    locale: str, shop_locale: str, language: str, price: str, make_context: Make, korean_shop: Shop
) -> None:
    shop = korean_shop.model_copy(update={"locale": shop_locale})
    products = (Product("P1", "우산", Decimal("12300.0000"), "KRW", None, None),)
    email = load(TEMPLATES, "win_back").email(make_context("ko", shop=shop, locale=locale, products=products), "s")
    assert f'lang="{language}"' in email.html
    assert ("수신거부" in email.html) == (language == "ko")
    assert price in email.text.replace("\u202f", " ").replace("\u00a0", " ")


def test_a_missing_text_falls_back_by_itself(folder: Path, make_context: Make) -> None:
    path = folder / "locales/ko.yaml"
    path.write_text(path.read_text().replace("button: 다시 둘러보기", "buttom: 다시 둘러보기"))
    assert "Have a look around" in load(folder, "win_back").email(make_context("ko"), "s").html


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("design", DESIGNS)
def test_any_number_of_products(design: str, count: int, make_context: Make) -> None:
    email = load(TEMPLATES, design).email(make_context("en", count=count, customer={"first_name": None}), "s")
    for number in range(6):
        assert (f"/products/P{number}" in email.html) == (f"/products/P{number}" in email.text) == (number < count)
    assert email.html.count("<td") == email.html.count("</td>")
    assert email.html.count("<div") == email.html.count("</div>")


def test_the_same_content_compiles_once(folder: Path) -> None:
    assert load(folder, "win_back") is load(folder, "win_back")
    assert load(folder, "win_back") is load(TEMPLATES, "win_back")


@pytest.mark.parametrize(
    "changed",
    [
        "email/win_back.mjml", "email/win_back.txt", "email/partials/footer.mjml", "email/partials/product_words.mjml",
        "email/partials/footer.txt", "push/win_back.yaml", "locales/ko.yaml", "locales/en.yaml",
    ],
)  # fmt: skip
def test_the_hash_changes_with_every_source(changed: str, folder: Path) -> None:
    before = load(folder, "win_back").content_hash
    path = folder / changed
    path.write_text(path.read_text() + "\n")
    assert load(folder, "win_back").content_hash != before


def test_the_hash_stays_where_a_file_takes_no_part(folder: Path) -> None:
    before = load(folder, "win_back").content_hash
    (folder / "email/picked_for_you.txt").write_text("other")
    (folder / "email/partials/unused.mjml").write_text("<mj-text>x</mj-text>")
    assert load(folder, "win_back").content_hash == before


def test_a_new_locale_is_a_new_file(folder: Path, make_context: Make) -> None:
    (folder / "locales/de.yaml").write_text("footer: {unsubscribe: Abmelden}\n")
    email = load(folder, "win_back").email(make_context("en", locale="de-AT"), "s")
    assert "Abmelden" in email.html
    assert "Preferences" in email.html


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("nothing", None, r"no template 'nothing' in .*There are picked_for_you.*, win_back"),
        ("../x", None, r"'../x' is no name"),
        ("win_back", ("locales/ko.yaml", "a: [1"), r"locales/ko.yaml:1: this is not valid YAML"),
        ("win_back", ("locales/ko.yaml", "a: 1"), r"locales/ko.yaml: a is 1, not a text"),
        ("win_back", ("locales/ko.yaml", "- a"), r"locales/ko.yaml: a locale file holds keys"),
        ("win_back", ("email/win_back.mjml", "<p>x</p>"), r"win_back.mjml: this is no MJML document"),
        ("win_back", ("email/win_back.mjml", ""), r"win_back.mjml: this is no MJML document"),
        ("win_back", ("email/win_back.mjml", b"\xff\xfe"), r"win_back.mjml is not UTF-8"),
        ("win_back", ("email/win_back.txt", None), r"email/win_back.txt is missing"),
        ("win_back", ("email/win_back.txt", "\n{{ x }}"), r"email/win_back.txt:2: 'x' is unknown"),
        ("win_back", ("email/partials/footer.mjml", None), r"win_back.mjml:\d+: there is no email/partials/footer"),
        ("win_back", ("locales/en.yaml", None), r"locales/en.yaml is missing"),
        ("win_back", ("push/win_back.yaml", "link: x"), r"push/win_back.yaml: link is unknown"),
        ("win_back", ("push/win_back.yaml", "data: {from: x}"), r"FCM keeps the name data.from"),
    ],
)
def test_broken_files_give_one_clear_error(
    name: str, spoil: tuple[str, str | bytes | None] | None, says: str, folder: Path
) -> None:
    if spoil:
        path, content = folder / spoil[0], spoil[1]
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadSpec, match=says):
        load(folder, name)


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("{{ customer.first_name", r"'{{ customer.first_name':1: unexpected end"),
        ("{{ first_name }}", r"'first_name' is unknown"),
        ("{{ customer.first_name }}", r"is empty for some customers"),
        ("{{ products[99].title }}", r"no element 99"),
        ("{{ ''.__class__.__mro__ }}", r"unsafe"),
        ("{{ 'a' if ''[0] else 'b' }}", r"no element 0"),
    ],
)
def test_preflight_finds_broken_lines(subject: str, says: str, english_shop: Shop) -> None:
    with pytest.raises(BadSpec, match=says):
        check(load(TEMPLATES, "win_back"), english_shop, emails=[(subject, "")])
    with pytest.raises(BadSpec, match=says):
        check(load(TEMPLATES, "win_back"), english_shop, pushes=[(subject, "body")])


def test_an_inline_if_needs_no_else(make_context: Make) -> None:
    template, line = load(TEMPLATES, "win_back"), """Hi{{ ' "you"' if customer.first_name == 'Emma' }}"""
    assert template.email(make_context("en"), line).subject == 'Hi "you"'
    assert template.email(make_context("en", customer={}), line).subject == "Hi"


@pytest.mark.parametrize("design", DESIGNS)
def test_preflight_passes_our_own(design: str, english_shop: Shop, korean_shop: Shop) -> None:
    for shop in (english_shop, korean_shop):
        assert check(load(TEMPLATES, design), shop) == []


def test_preflight_wants_the_imprint(folder: Path, english_shop: Shop) -> None:
    path = folder / "email/partials/footer.mjml"
    path.write_text(path.read_text().replace("{{ shop.sender.postal_address }}", ""))
    with pytest.raises(BadSpec, match=r"win_back.mjml doesn't show shop.sender.postal_address"):
        check(load(folder, "win_back"), english_shop)


def test_preflight_tells_of_clipped_mails(folder: Path, english_shop: Shop, make_context: Make) -> None:
    path = folder / "email/partials/footer.mjml"
    path.write_text(path.read_text().replace("</mj-column>", f"<mj-text>{'x' * GMAIL_CLIPS_AT}</mj-text></mj-column>"))
    assert any("Gmail" in warning for warning in check(load(folder, "win_back"), english_shop))
    assert load(folder, "win_back").email(make_context(), "s").clipped
