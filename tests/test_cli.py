"""The command line as its user runs it: a process, a home, and what it prints and returns."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import yaml
from controltower import cli
from controltower.settings import INCLUDE
from support.patience import PATIENCE

NOW = "2026-03-02T06:30:00+09:00"
DAY = "2026-03-02"


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the entry point in this process: importing everything anew for each command would cost minutes."""
    said, complained, code = io.StringIO(), io.StringIO(), 0
    given = {"CONTROLTOWER_HOME": str(home), "CONTROLTOWER_NOW": NOW} | environment
    with (
        mock.patch.dict(os.environ, given),
        mock.patch.object(sys, "argv", ["controltower", *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            cli.main()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), complained.getvalue())


def good(home: Path, *arguments: str, **environment: str) -> str:
    done = run(home, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    good(folder, "simulate", "--out", str(folder / "shop"), "--until", DAY, "--customers", "150")
    return folder / "shop"


@pytest.fixture(scope="module")
def trained(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has gone through every stage up to scoring."""
    home = tmp_path_factory.mktemp("home") / "h"
    good(home, "ingest", "--source", str(shop), "--end", DAY)
    good(home, "train")
    good(home, "score")
    return home


@pytest.mark.slow
def test_a_day_without_airflow(trained: Path, tmp_path: Path) -> None:
    scores, features, items = tmp_path / "s.parquet", tmp_path / "f.csv", tmp_path / "r.json"
    good(trained, "features", "--out", str(features))
    good(trained, "score", "--out", str(scores))
    good(trained, "recommend", "--k", "5", "--no-repeat", "--out", str(items))
    scored = pd.read_parquet(scores)
    assert scored["propensity_7d"].between(0, 1).all()
    assert set(scored["send_hour"]) <= set(range(24))
    assert set(pd.read_csv(features)["customer_id"]) == set(scored["customer_id"])
    ranks = pd.read_json(items, dtype={"customer_id": str}).groupby("customer_id")["rank"].agg(list)
    assert all(r == [1, 2, 3, 4, 5] for r in ranks)
    assert "picked_for_you" in good(trained, "campaign", "list")
    assert "messages:" in good(trained, "campaign", "preview", "win_back")
    plan = tmp_path / "plan.csv"
    first = good(trained, "campaign", "plan", "picked_for_you", "--out", str(plan))
    again = good(trained, "campaign", "plan", "picked_for_you")
    assert "nothing added" in again
    assert [line for line in first.splitlines() if "note" not in line and "rows" not in line] == [
        line for line in again.splitlines() if "note" not in line
    ]
    decided = pd.read_csv(plan, dtype=str)
    assert decided["customer_id"].is_unique
    assert (decided["reason"].isna() == (decided["outcome"] == "message")).all()


@pytest.mark.slow
def test_another_days_occurrence_is_rehearsed_only(trained: Path) -> None:
    before = good(trained, "summary")
    report = good(trained, "campaign", "plan", "win_back", "--occasion", "2026-03-03")
    assert "rehearsed: yes" in report
    assert good(trained, "summary") == before


def test_as_a_process_an_error_is_one_line_and_exit_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "controltower.cli", "--home", str(tmp_path / "home"), "score"],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("controltower: There is no shop file")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("stage", "until"), [("train", "training recommenders"), ("score", "recommendations: ")])
def test_ctrl_c_is_one_line_and_exit_130_and_leaves_nothing_half_made(
    trained: Path, tmp_path: Path, stage: str, until: str
) -> None:
    home = shutil.copytree(trained, tmp_path / "home")
    before = files_of(home)
    with subprocess.Popen(
        [sys.executable, "-m", "controltower.cli", "--home", str(home), stage],
        env=os.environ | {"CONTROLTOWER_NOW": NOW}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heed_ctrl_c,
    ) as process:  # fmt: skip
        assert process.stderr and process.stdout
        assert any(until in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.stdout.read() == ""
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith("controltower: Stopped.") and "Traceback" not in rest
    assert files_of(home) == before


def heed_ctrl_c() -> None:
    """As in a terminal: what a shell starts in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def files_of(home: Path) -> set[str]:
    """All that is read: without the locks, what SQLite keeps beside its file while it works, and the lake's parts,
    which are there when a manifest names them and else are swept later."""
    files = (p for p in home.rglob("*") if p.is_file() and not p.name.endswith(("-shm", "-wal")))
    return {str(p.relative_to(home)) for p in files if p.name != ".lock" and not p.name.startswith("part-")}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ingest", "--source", "/no/such/folder"], "/no/such/folder"),
        (["ingest"], "No source"),
        (["ingest", "--source", "online-retail", "--end", "soon"], "'soon' is not a date"),
        (["features"], "controltower ingest"),
        (["train"], "controltower ingest"),
        (["score"], "controltower ingest"),
        (["recommend"], "controltower ingest"),
        (["campaign", "plan", "win_back"], "controltower ingest"),
        (["summary"], "controltower ingest"),
    ],
)
def test_an_empty_home_says_what_to_do_first(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = run(tmp_path / "home", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["campaign", "plan", "spring"], "Known: picked_for_you, win_back"),
        (["campaign", "plan", "win_back", "--occasion", "someday"], "'someday' is not a date"),
        (["campaign", "preview", "spring"], "Known: picked_for_you, win_back"),
        (["score", "--as-of", "2020-01-01"], "no model recommend_repeat"),
        (["recommend", "--placement", "shoe_rack"], "shoe_rack"),
        (["score", "--out", "scores.docx"], "scores.docx"),
        (["score", "--out", "/no/such/folder/scores.csv"], "/no/such/folder"),
        (["features", "--as-of", "2026-13-01"], "not a date"),
    ],
)
def test_a_wrong_word_is_one_clear_line(trained: Path, arguments: list[str], says: str) -> None:
    done = run(trained, *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTROLTOWER_NOW", "yesterday"),
        ("CONTROLTOWER_NOW", "2026-03-02T06:30:00"),
        ("CONTROLTOWER_SPEED", "-1"),
        ("CONTROLTOWER_DATABASE_URL", "not a url"),
        ("CONTROLTOWER_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:9/none"),
        ("CONTROLTOWER_SHOP", "/no/shop.yaml"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(trained: Path, name: str, value: str) -> None:
    done = run(trained, "summary", **{name: value})
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_missing_credentials_are_named_and_nothing_is_lost(trained: Path) -> None:
    good(trained, "campaign", "plan", "picked_for_you")
    done = run(trained, "dispatch", CONTROLTOWER_NOW="2026-03-02T20:30:00+09:00")
    assert done.returncode == 1
    assert "CONTROLTOWER_SENDGRID_API_KEY" in done.stderr
    assert "CONTROLTOWER_FCM_CREDENTIALS" in done.stderr
    said = good(trained, "summary")
    assert "accounted: yes" in said
    assert "held: none" in said


@pytest.mark.slow
def test_doctor_names_a_broken_template(trained: Path, tmp_path: Path) -> None:
    campaigns = tmp_path / "campaigns"
    campaigns.mkdir()
    spec = yaml.safe_load((INCLUDE / "campaigns" / "win_back.yaml").read_text())
    spec["variants"][0]["subject"]["en"] = "{{ customer.shoe_size.left }}"
    (campaigns / "win_back.yaml").write_text(yaml.safe_dump(spec))
    done = run(trained, "doctor", CONTROLTOWER_CAMPAIGNS=str(campaigns))
    assert done.returncode == 1
    assert "shoe_size" in done.stdout
    planned = run(trained, "campaign", "plan", "win_back", CONTROLTOWER_CAMPAIGNS=str(campaigns))
    assert planned.returncode == 1
    assert "shoe_size" in planned.stderr


@pytest.mark.slow
def test_an_email_address_reaches_neither_output_nor_log(trained: Path) -> None:
    for arguments in (["campaign", "preview", "win_back"], ["summary"], ["-v", "campaign", "plan", "win_back"]):
        done = run(trained, *arguments)
        assert not re.search(r"\S@\S+\.example", done.stdout + done.stderr)
