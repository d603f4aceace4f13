"""`controltower evaluate` on a small shop: what it tells, and that what became known later has no say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest
import yaml
from controltower.cli import app
from controltower.data.lake import Lake
from controltower.errors import BadSettings, NoData
from controltower.jobs.evaluating import evaluate
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders, product, table
from typer.testing import CliRunner

AS_OF, DAYS = T.isoformat(), 10
TASKS = {"recommend_repeat", "recommend_new", "recommend_together", "recommend_cart"}


def drawn_orders(
    rng: random.Random, count: int, prefix: str, when: Callable[[], datetime], **more: Any
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Orders of two products of the customer's own taste: one of three."""
    return [
        order(
            f"{prefix}{i}", f"c{(c := rng.randrange(60)):02}", when(),
            *((f"p{(c % 3) * 5 + n:02}", 1, 10) for n in rng.sample(range(5), 2)), **more,
        )
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def shop(home: Path) -> Lake:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    rng = random.Random(1)
    goods: list[dict[str, Any]] = [product(f"p{i:02}", category=f"things > kind {i // 5}") for i in range(16)]
    goods[15]["category"] = "service > postage"
    return lake_with(
        home,
        {
            "customers": [
                {"customer_id": f"c{i:02}", "signed_up_at": ago(60), "updated_at": ago(60)} for i in range(65)
            ],
            "products": goods,
            "events": [
                event(str(i), f"c{rng.randrange(65):02}", ago(rng.uniform(0, 40)), "view_item", product_id="p03")
                for i in range(300)
            ],
            **orders(*drawn_orders(rng, 400, "o", lambda: ago(rng.uniform(0, 40)))),
        },
    )


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["evaluate", "--as-of", AS_OF, "--days", str(DAYS), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_what_the_command_tells(shop: Lake, tmp_path: Path) -> None:
    files = sorted(shop.root.rglob("*"))
    shown = run("--out", str(tmp_path / "rows.csv"))
    for told in ("== recommend_repeat", "ndcg@10", "coverage", "diversity by category and brand", "CPU-seconds"):
        assert told in shown
    assert "!" not in shown and "no group has cases enough" in shown
    report = json.loads(run("--json", "--out", str(tmp_path / "rows.json")))
    assert (
        len(json.loads((tmp_path / "rows.json").read_text()))
        == len((tmp_path / "rows.csv").read_text().splitlines()) - 1
    )
    assert (report["task"], report["days"], report["as_of"]) == ("recommend", DAYS, AS_OF)
    assert report["split"] == (T - timedelta(days=DAYS)).isoformat()
    assert (report["customers"], report["products"], report["products_allowed"]) == (65, 16, 15)
    assert report["models"].keys() >= TASKS and report["models"]["recommend_repeat"]["cases"] > 30
    rows = pyarrow.csv.read_csv(tmp_path / "rows.csv").to_pylist()
    served = [row for row in rows if row["algorithm"] == "served"]
    assert [row["ndcg@10"] for row in served] == [row["ndcg@10"] for row in report["served"]], "again the same"
    mine = [r for r in rows if (r["task"], r["group"]) == ("recommend_repeat", "all")]
    assert {"popularity", "own_count", "item_knn", "als", "fusion", "served"} <= {r["algorithm"] for r in mine}
    assert [r["ndcg@10"] for r in mine] == sorted((r["ndcg@10"] for r in mine), reverse=True)
    for row in rows:
        if row["low"] is not None:  # of one customer there is no interval
            assert 0 <= row["low"] <= row["ndcg@10"] <= row["high"] <= 1
        assert all(0 <= row[name] <= 1 for name in ("recall@10", "mrr@10", "coverage", "diversity", "cold_share"))
    assert sorted(shop.root.rglob("*")) == files, "nothing is stored"
    assert not (shop.settings.home / "models").exists()


@pytest.mark.slow
def test_what_became_known_later_has_no_say(shop: Lake) -> None:
    """Orders of before the split that are told after it: neither learned from, nor foretold. Others' taste after it."""
    before, all_before = evaluate("recommend", AS_OF, DAYS)
    rng = random.Random(9)
    late = drawn_orders(rng, 300, "late", lambda: ago(rng.uniform(DAYS, 40)), updated_at=ago(DAYS - 1))
    for name, rows in orders(*late).items():
        publish_rows(shop, name, "told late", table(name, rows))
    assert evaluate("recommend", AS_OF, DAYS)[1].equals(all_before)
    more = drawn_orders(rng, 200, "more", lambda: ago(rng.uniform(0, DAYS)))
    for _, lines in more:
        for line in lines:
            line["product_id"] = f"p{14 - int(line['product_id'][1:]):02}"  # of another taste, but for one
    for name, rows in orders(*more).items():
        publish_rows(shop, name, "more", table(name, rows))
    after, _ = evaluate("recommend", AS_OF, DAYS)
    assert {n: m["why"] for n, m in after["models"].items()} == {n: m["why"] for n, m in before["models"].items()}
    assert after["interactions"] == before["interactions"]
    assert after["models"]["recommend_repeat"]["cases"] > before["models"]["recommend_repeat"]["cases"]
    assert _of(after, "ndcg@10") != _of(before, "ndcg@10")


def _of(report: dict[str, Any], figure: str) -> float:
    found = [r for r in report["served"] if (r["task"], r["group"]) == ("recommend_repeat", "all")]
    return float(found[0][figure])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("chance", AS_OF, 28), "--task is recommend, propensity, clv, replenishment"),
        (("recommend", AS_OF, 0), "1 to 3650 with --days"),
        (("recommend", AS_OF, -3), "1 to 3650 with --days"),
        (("recommend", "soon", 28), "not a date"),
    ],
)
def test_bad_requests_are_told(shop: Lake, arguments: tuple[str, str, int], told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        evaluate(*arguments)


def test_too_few_facts_are_told(shop: Lake) -> None:
    with pytest.raises(NoData, match="Nothing was bought or viewed before 2026-04-16"):
        evaluate("recommend", AS_OF, 60)
    with pytest.raises(NoData, match="No known customer took a product"):
        evaluate("recommend", ago(-40).isoformat(), 30)


def test_an_empty_home_says_what_to_do(home: Path) -> None:
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    with pytest.raises(NoData, match="Load data first"):
        evaluate("recommend", AS_OF)
