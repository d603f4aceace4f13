"""The identity tables come out the same however the facts are split into loads, and whatever is loaded again."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from controltower.data.contract import CONTRACT
from controltower.data.identity import history
from controltower.data.identity.history import TABLES
from controltower.data.lake import Lake
from controltower.errors import BadSettings
from controltower.settings import Settings
from controltower.shop import Identity, Sender, Shop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lakes import publish_rows

SHOP = Shop(
    name="s", url="https://s.example", identity=Identity(customers_per_key=2, customers_per_person=3),
    sender=Sender(name="s", email="s@s.example", contact="0", postal_address="s"),
)  # fmt: skip
DAY0 = datetime(2026, 1, 1, tzinfo=UTC)
CUSTOMERS = [f"c{n}" for n in range(5)]

# customer, day, address, phone, year of birth; a load; and a key told in `identities`
ROWS = st.lists(
    st.tuples(
        st.sampled_from(CUSTOMERS), st.integers(0, 9), st.sampled_from(["x@a.example", "y@a.example", None]),
        st.sampled_from(["01012345678", None]), st.sampled_from([1980, 1981, None]), st.integers(0, 3),
    ),
    max_size=8,
)  # fmt: skip
KEYS = st.lists(
    st.tuples(st.sampled_from(["login", "loyalty"]), st.sampled_from(CUSTOMERS), st.integers(0, 9), st.integers(0, 3)),
    max_size=5,
)


def day(n: int) -> datetime:
    return DAY0 + timedelta(days=n)


def publish(lake: Lake, load: str, rows: list[Any], keys: list[Any]) -> None:
    """One load of the facts, as ingest would leave it."""
    customers = [
        {"customer_id": c, "updated_at": day(n), "email": email, "phone": phone,
         "birth_date": born and date(born, 1, 1)}
        for c, n, email, phone, born, _ in rows
    ]  # fmt: skip
    identities = [{"kind": kind, "value": "k", "customer_id": c, "seen_at": day(n)} for kind, c, n, _ in keys]
    for table, some in (("customers", customers), ("identities", identities)):
        publish_rows(lake, table, load, pa.Table.from_pylist(some, CONTRACT[table].schema))


def tables(lake: Lake) -> dict[str, Any]:
    return {name: history._rows(lake, name) for name in TABLES if name != "identity_read"}


@given(ROWS, KEYS, st.permutations(range(4)), st.integers(0, 3), st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_and_order_of_loads_gives_what_one_load_gives(
    conf: Settings, rows: list[Any], keys: list[Any], order: list[int], again: int, loses: bool
) -> None:
    shutil.rmtree(conf.home / "lake", ignore_errors=True)
    lake = Lake(conf)
    for load in order:
        publish(lake, str(load), [r for r in rows if r[-1] == load], [k for k in keys if k[-1] == load])
        history.update(lake, SHOP)
    if loses:  # a load is made again with less in it
        rows = [r for r in rows if r[-1] != again]
        publish(lake, str(again), [], [k for k in keys if k[-1] == again])
        history.update(lake, SHOP)
    found = tables(lake)
    assert history.update(lake, SHOP) == history.Changed(0, 0, 0)

    shutil.rmtree(conf.home / "lake")
    publish(lake, "all", rows, keys)
    history.update(lake, SHOP)
    assert tables(lake) == found


def test_a_load_touches_only_who_has_to_do_with_it(lake: Lake) -> None:
    pairs = [(f"c{n}", n % 2, f"m{n // 2}@a.example", None, None, 0) for n in range(10)]
    publish(lake, "first", pairs, [])
    assert history.update(lake, SHOP) == history.Changed(10, 5, 0)
    publish(lake, "next", [("new", 5, "m0@a.example", None, None, 0)], [])
    assert history.update(lake, SHOP) == history.Changed(3, 0, 1)  # three have the address: it unites nobody


def test_a_change_of_the_limits_resolves_everything_again(lake: Lake) -> None:
    publish(lake, "first", [(f"c{n}", n, "x@a.example", None, None, 0) for n in range(3)], [])
    history.update(lake, SHOP)
    assert history.stays(lake)[-1].until == day(2)
    more = SHOP.model_copy(update={"identity": Identity(customers_per_key=3)})
    assert history.update(lake, more).merged == 2


def test_an_undone_merge_stays_undone_and_the_past_as_it_was(lake: Lake) -> None:
    publish(lake, "first", [(c, n, "x@a.example", None, None, 0) for n, c in enumerate(["a", "b"])], [])
    history.update(lake, SHOP)
    (merge,) = history.log(lake)
    history.undo(lake, SHOP, merge.entry_id, "kim", day(5))
    publish(lake, "second", [(c, 6, "x@a.example", "01012345678", None, 0) for c in ("a", "b")], [])
    history.update(lake, SHOP)
    assert [(s.since, s.until) for s in history.stays(lake)][:1] == [(day(1), day(5))]
    assert [e.outcome for e in history.log(lake) if e.kind == "email_hash" and e.until is None] == ["undone"]
    with pytest.raises(BadSettings, match="no merge"):
        history.undo(lake, SHOP, merge.entry_id, "kim", day(9))


def test_an_undo_holds_after_everything_is_resolved_again(lake: Lake) -> None:
    publish(lake, "first", [(c, n, "x@a.example", None, None, 0) for n, c in enumerate(["a", "b"])], [])
    history.update(lake, SHOP)
    history.undo(lake, SHOP, history.log(lake)[0].entry_id, "kim", day(5))
    found = tables(lake)
    history.update(lake, SHOP.model_copy(update={"identity": Identity(customers_per_key=3)}))
    assert tables(lake) == found
    assert [tuple(u)[1:] for u in history.undone(lake)] == [("a", "b", day(5), "kim")]


def test_a_shop_without_keys_in_common_keeps_no_table_of_persons(lake: Lake) -> None:
    publish(lake, "first", [("a", 1, "x@a.example", None, None, 0), ("b", 1, "y@a.example", None, None, 0)], [])
    history.update(lake, SHOP)
    assert {t for t in TABLES if lake.intervals(t)} == {"identity_read"}
