"""A simulated shop with one campaign that drew by lot whom not to write to, as files of the contract.

Nothing of it is real. Whoever bought within the last RECENT days is changed by the mail, the others hardly; or whoever
lives in a town, which only a column beyond the contract tells; or (null) nobody is.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

SENT = datetime(2026, 4, 1, 8, tzinfo=UTC)
RECENT = 60  # days
SHARE = 2 / 3  # of the customers who are written to
BASE = 0.12  # chance of an order within two weeks without a mail
EFFECT = {True: 0.14, False: -0.01}  # of the mail: on who bought lately (or lives in a town), on the others
AREAS = ("Urban", "Rural", "Suburban")


def write(folder: Path, *, changes: bool, customers: int = 5000, seed: int = 1, by_area: bool = False) -> None:
    """The tables as CSV files. changes: whether the mail changes anybody. by_area: customers have columns beyond the
    contract, and the mail changes those of a town; `segment` tells who was written to, as a careless shop leaves it."""
    rng = np.random.default_rng(seed)
    area = np.random.default_rng(seed + 1000).choice(AREAS, customers, p=(0.4, 0.3, 0.3))
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("customers", "orders", "order_lines", "messages_history", "events")
    }

    def bought(who: str, at: datetime) -> None:
        number = f"o{len(tables['orders'])}"
        tables["orders"].append(
            {"order_id": number, "ordered_at": at, "updated_at": at, "customer_id": who, "currency": "GBP"}
        )
        tables["order_lines"].append(
            {"order_id": number, "line_no": 1, "updated_at": at, "product_id": f"p{rng.integers(5)}", "quantity": 1,
             "unit_price": 10}
        )  # fmt: skip

    for n in range(customers):
        who, since = f"c{n:05}", SENT - timedelta(days=int(rng.integers(200, 400)))
        tables["customers"].append({"customer_id": who, "updated_at": since, "signed_up_at": since})
        last = float(rng.uniform(1, 180))
        bought(who, SENT - timedelta(days=last))
        for _ in range(int(rng.integers(3))):
            bought(who, SENT - timedelta(days=float(rng.uniform(last, 190))))
        mailed = bool(rng.random() < SHARE)
        tables["messages_history"].append(
            {"message_id": f"m{n}", "customer_id": who, "channel": "email", "campaign": "spring mail",
             "treatment": "mail" if mailed else "no e-mail", "propensity": SHARE if mailed else 1 - SHARE,
             "sent_at": SENT}
        )  # fmt: skip
        if by_area:
            about = {"zip_code": str(area[n]), "history": f"{last:.2f}", "segment": "Mail" if mailed else "Nothing"}
            tables["customers"][-1] |= {"gender": "fm"[n % 2], "birth_date": f"19{50 + n % 50}-05-01", **about}
        reached = area[n] == "Urban" if by_area else last < RECENT
        chance = BASE + (EFFECT[bool(reached)] if changes and mailed else 0.0)
        orders = bool(rng.random() < chance)
        at = SENT + timedelta(days=float(rng.uniform(0.1, 13)))
        if orders or rng.random() < 0.1:
            tables["events"].append(
                {"event_id": f"e{n}", "occurred_at": at, "event_name": "view_item", "customer_id": who,
                 "session_id": f"s{n}", "product_id": "p1"}
            )  # fmt: skip
        if orders:
            bought(who, at)
    known = SENT - timedelta(days=500)
    tables["products"] = [
        {"product_id": f"p{n}", "updated_at": known, "title": f"Thing {n}", "price": 10, "currency": "GBP"}
        for n in range(5)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: v.isoformat() if isinstance(v, datetime) else v for k, v in r.items()} for r in rows)
