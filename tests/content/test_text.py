"""Lines, cuts, money, reasons."""

from __future__ import annotations

from decimal import Decimal

import pytest
from controltower.content import reasons
from controltower.content.money import format_money
from controltower.content.text import boundaries, label_advertisement, one_line, shorten
from hypothesis import given
from hypothesis import strategies as st

FAMILY, SCOTLAND, KOREA = "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🇰🇷"


@pytest.mark.parametrize(
    "whole",
    ["한글", "e\u0301a", FAMILY, SCOTLAND, KOREA * 2, "👍🏽", "❤️", "\u1112\u1161\u11ab", "가\u11a8", "क्षि", "\r\n"],
)
def test_nothing_is_cut_within_what_a_reader_sees_as_one(whole: str) -> None:
    expected = {"한글": 2, "e\u0301a": 2, KOREA * 2: 2, "क्षि": 2}.get(whole, 1)
    assert len(list(boundaries(whole))) == expected


@given(st.text(max_size=60), st.integers(1, 30))
def test_shortening_keeps_the_start_and_the_limit(text: str, most: int) -> None:
    short = shorten(text, most)
    assert len(short) <= max(most, 1)
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


def test_cutting_within_a_family_takes_all_of_it() -> None:
    assert shorten(f"ab{FAMILY}c", 8) == "ab…"


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in line)


@given(st.text())
def test_the_label_is_idempotent(text: str) -> None:
    once = label_advertisement(one_line(text))
    assert once.startswith("(광고) ")
    assert label_advertisement(once) == once


@pytest.mark.parametrize(
    ("amount", "currency", "locale", "text"),
    [
        ("12300.0000", "KRW", "ko-KR", "12,300원"),
        ("-12300", "KRW", "ko", "-12,300원"),
        ("12300", "KRW", "en", "₩12,300"),
        ("3.5", "GBP", "en-GB", "£3.50"),
        ("1234.5", "USD", "en-US", "$1,234.50"),
        ("3.5", "USD", "ko", "US$3.50"),
        ("88", "CNY", "zh-CN", "¥88.00"),
        ("88", "CNY", "en", "CN¥88.00"),
        ("1980", "JPY", "ja", "￥1,980"),
        ("1980", "JPY", "en", "¥1,980"),
        ("1234.5", "EUR", "de", "1.234,50 €"),
        ("2", "XYZ", "nowhere", "XYZ2.00"),
        ("2", "GBP", "", "£2.00"),
    ],
)
def test_money(amount: str, currency: str, locale: str, text: str) -> None:
    assert format_money(Decimal(amount), currency, locale).replace("\u00a0", " ") == text


def test_reasons_are_worded() -> None:
    assert reasons.word("because_you_bought", "Party bunting", "en-GB") == "Because you bought “Party bunting”"
    assert reasons.word("because_you_bought", "", "ko-KR") == "구매하신 상품과 어울려요"
    assert reasons.word("viewed_together", "매트", "ko") == "‘매트’ 함께 많이 본 상품"
    assert reasons.word("popular", None, "fr") == "Popular right now"
    assert reasons.word("popular", "{} {0}", "en") == "Popular in {} {0}"
    assert reasons.word("no_such_code", "x", "ko") == reasons.word(None, None, "ko") == ""
    assert len(reasons.word("viewed_together", "y" * 300, "en")) < 60
