"""What a marketer declares about the lists of a placement, and the same as arrays; `reranking.py` applies them.

Conditions name products by id, brand, or category: "Home > Kitchen" is that category and all below it. Capitals and
spaces around ">" don't matter. Dates are the shop's: `from` counts itself; `until` is a moment that doesn't count any
more, or, where only a date is written, the last day that does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from controltower.errors import BadSettings, first_mistake

if TYPE_CHECKING:  # DAG files may read rules: neither scipy nor ibis is loaded for that
    import scipy.sparse as sp

    from controltower.models.recommend.catalogue import Catalogue

EVERYWHERE = "everywhere"  # beside the placements: rules of all of them
NEVER = "never"
FILTERS = ("not_sold", "out_of_stock", "excluded", "price", "bought", "recently_shown")  # bit 0 of a bar and so on
NOT_SOLD, OUT_OF_STOCK, EXCLUDED, PRICE, BOUGHT, RECENTLY_SHOWN = range(len(FILTERS))


def _moment(value: Any) -> Any:
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return read(value)
            except ValueError:
                continue
    raise ValueError(f"{value!r} is no date; write 2026-11-27, or 2026-11-27T18:00 for a moment of that day")


def _days(value: Any) -> Any:
    if value == NEVER or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 36500):
        return value
    raise ValueError(f"{value!r} is no number of days; write 30, 0 for at once, or never")


def _category(value: str) -> str:
    if not path(value):
        raise ValueError(f'{value!r} is no category; write its path, such as "Home > Kitchen"')
    return value


Moment = Annotated[datetime | date, BeforeValidator(_moment)]
Days = Annotated[int | Literal["never"], BeforeValidator(_days)]
Text = Annotated[str, Field(pattern=r"\S")]
Category = Annotated[str, AfterValidator(_category)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


class Dated(_Part):
    """Holds from a moment until another, always where none is told."""

    from_: Moment | None = Field(default=None, alias="from", description="in the shop's zone; a date: its beginning")
    until: Moment | None = Field(default=None, description="in the shop's zone; a date: that whole day still counts")

    @model_validator(mode="after")
    def _in_order(self) -> Dated:
        utc = ZoneInfo("UTC")
        begins, ends = self.begins(utc), self.ends(utc)
        told = [isinstance(m, datetime) and m.tzinfo is not None for m in (self.from_, self.until)]
        if begins and ends and told[0] == told[1] and begins >= ends:  # else only the shop's zone can say
            raise ValueError(f"until ({self.until}) must come after from ({self.from_}); correct one, or leave it out")
        return self

    def begins(self, zone: ZoneInfo) -> datetime | None:
        return None if self.from_ is None else _start(self.from_, zone)

    def ends(self, zone: ZoneInfo) -> datetime | None:
        """The first moment at which it doesn't hold any more."""
        if self.until is None or self.until.year == date.max.year:
            return None
        day = timedelta(days=0 if isinstance(self.until, datetime) else 1)
        return _start(self.until + day, zone)

    def ended(self, now: datetime, zone: ZoneInfo) -> bool:
        ends = self.ends(zone)
        return ends is not None and ends <= now

    def holds(self, now: datetime, zone: ZoneInfo) -> bool:
        begins = self.begins(zone)
        return (begins is None or begins <= now) and not self.ended(now, zone)


def _start(moment: date, zone: ZoneInfo) -> datetime:
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time.min, zone)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


class Condition(Dated):
    """Some products: of what is told each must fit, by any of its values. What isn't known of a product never fits."""

    products: list[Text] = Field(default=[], description="product ids")
    categories: list[Category] = Field(default=[], description='"Home > Kitchen": that category and all below it')
    brands: list[Text] = []

    @model_validator(mode="after")
    def _names_something(self) -> Condition:
        if not (self.products or self.categories or self.brands):
            raise ValueError("it names no products; tell products, categories or brands")
        return self


class Boost(Condition):
    """Lifts products."""

    factor: float = Field(default=2.0, gt=1, le=100, description="2: the first that isn't shown comes to the top")


class Bury(Condition):
    """Lowers products."""

    factor: float = Field(default=0.5, gt=0, lt=1, description="0.5: the best product just falls off the list")


