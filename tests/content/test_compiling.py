"""MJML and CSS are compiled once, and every Jinja tag keeps its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from controltower.content import templates
from controltower.content.message import Context
from controltower.errors import BadSpec

TEXT = "<mj-section><mj-column><mj-text>{}</mj-text></mj-column></mj-section>"

Write = Callable[[str], Path]
Make = Callable[..., Context]


def html(folder: Path, context: Context) -> str:
    return templates.load(folder, "x").email(context, "subject").html


def test_a_loop_of_table_rows_stays_in_its_table(write_template: Write, make_context: Make) -> None:
    folder = write_template(
        "<mj-section><mj-column><mj-table><tbody>"
        "{% for p in products %}<tr>{% if p.reason %}<td id='r'>{{ p.title }}</td>{% else %}<td>-</td>{% endif %}</tr>"
        "{% endfor %}</tbody></mj-table></mj-column></mj-section>"
    )
    got = html(folder, make_context("en"))
    rows = re.search(r"<tbody>((?:<tr><td[^>]*>[^<]*</td></tr>)+)</tbody></table>", got)
    assert rows
    assert re.findall(r">([^<]+)</td>", rows[1])[-2:] == ["Lunch bag red retrospot", "-"]
    assert len(re.findall("<tr>", rows[1])) == 6


def test_a_loop_that_closes_in_another_element_is_refused(write_template: Write) -> None:
    # HTML parsers put the rows, and the loop's end with them, into a <tbody> that the loop's start is not in.
    folder = write_template(
        "<mj-section><mj-column><mj-table>\n{% for p in products %}<tr><td>{{ p.title }}</td></tr>{% endfor %}"
        "</mj-table></mj-column></mj-section>"
    )
    with pytest.raises(BadSpec, match=r"email/x.mjml:3: {% for %} opens in another element.*tbody"):
        templates.load(folder, "x")


def test_loops_over_sections_columns_and_words(write_template: Write, make_context: Make) -> None:
    folder = write_template(
        "{% for pair in products | batch(2) %}<mj-section><mj-group>{% for p in pair %}"
        '<mj-column width="50%"><mj-text><b>{{ p.title }}</b>{% for c in "ab" %}<i>{{ c }}</i>{% endfor %}</mj-text>'
        '<mj-button href="{{ p.url }}">go</mj-button></mj-column>{% endfor %}</mj-group></mj-section>{% endfor %}'
    )
    context = make_context("en")
    got = html(folder, context)
    assert re.findall(r"<b>([^<]+)</b><i>a</i><i>b</i>", got) == [
        p.title.replace("'", "&#39;") for p in context.products
    ]
    assert re.findall(r'<a href="([^"]+)"', got) == [p.url for p in context.products]
    assert got.count("<div") == got.count("</div>")
    assert got.count("<!--[if") == got.count("<![endif]-->")


def test_signs_of_html_in_tags_and_comments_survive(write_template: Write, make_context: Make) -> None:
    folder = write_template(
        "<!-- isn't <shown> -->"
        + TEXT.format(
            '{# gone " < #}{% if 1 < 2 and "<p>" != "&" %}{{ "}}" }}{% endif %}{{ \'a"b\' }} &nbsp;'
            "<a href=\"https://x.example/?a=1&amp;b=2\" title=\"{{ 'x' if products else '>' }} > y\">l</a><br>"
        )
    )
    got = html(folder, make_context())
    assert "}}a&#34;b &nbsp;" in got
    assert 'href="https://x.example/?a=1&amp;b=2" title="x > y"' in got.replace("x &gt; y", "x > y")


def test_styles_are_inlined_once_and_media_rules_kept(write_template: Write, make_context: Make) -> None:
    folder = write_template(TEXT.format('<p class="a">x</p>'))
    path = folder / "email/x.mjml"
    head = "<mj-head><mj-style>.a{color:red} @media (prefers-color-scheme: dark){.a{color:white}}</mj-style></mj-head>"
    path.write_text(path.read_text().replace("<mj-body>", head + "<mj-body>"))
    got = html(folder, make_context())
    assert re.search(r'<p class="a" style="[^"]*color: ?red', got)
    assert "@media (prefers-color-scheme: dark)" in got
    assert "fonts.googleapis" not in got


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (TEXT.format("\n{% for p in products %}x"), r"email/x.mjml:3: Unexpected end of template"),
        (TEXT.format("\n\n{{ producs }}"), r"email/x.mjml:4: 'producs' is unknown"),
        (TEXT.format("{{ t | nofilter }}"), r"email/x.mjml:2: No filter named 'nofilter'"),
        (TEXT.format("{{ t | safe }}"), r"email/x.mjml:2: No filter named 'safe'"),
        (TEXT.format("{% autoescape false %}x{% endautoescape %}"), r"x.mjml:2: {% autoescape %} can't be used"),
        (TEXT.format("{% include 'a' %}"), r"x.mjml:2: {% include %} can't be used"),
        (TEXT.format("<a {% if t %}href='x'{% endif %}>y</a>"), r"x.mjml:2: {% if %} stands inside an element's tag"),
        ("<mj-section>\n{{ locale }}</mj-section>", r"x.mjml:2: text stands directly in <mj-section>"),
        ("<mj-section><mj-column>\n<mj-txt>x</mj-txt></mj-column></mj-section>", r"x.mjml:3: <mj-txt> is no MJML"),
        ("<mj-section><mj-column>\n</mj-section>", r"x.mjml:3: </mj-section> closes what is not open"),
        (TEXT.format("<b>{% if t %}</b>{% endif %}"), r"x.mjml:2: {% if %} opens in another element"),
        ('\n<mj-include path="partials/none.mjml" />', r"x.mjml:3: there is no email/partials/none.mjml"),
        ('<mj-include path="../locales/en.yaml" />', r"x.mjml:2: ../locales/en.yaml is outside"),
        ('<mj-include path="x.mjml" />', r"email/x.mjml includes itself"),
        ("<mj-section><mj-column><mj-text color=red>x</mj-text></mj-column></mj-section>", r"x.mjml: the MJML"),
    ],
)
def test_a_broken_template_tells_file_and_line(body: str, says: str, write_template: Write) -> None:
    with pytest.raises(BadSpec, match=says):
        templates.load(write_template(body), "x")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (TEXT.format("\n{{ customer.nickname }}"), r"email/x.mjml:3: 'dict object' has no attribute 'nickname'"),
        (TEXT.format("\n\n{{ t('no.such') }}"), r"email/x.mjml:4: No locale file has a text for 'no.such'"),
        (TEXT.format("{{ t('footer.why') }}"), r"email/x.mjml:2: The text 'footer.why' needs 'shop'"),
        (TEXT.format("{{ shop.__class__ }}"), r"email/x.mjml:2: access to attribute '__class__'.* is unsafe"),
        (TEXT.format("{% for p in products %}\n{{ p.__class__ }}{% endfor %}"), r"x.mjml:3: access to attribute"),
        (TEXT.format("{{ customer.first_name + 1 }}"), r"email/x.mjml:2: TypeError. Check"),
        (TEXT.format("{{ customer.first_name | batch(2) | first | int | round('x') }}"), r"x.mjml:2: "),
        (TEXT.format("{{ customer.email }}"), r"email/x.mjml:2: 'dict object' has no attribute 'email'"),
    ],
)
def test_what_fails_while_rendering_tells_the_line_and_no_data(
    body: str, says: str, write_template: Write, make_context: Make
) -> None:
    template = templates.load(write_template(body), "x")
    with pytest.raises(BadSpec, match=says) as raised:
        template.email(make_context(customer={"first_name": "Zorro", "email": "z@x.example"}), "s")
    assert "Zorro" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_errors_in_partials_and_text_parts_name_them(folder: Path, make_context: Make) -> None:
    footer = folder / "email/partials/footer.mjml"
    was = footer.read_text()
    footer.write_text(was.replace("shop.sender.name", "shop.sender.nam"))
    line = was[: was.index("shop.sender.name")].count("\n") + 1
    with pytest.raises(BadSpec, match=rf"email/partials/footer.mjml:{line}: .*'nam'"):
        templates.load(folder, "win_back").email(make_context(), "s")
    footer.write_text(was)
    (folder / "email/partials/footer.txt").write_text("\n{{ shop.nam }}")
    with pytest.raises(BadSpec, match=r"email/partials/footer.txt:2: .*'nam'"):
        templates.load(folder, "win_back").email(make_context(), "s")
