"""By which channel, and with which message, a campaign goes to those whom another wrote to: what it would bring."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.jobs.weighing import Weighing
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import sqlalchemy as sa

    from controltower.campaigns.specs import Spec
    from controltower.data.lake import Reading
    from controltower.models.channel.choice import Option


def following_channels(after: str, name: str, as_of: str | None = None) -> tuple[dict[str, Any], pa.Table]:
    """Campaign `after` is done: by which channel, and with which variant, campaign `name` would best go to each of
    those whom the newest run of `after` wrote to, as of a moment (now). Stores and sends nothing.

    Returns a report (counts) and the rows: customer_id, reason, channel, variant, chance (of a click), expected (its
    worth less the message's cost). Consents, suppressions, addresses and frequency caps count as they stand then: of
    whom no channel is open to, the reason is that of planning. Who was erased since is left out.
    """
    import numpy as np
    import pyarrow as pa

    from controltower.campaigns.specs import find_spec
    from controltower.data.lake import Lake
    from controltower.errors import NoData
    from controltower.ledger.database import reading
    from controltower.models.channel.choice import CHOSEN, NO_OPEN_CHANNEL, Option, chances, choose

    conf = settings.load()
    shop, spec = settings.load_shop(conf), find_spec(conf.campaigns, name)
    at = clock.parse(as_of, shop) if as_of else clock.now(conf)
    with reading(conf) as ledger:
        run_id, ids = _written_by(conf, ledger, after, at)
        customers = np.array(ids, dtype=np.str_)
        with Lake(conf).read(at) as lake:
            weighing = Weighing.of(conf, shop, lake, customers, at)
            if weighing is None:
                raise NoData("Nothing is known of channels yet.", "Run `controltower train` first.")
            allowed, refused = _allowed(conf, shop, lake, ledger, spec, customers, at)
    options = [Option(channel, f"{spec.name}/{v.name}") for channel in spec.channels for v in spec.variants]
    of_options = [n for n in range(len(spec.channels)) for _ in spec.variants]
    chance = chances(weighing.model, weighing.own, options, weighing.week, weighing.month)
    costs = np.array([shop.message_costs.get(option.channel, 0.0) for option in options])
    made = choose(chance, costs, weighing.value(list(spec.channels))[:, of_options], allowed[:, of_options])
    sent = made.reason == CHOSEN
    table = pa.table(
        {
            "customer_id": pa.array(ids, pa.string()),
            "reason": np.where(made.reason == NO_OPEN_CHANNEL, refused, made.reason).tolist(),
            "channel": [options[n].channel if n >= 0 else None for n in made.option],
            "variant": [options[n].message.partition("/")[2] if n >= 0 else None for n in made.option],
            "chance": pa.array(np.where(sent, chance[np.arange(len(ids)), made.option], np.nan), from_pandas=True),
            "expected": pa.array(np.where(sent, made.expected, np.nan), from_pandas=True),
        }
    )
    report = {
        "campaign": name, "after": after, "run_id": run_id, "as_of": at.isoformat(), "customers": len(ids),
        "currency": shop.currency, **_counts(table, options),
    }  # fmt: skip
    return report, table


def _written_by(conf: Settings, ledger: sa.Connection, after: str, at: datetime) -> tuple[int, list[str]]:
    """The newest run of a campaign that has sent something by then, and to whom, sorted. NoData: none has."""
    from controltower.errors import NoData
    from controltower.jobs.ingest import erased_people
    from controltower.ledger import runs
    from controltower.ledger.sends import sends

    for run in reversed(runs.planned(ledger, campaign=after, until=at)):
        if whom := {s.customer_id for s in sends(ledger, run_id=run.run_id, until=at)}:
            gone = erased_people(conf)
            return run.run_id, sorted(whom - gone.pseudonyms - set(gone.among(whom)))
    raise NoData(f"{after} had sent nothing by then.", "Name a campaign that has run with --after.")


def _counts(table: pa.Table, options: list[Option]) -> dict[str, Any]:
    """`by`: of each option, how many get it and their means; `not_sent`: how many don't, by reason."""
    from controltower.models.channel.choice import CHOSEN

    rows = table.to_pandas()
    by = [
        {
            "channel": channel,
            "variant": variant,
            "customers": len(mine),
            "chance": round(float(mine["chance"].mean()), 5),
            "expected": round(float(mine["expected"].mean()), 5),
        }
        for channel, variant in ((o.channel, o.message.partition("/")[2]) for o in options)
        if len(mine := rows[(rows["channel"] == channel) & (rows["variant"] == variant)])
    ]
    not_sent = Counter(rows.loc[rows["reason"] != CHOSEN, "reason"])
    return {"by": by, "not_sent": dict(sorted(not_sent.items()))}


def _allowed(
    conf: Settings, shop: Shop, lake: Reading, ledger: sa.Connection, spec: Spec, customers: np.ndarray, at: datetime
) -> tuple[np.ndarray, np.ndarray]:
    """Flags (n, channels of the spec): who could be written to there; and of whom on none, why (n,)."""
    import pyarrow as pa

    from controltower.campaigns.planning import open_channels
    from controltower.jobs.gathering import Gathered, members_of
    from controltower.jobs.planning import permissions
    from controltower.profiles import contacts

    n, ids = len(customers), pa.chunked_array([pa.array(customers.tolist(), pa.string())])
    nothing = {name: pa.nulls(n) for name in ("hours", "products", "algorithm", "expected", "inferred")}
    members = pa.table({"customer_id": ids, **contacts.places(lake, shop, ids), **nothing})
    gathered = Gathered(members, contacts.devices(lake, ids), {})
    asked = members_of(ledger, conf.signing_key(), spec, gathered, [0] * n, at)
    return open_channels(asked, spec.channels, permissions(ledger, shop, spec, at, None))