class Pin(Dated):
    """A product that has its place in each list, whatever the model thinks of it."""

    product: Text = Field(description="product id")
    position: int = Field(default=1, ge=1, le=100, description="1 is the top")


class Bought(_Part):
    """When a product that the customer bought may be shown to them again."""

    again_after_days: Days | None = Field(default=None, description="0: at once; none: as the placement says; never")
    by_category: dict[Category, Days] = Field(default={}, description="the longest path that fits a product holds")


class Price(_Part):
    """The price band, in the catalogue's currency; an unknown price never fits, unless `or_unknown`.

    Of a cart the dearest product counts; where no price of a seed is known, the bounds relative to it don't hold.
    """

    at_least: Number | None = Field(default=None, ge=0)
    at_most: Number | None = Field(default=None, ge=0)
    at_least_of_seed: Number | None = Field(default=None, ge=0, description="times that of what it is shown with")
    at_most_of_seed: Number | None = Field(default=None, ge=0, description="likewise; 1.1 to 1.6 offers an upgrade")
    or_unknown: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Price:
        pairs = ((self.at_least, self.at_most), (self.at_least_of_seed, self.at_most_of_seed))
        if all(bound is None for pair in pairs for bound in pair):
            raise ValueError("a price band needs at_least, at_most, at_least_of_seed or at_most_of_seed")
        if any(low is not None and high is not None and low > high for low, high in pairs):
            raise ValueError("no price fits: the lower bound is above the upper one; swap them")
        return self


class Rules(_Part):
    """The rules of one placement. Without any, only what can't be bought is left out."""

    in_stock: bool = Field(default=True, description="leave out what is known to be out of stock")
    bought: Bought = Bought()
    price: Price | None = None
    margin: float = Field(default=0.0, ge=0, le=1, description="the margin rate's weight; 1: only the margin counts")
    diversity: float = Field(default=0.0, ge=0, le=1, description="weight of being unlike the others; 0.3 is usual")
    most_per_brand: int | None = Field(default=None, ge=1, description="products of a brand in a list")
    most_per_category: int | None = Field(default=None, ge=1, description="products of a category in a list")
    category_levels: int | None = Field(default=None, ge=1, description="of the path, for that cap; none: all of it")
    not_in_last_messages: int = Field(default=0, ge=0, le=100, description="what so many last ones showed is left out")
    boosts: list[Boost] = []
    buries: list[Bury] = []
    exclusions: list[Condition] = Field(default=[], description="never shown")
    pins: list[Pin] = Field(default=[], max_length=100)

    def over(self, general: Rules) -> Rules:
        """These rules on top of general ones: what is told here holds, and lists are added to theirs."""
        told: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        for name in ("boosts", "buries", "exclusions", "pins"):
            told[name] = getattr(general, name) + getattr(self, name)
        return general.model_copy(update=told)


def parse(given: Mapping[str, Any] | None, source: str, placements: Collection[str]) -> dict[str, Rules]:
    """The rules of each placement, from plain values by placement and `everywhere`; BadSettings names the mistake.

    A placement that isn't told has the rules of everywhere. `source` is the file's name, for errors.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise BadSettings(f"{source} holds no rules by placement.", f"Known placements: {', '.join(placements)}.")
    told = {}
    for name, rules in given.items():
        if name != EVERYWHERE and name not in placements:
            raise BadSettings(
                f"{source}: there is no placement {name!r}.", f"Known are {', '.join(placements)} and {EVERYWHERE}."
            )
        told[name] = _rules({} if rules is None else rules, f"{source}: {name}")
    general = told.pop(EVERYWHERE, Rules())
    return {name: told[name].over(general) if name in told else general for name in placements}


def _rules(given: Any, source: str) -> Rules:
    try:
        return Rules.model_validate(given)
    except ValidationError as e:
        where, mistake = first_mistake(e)
        more = f" ({e.error_count() - 1} more)" if e.error_count() > 1 else ""
        raise BadSettings(f"{source}{'.' * bool(where)}{where}: {mistake}{more}.", _remedy(e)) from None


def _remedy(error: ValidationError) -> str:
    """What to write instead, where pydantic's words leave it open."""
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        parts: dict[Any, type[_Part]] = {
            "boosts": Boost, "buries": Bury, "exclusions": Condition, "pins": Pin, "bought": Bought, "price": Price,
        }  # fmt: skip
        part = parts.get(first["loc"][0], Rules) if len(first["loc"]) > 1 else Rules
        return f"Known are {', '.join(f.alias or name for name, f in part.model_fields.items())}."
    if first["type"] == "string_type":
        return "Write it in quotes."
    return ""


