"""What a customer looks for: searches, and the products and categories viewed."""

from __future__ import annotations

from controltower.profiles.features.feature import Feature, share, within
from controltower.profiles.portable import days, div


def _searches_within(span: int) -> Feature:
    return Feature(
        f"searches_{span}d",
        f"searches in the last {span} days",
        "events",
        lambda t: t.count(where=(t.event_name == "search") & within(t, span)),
        0,
    )


FEATURES: tuple[Feature, ...] = (
    *(_searches_within(span) for span in (30, 90)),
    Feature(
        "empty_searches_90d",
        "searches of the last 90 days that found nothing",
        "events",
        lambda t: t.count(where=(t.event_name == "search") & (t.results_count == 0) & within(t, 90)),
        0,
    ),
    Feature(
        "distinct_queries_90d",
        "different words searched for in the last 90 days",
        "events",
        lambda t: t["query"].nunique(where=(t.event_name == "search") & within(t, 90)),
        0,
    ),
    Feature(
        "days_since_last_search",
        "days since the last search",
        "events",
        lambda t: days(t.age.min(where=t.event_name == "search")),
        age="last",
    ),
    Feature(
        "search_session_share_90d",
        "share of the last 90 days' sessions with a search",
        "sessions",
        lambda t: share(t, t.searched == 1),
    ),
    Feature(
        "distinct_products_viewed_90d",
        "different products viewed in the last 90 days",
        "interests",
        lambda t: t.products.sum(),
        0,
    ),
    Feature(
        "distinct_categories_viewed_90d",
        "different categories viewed in the last 90 days",
        "interests",
        lambda t: t.category.count(),
        0,
    ),
    Feature(
        "top_category_viewed_share_90d",
        "share of the last 90 days' product views that are of the category viewed most",
        "interests",
        lambda t: div(t.views.max(where=t.category.notnull()), t.views.sum(where=t.category.notnull())),
    ),
    Feature(
        "views_per_product_90d",
        "views per product viewed in the last 90 days: above 1 is coming back to the same ones",
        "interests",
        lambda t: div(t.views.sum(), t.products.sum()),
    ),
)
