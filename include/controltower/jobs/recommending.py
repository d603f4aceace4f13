"""recommend: the best products of every customer, as of a date; and what the public app would answer now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower import settings
from controltower.jobs.profiles import moment

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.data.reading import Reading
    from controltower.models.recommend.batch import Lists
    from controltower.models.recommend.today import Today
    from controltower.settings import Settings
    from controltower.shop import Shop

log = logging.getLogger("controltower")

SHOWN_DAYS = 90  # messages before them are forgotten: who saw a product then may see it again

# The columns of a list that is served.
SERVED = (
    "rank", "product_id", "title", "url", "price", "currency", "algorithm", "reason", "reason_code", "rules",
)  # fmt: skip


def recommend(placement: str, k: int = 12, repeat: bool | None = None, as_of: str | None = None) -> pa.Table:
    """k rows a customer, best first, with the columns of the derived table `recommendations`.

    By the newest model trained as of a date not later than as_of, on the customers' history of as_of. repeat: whether
    products bought before may come again (None: as the placement, and where that leaves it open, the validation, says).
    """
    from threadpoolctl import threadpool_limits

    from controltower.data.lake import Lake
    from controltower.errors import BadSettings
    from controltower.models.recommend import batch, placements
    from controltower.models.registry import Registry

    placements.check(placement, repeat)
    if k < 1:
        raise BadSettings(f"{k} is no number of products.", "Ask for 1 or more with --k.")
    config = settings.load()
    shop = settings.load_shop(config)
    at = moment(as_of, config, shop)
    with threadpool_limits(limits=1), Lake(config).read(at) as reading:
        registry = Registry(config.home / "models")
        lists = batch.recommend(registry, known_today(config, reading, at, shop), placement, k, repeat)
        tell_unmatched(lists)
        return lists.rows()


def recommend_now(
    placement: str | None = None, k: int = 12, *, customer: str | None = None, product: str | None = None,
    cart: Sequence[str] = (), query: str | None = None,
) -> tuple[dict[str, Any], pa.Table]:  # fmt: skip
    """What GET /v1/recommendations would answer now, from the published version; not logged as a decision.

    Returns {placement, version, model_version, as_of, fallback, because, removed, keywords, exhibitions}, and rows with
    the columns SERVED (of an offer its collection_id), reasons in the shop's language. Where no placement is told it is
    `cart` with a cart, `search` with a query, else for_you. NoData where nothing was published, BadSettings for a
    placement that isn't, or that can't use what is told.
    """
    import pyarrow as pa

    from controltower import clock
    from controltower.content import reasons
    from controltower.errors import BadSettings, NoData
    from controltower.models.recommend.placements import FOR_YOU, OFFER
    from controltower.models.recommend.published import Published, current
    from controltower.models.recommend.serving import Request, Serving, answer
    from controltower.models.recommend.version import SEARCH

    for name, told in (("customer", customer), ("product", product), ("query", query)):
        if told is not None and not told.strip():
            raise BadSettings(f"--{name} is empty.", "Write a value, or leave it out.")
    if k < 1:
        raise BadSettings(f"{k} is no number of products.", "Ask for 1 or more with --k.")
    placement = placement or (SEARCH if query is not None else "cart" if cart else FOR_YOU)
    _check_told(placement, product, cart, query)
    config = settings.load()
    version = current(config.home / "serving")
    if version is None:
        raise NoData("Nothing was published yet.", "Run `controltower train` and `controltower score`.")
    published = Published.open(config.home / "serving" / version)
    known = sorted({*published.rules, *([OFFER] if published.offers else [])})
    if placement not in known:
        raise BadSettings(f"There is no placement {placement!r} in {version}.", f"Published are {', '.join(known)}.")
    asked = Request(placement, k, customer=customer, product=product, cart=cart, query=query)
    made = answer(Serving(published), asked, clock.now(config))
    shop = settings.shop_if_any(config)
    locale = shop.locale if shop else "en"
    rows = [
        {
            **item.shown, "rank": item.rank, "algorithm": item.algorithm, "reason_code": item.reason_code,
            "reason": reasons.word(item.reason_code, item.reason_value, locale), "rules": " ".join(item.rules),
        }
        for item in made.items
    ]  # fmt: skip
    numbers = {"rank": pa.int64(), "price": pa.float64()}
    shown = [n if placement != OFFER else n.replace("product_id", "collection_id") for n in SERVED]
    schema = pa.schema([(name, numbers.get(name, pa.string())) for name in shown])
    report = {
        "placement": made.placement, "version": made.version, "model_version": made.model_version,
        "as_of": made.as_of.isoformat(), "fallback": made.fallback, "because": made.because,
        "removed": made.rules["removed"], "keywords": list(made.keywords), "exhibitions": list(made.exhibitions),
    }  # fmt: skip
    return report, pa.Table.from_pylist(rows, schema=schema)


def _check_told(placement: str, product: str | None, cart: Sequence[str], query: str | None) -> None:
    """BadSettings where a placement can't use what is told."""
    from controltower.errors import BadSettings
    from controltower.models.recommend.placements import OF_PRODUCTS
    from controltower.models.recommend.version import SEARCH

    for name, told, fits in (
        ("product", product is not None, tuple(OF_PRODUCTS)), ("cart", bool(cart), tuple(OF_PRODUCTS)),
        ("query", query is not None, (SEARCH,)),
    ):  # fmt: skip
        if told and placement not in fits:
            raise BadSettings(
                f"The placement {placement} doesn't go by a {name}.", f"Add --placement {' or '.join(fits)}."
            )
    if placement == SEARCH and query is None:
        raise BadSettings("The placement search needs a search.", 'Add --query "what is typed".')
    if placement in OF_PRODUCTS and product is None and not cart:
        raise BadSettings(f"The placement {placement} goes with products.", "Add --product or --cart.")


def known_today(config: Settings, reading: Reading, as_of: datetime, shop: Shop) -> Today:
    """What lists are made of; the ledger tells what messages showed, where a rule asks."""
    from controltower.ledger import database, shown
    from controltower.models.recommend import batch
    from controltower.models.recommend.today import Today

    most = max(rules.not_in_last_messages for rules in batch.declared(shop).values())
    if not most:
        return Today(reading.table, as_of, shop)
    with database.reading(config) as ledger:
        return Today(
            reading.table, as_of, shop, shown.shown_lately(ledger, most, as_of - timedelta(days=SHOWN_DAYS), as_of)
        )


def tell_unmatched(lists: Lists) -> None:
    for rule in lists.unmatched:
        log.warning("shop.yaml, recommendations: %s of %s fits no product", rule, lists.placement)