def path(category: str) -> tuple[str, ...]:
    """The levels of a category, as they are compared: `Home > Kitchen` is ("home", "kitchen"); () where unknown."""
    return tuple(level for part in category.split(">") if (level := part.strip().casefold()))


@dataclass(frozen=True)
class Prepared:
    """Rules as arrays over the products of a catalogue, as of a moment; good until `until` (None: for ever)."""

    rules: Rules
    barred: np.ndarray  # uint8: bits of FILTERS; 0: allowed
    price: np.ndarray
    margin: np.ndarray  # share of the catalogue with less; empty where it has no weight
    factor: np.ndarray  # of boosts and buries; empty without any
    brand: np.ndarray  # code, -1 where unknown; empty where nothing asks for it, like the next two
    category: np.ndarray  # code of what the cap counts, -1 where unknown
    levels: np.ndarray  # products x depth: codes of the path from the top, -1 below its end
    pins: np.ndarray  # products, by position in the list
    places: np.ndarray  # these positions, 1 is the top
    similarity: sp.csr_matrix | None
    until: datetime | None
    unmatched: tuple[str, ...]  # rules that fit no product, such as "boosts.0", and pins of none

    @property
    def allowed(self) -> np.ndarray:
        """Mask of the products that anybody may be shown."""
        return self.barred == 0


def prepare(
    rules: Rules,
    catalogue: Catalogue,
    now: datetime,
    zone: ZoneInfo,
    *,
    sold: np.ndarray | None = None,
    in_stock: np.ndarray | None = None,
    similarity: sp.csr_matrix | None = None,
) -> Prepared:
    """Rules over the products of a catalogue, as of `now` (aware) in the shop's zone.

    sold, in_stock: masks of the products that may be shown at all, and that aren't out of stock (None: all)
    similarity: products x products, symmetric, 0..1; for diversity, beside category and brand
    """
    texts = Texts(catalogue)
    unmatched: list[str] = []

    def fitting(kind: str, conditions: Sequence[Condition]) -> Iterator[tuple[int, np.ndarray]]:
        """Which of the conditions hold now, and the products that fit them."""
        for i, condition in enumerate(conditions):
            if not condition.ended(now, zone):
                fits = texts.fits(condition)
                if not fits.any():
                    unmatched.append(f"{kind}.{i}")
                elif condition.holds(now, zone):
                    yield i, fits

    barred = np.zeros(len(catalogue), dtype=np.uint8)
    if sold is not None:
        barred[~sold] |= 1 << NOT_SOLD
    if in_stock is not None and rules.in_stock:
        barred[~in_stock] |= 1 << OUT_OF_STOCK
    for _, fits in fitting("exclusions", rules.exclusions):
        barred[fits] |= 1 << EXCLUDED
    if (band := rules.price) is not None and (band.at_least, band.at_most) != (None, None):
        low, high = band.at_least or 0.0, np.inf if band.at_most is None else band.at_most
        fits = (catalogue.price >= low) & (catalogue.price <= high) | (np.isnan(catalogue.price) & band.or_unknown)
        barred[~fits] |= 1 << PRICE
    factor = np.ones(len(catalogue) if rules.boosts or rules.buries else 0)
    for i, fits in fitting("boosts", rules.boosts):
        factor[fits] *= rules.boosts[i].factor
    for i, fits in fitting("buries", rules.buries):
        factor[fits] *= rules.buries[i].factor
    at = [texts.products.get(p.product, -1) for p in rules.pins]
    unmatched += [f"pins.{i}" for i, p in enumerate(rules.pins) if at[i] < 0 and not p.ended(now, zone)]
    held = sorted((p.position, i) for i, p in enumerate(rules.pins) if at[i] >= 0 and p.holds(now, zone))
    place = {at[i]: position for position, i in reversed(held)}  # of one product pinned twice, the upper place
    pins = sorted(place, key=lambda product: (place[product], at.index(product)))
    dated = (*rules.boosts, *rules.buries, *rules.exclusions, *rules.pins)
    edges = [m for rule in dated for m in (rule.begins(zone), rule.ends(zone)) if m is not None and m > now]
    alike = rules.diversity > 0
    return Prepared(
        rules=rules,
        barred=barred,
        price=catalogue.price,
        margin=_shares(catalogue.margin_rate) if rules.margin else np.zeros(0),
        factor=factor,
        brand=texts.brand[1] if alike or rules.most_per_brand else np.zeros(0, dtype=np.int32),
        category=texts.groups(rules.category_levels) if rules.most_per_category else np.zeros(0, dtype=np.int32),
        levels=texts.levels() if alike else np.zeros((0, 0), dtype=np.int32),
        pins=np.array(pins, dtype=np.int32),
        places=np.array([place[product] for product in pins], dtype=np.int32),
        similarity=similarity if alike else None,
        until=min(edges, default=None),
        unmatched=tuple(unmatched),
    )


