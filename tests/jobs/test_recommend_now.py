"""`controltower recommend` for one customer, product, cart or search: what is served now, printed and written."""

from __future__ import annotations

import csv
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from controltower import cli, clock
from controltower.jobs.recommending import SERVED, recommend_now
from controltower.models.recommend.published import Published, publish
from controltower.models.recommend.serving import Request, Serving, answer
from controltower.settings import load
from support.published_shop import AS_OF, IDS, artefacts, personal_lists
from support.scored_shop import write_shop


@pytest.fixture
def published(home: Path) -> Published:
    conf = load()
    clock.set_clock(conf, AS_OF + timedelta(hours=9), speed=0)
    write_shop(conf)
    rules = {"similar": {"pins": [{"product": "pan"}]}}
    version = publish(home / "serving", artefacts(in_stock=np.array([i != "cup" for i in IDS]), rules=rules))
    return Published.open(home / "serving" / version)


def ran(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["controltower", "recommend", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    return code, *capsys.readouterr()


def test_it_is_what_the_app_answers_and_no_decision(published: Published, home: Path) -> None:
    for told in (
        {"placement": "similar", "product": "mug"}, {"placement": "cart", "cart": ["kettle", "cup"]},
        {"placement": "for_you", "customer": "ann"}, {"placement": "popular"},
        {"placement": "recently_viewed_related", "customer": "ann"},
    ):  # fmt: skip
        report, rows = recommend_now(k=3, **told)  # type: ignore[arg-type]
        wanted = answer(Serving(published), Request(k=3, **told), clock.now(load()))  # type: ignore[arg-type]
        assert rows["product_id"].to_pylist() == [i.shown["product_id"] for i in wanted.items]
        assert (report["fallback"], report["because"]) == (wanted.fallback, wanted.because)
    assert rows.column_names == list(SERVED)
    assert sorted(p.name for p in (home / "serving").iterdir()) == [published.version, "current.json"]


def test_a_list_is_printed_with_who_ranked_it_and_why(
    published: Published, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "list.csv"
    told = "--placement", "similar", "--product", "mug", "--k", "2", "--out", str(out)
    code, said, _ = ran(capsys, monkeypatch, *told)
    lines = said.splitlines()
    assert code == 0 and lines[0] == "placement: similar" and f"version: {published.version}" in lines
    assert "fallback: none" in lines and "  out_of_stock: 1" in lines
    table = [line.split() for line in lines[-4:-1]]
    assert table[0] == ["rank", "product_id", "title", "algorithm", "reason", "rules"]
    assert table[1][:2] == ["1", "pan"] and table[1][-1] == "pinned"
    assert table[2][:4] == ["2", "tea", "차", "茶"] and "substitutes" in table[2] and "‘Mug" in table[2]
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["product_id"], r["rules"], r["reason_code"]) for r in rows] == [
        ("pan", "pinned", ""), ("tea", "", "because_you_viewed")
    ]  # fmt: skip


def test_an_offer_is_a_collection(
    published: Published, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(capsys, monkeypatch, "--customer", "ann", "--placement", "offer")[0] == 1, "none is published"
    offers = artefacts(items={}, personal={"offer": personal_lists({0: ["tea"]}, 3)}, bought=None, repeats=["offer"])
    publish(home / "serving", artefacts(offers=offers))
    code, said, _ = ran(capsys, monkeypatch, "--customer", "ann", "--placement", "offer", "--k", "1")
    assert code == 0 and [line.split()[:2] for line in said.splitlines()[-2:]] == [
        ["rank", "collection_id"], ["1", "tea"]
    ]  # fmt: skip


def test_where_a_list_comes_from_is_said(
    published: Published, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ran(capsys, monkeypatch, "--customer", "zoe")[1]
    assert "placement: for_you\n" in said and "fallback: popular\nbecause: unknown_person\n" in said
    assert "placement: cart\n" in ran(capsys, monkeypatch, "--cart", " kettle, cup")[1]
    said = ran(capsys, monkeypatch, "--query", "mug")[1]
    assert "placement: search\n" in said and "because: no_search\n" in said


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (["--product", "mug"], "Add --placement similar or bought_together or cart or upgrade."),
        (["--product", "mug", "--placement", "for_you"], "The placement for_you doesn't go by a product."),
        (["--query", "mug", "--placement", "similar"], "Add --placement search."),
        (["--cart", "mug", "--query", "mug"], "The placement search doesn't go by a cart."),
        (["--placement", "similar"], "Add --product or --cart."),
        (["--placement", "search", "--customer", "ann"], "Add --query"),
        (["--placement", "bought_together", "--product", "mug"], "Published are cart, for_you, popular, "),
        (["--placement", "nonsense", "--customer", "ann"], "There is no placement 'nonsense'"),
        (["--cart", " ,"], "--cart names no product. Write ids"),
        (["--customer", ""], "--customer is empty."),
        (["--customer", "ann", "--as-of", "2026-06-01"], "Leave out --as-of"),
        (["--customer", "ann", "--no-repeat"], "Leave out --as-of"),
    ],
)
def test_what_does_not_fit_is_one_line_with_its_remedy(
    published: Published,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    told: list[str],
    says: str,
) -> None:
    code, said, complained = ran(capsys, monkeypatch, *told)
    assert (code, said) == (1, "") and says in complained and len(complained.splitlines()) == 1


def test_before_anything_is_published_it_says_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, complained = ran(capsys, monkeypatch, "--customer", "ann")
    assert code == 1 and "Nothing was published yet. Run `controltower train` and `controltower score`." in complained
