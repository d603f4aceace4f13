"""Why a product is recommended, in words: models give a code and a value, here they become a phrase."""

from __future__ import annotations

from functools import lru_cache

from controltower.content.text import one_line, shorten

VALUE_LENGTH = 30  # characters of a product's title within a reason

# By language and code: the phrase, and the phrase with a value (a product's title, for `popular` a category).
# Korean phrases put no particle behind the value, because its form would depend on the value's last sound.
_PHRASES: dict[str, dict[str, tuple[str, str]]] = {
    "en": {
        "viewed_together": ("Often viewed together", "Often viewed with “{}”"),
        "viewed_before": ("You had a look at it lately", "You had a look at it lately"),
        "because_you_viewed": ("Because of what you viewed", "Because you viewed “{}”"),
        "because_you_bought": ("Goes with what you bought", "Because you bought “{}”"),
        "buy_again": ("Time to buy it again?", "Time to buy it again?"),
        "popular": ("Popular right now", "Popular in {}"),
        "similar_taste": ("Loved by people with your taste", "Loved by people with your taste"),
        "query_text": ("Fits your search", "Fits “{}”"),
        "query_clicks": ("Often chosen for this search", "Often chosen for “{}”"),
        "alike_clicks": ("Often chosen for similar searches", "Often chosen for searches like “{}”"),
        "bought_together": ("Often bought together", "Often bought with “{}”"),
    },
    "ko": {
        "viewed_together": ("함께 많이 본 상품", "‘{}’ 함께 많이 본 상품"),
        "viewed_before": ("최근 보신 상품이에요", "최근 보신 상품이에요"),
        "because_you_viewed": ("최근 본 상품과 비슷해요", "최근 본 ‘{}’ 관련 추천"),
        "because_you_bought": ("구매하신 상품과 어울려요", "구매하신 ‘{}’ 관련 추천"),
        "buy_again": ("다시 구매할 때가 됐어요", "다시 구매할 때가 됐어요"),
        "popular": ("지금 인기 있는 상품", "‘{}’ 인기 상품"),
        "similar_taste": ("취향이 비슷한 분들의 선택", "취향이 비슷한 분들의 선택"),
        "query_text": ("검색어와 맞는 상품", "‘{}’ 검색 상품"),
        "query_clicks": ("이 검색에서 많이 선택한 상품", "‘{}’ 검색에서 많이 선택한 상품"),
        "alike_clicks": ("비슷한 검색에서 많이 선택한 상품", "‘{}’ 비슷한 검색에서 많이 선택한 상품"),
        "bought_together": ("함께 많이 구매한 상품", "‘{}’ 함께 많이 구매한 상품"),
    },
}


@lru_cache(maxsize=65_536)  # models name the same products again and again
def word(code: str | None, value: str | None, locale: str) -> str:
    """The phrase for a reason code, in the locale's language, else in English; nothing for an unknown code.

    `value` is what the customer is to read (a title, not a product_id); None or empty leaves it out.
    """
    phrases = _PHRASES.get(locale.replace("_", "-").split("-")[0].lower(), _PHRASES["en"])
    if code not in phrases:
        return ""
    plain, valued = phrases[code]
    shown = shorten(one_line(value), VALUE_LENGTH) if value else ""
    return valued.replace("{}", shown) if shown else plain