class Texts:
    """Codes of brands and categories; capitals and spaces don't matter."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    @cached_property
    def products(self) -> dict[str, int]:
        return {p: i for i, p in enumerate(self.catalogue.product_ids.tolist())}

    @cached_property
    def brand(self) -> tuple[list[str], np.ndarray]:
        """The distinct brands, and each product's position in them, -1 where unknown."""
        names, code = _distinct([b.strip().casefold() for b in self.catalogue.brand.tolist()])
        return names, np.where(np.array([n != "" for n in names], dtype=bool)[code], code, -1).astype(np.int32)

    @cached_property
    def paths(self) -> tuple[list[tuple[str, ...]], np.ndarray]:
        """The distinct categories as paths, and each product's position in them."""
        told, code = _distinct(self.catalogue.category.tolist())
        return [path(category) for category in told], code

    def fits(self, condition: Condition) -> np.ndarray:
        mask = np.full(len(self.catalogue), not condition.products)
        mask[[self.products[p] for p in condition.products if p in self.products]] = True
        if condition.categories:
            mask &= self.below([path(c) for c in condition.categories])
        if condition.brands:
            names, code = self.brand
            wanted = {b.strip().casefold() for b in condition.brands}
            mask &= np.array([n in wanted for n in names], dtype=bool)[code] & (code >= 0)
        return mask

    def below(self, wanted: list[tuple[str, ...]]) -> np.ndarray:
        """Mask of the products in these categories or below them."""
        paths, code = self.paths
        return np.array([any(p[: len(w)] == w for w in wanted) for p in paths], dtype=bool)[code]

    def groups(self, depth: int | None) -> np.ndarray:
        """Code of each product's category, cut to so many levels; -1 where unknown."""
        paths, code = self.paths
        _, group = _distinct([p[:depth] for p in paths])
        return np.where(np.array([p != () for p in paths], dtype=bool), group, -1).astype(np.int32)[code]

    def levels(self) -> np.ndarray:
        """products x depth: codes of the paths' beginnings, -1 below their ends."""
        paths, code = self.paths
        table = np.full((len(paths), max(map(len, paths), default=0)), -1, dtype=np.int32)
        known: dict[tuple[str, ...], int] = {}
        for i, p in enumerate(paths):
            table[i, : len(p)] = [known.setdefault(p[: d + 1], len(known)) for d in range(len(p))]
        return table[code]


def _distinct(values: list[Any]) -> tuple[list[Any], np.ndarray]:
    known: dict[Any, int] = {}
    code = np.array([known.setdefault(v, len(known)) for v in values], dtype=np.int32)
    return list(known), code


def _shares(values: np.ndarray) -> np.ndarray:
    """Of each value the share of the known ones below it, equal ones half; 1/2 where unknown."""
    known = np.sort(values[~np.isnan(values)])
    middle = (np.searchsorted(known, values) + np.searchsorted(known, values, "right")) / 2
    return np.where(np.isnan(values), 0.5, middle / max(len(known), 1))
