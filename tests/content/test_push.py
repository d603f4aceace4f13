"""Pushes fit into FCM's 4096 bytes, whatever goes in."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from controltower.content.push import LIMIT, fit, payload_size
from controltower.content.text import boundaries
from hypothesis import given, settings
from hypothesis import strategies as st

FAMILY = "👩‍👩‍👧‍👦"


def message(title: str, body: str, **data: str) -> dict[str, Any]:
    return {"message": {"token": "t" * 160, "notification": {"title": title, "body": body, "image": "https://x/i.jpg"},
                        "data": {"message_id": "m" * 32, **data}}}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.text(max_size=200), st.sampled_from([FAMILY * 400, '"\\\n' * 2000, "한" * 3000])),
    st.one_of(st.text(max_size=200), st.sampled_from([FAMILY * 400, "🇰🇷" * 2000, "가" * 5000, '"' * 5000])),
    st.sampled_from(["", "u" * 2000, "u" * 5000]),
)
def test_it_always_fits(title: str, body: str, url: str) -> None:
    given_ = message(title, body, url=url)
    before = copy.deepcopy(given_)
    fitted = fit(given_)
    assert payload_size(fitted) <= LIMIT
    assert given_ == before
    assert fitted["message"]["data"]["message_id"] == "m" * 32
    if payload_size(given_) <= LIMIT:
        assert fitted == given_


@pytest.mark.parametrize("text", ["한" * 3000, FAMILY * 400, "🇰🇷" * 2000, "a" * 9000])
def test_the_body_gives_way_first_and_between_characters(text: str) -> None:
    shown = fit(message("제목", text))["message"]["notification"]
    assert shown["title"] == "제목"
    assert shown["body"].endswith("…")
    kept = shown["body"][:-1]
    assert text.startswith(kept)
    assert len(kept) in {0, *boundaries(text)}
    assert payload_size(fit(message("제목", text))) > LIMIT - 40  # no more is cut than needed


def test_the_advert_line_stays() -> None:
    shown = fit(message("(광고) 제목", "가" * 5000 + "\n하루상점 02-000 · 수신거부: 앱 설정"))["message"][
        "notification"
    ]
    assert shown["body"].endswith("…\n하루상점 02-000 · 수신거부: 앱 설정")


def test_titles_then_pictures_then_data_give_way() -> None:
    shown = fit(message("t" * 5000, "b" * 5000))["message"]["notification"]
    assert shown["body"] == "…"
    assert shown["title"].startswith("ttt")
    assert shown["image"]
    fitted = fit(message("t", "b", url="u" * 5000, small="s"))["message"]
    assert fitted["data"] == {"message_id": "m" * 32, "small": "s"}


def test_a_bare_message_and_one_without_a_notification_are_taken() -> None:
    assert payload_size(fit(message("t", "b" * 9000)["message"])) <= LIMIT
    assert fit({"data": {"message_id": "m", "x": "y" * 9000}}) == {"data": {"message_id": "m"}}
