"""The guides do what they say: docs/engineers.md is followed in a copy of the checkout, the marketers' are complete.

A code block under a line that ends with "`path`:" is that file; `sh` blocks are run, all in one shell, in their order.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
INCLUDE = ROOT / "include" / "controltower"
NAMED = re.compile(r"`(?P<path>[\w./-]+\.\w+)`[^`]*:$")
PATIENCE = 900  # seconds; it takes some three minutes


def blocks(guide: str) -> Iterator[tuple[str, str, str]]:
    """Of each code block: the line above it, its kind, its text."""
    above = kind = ""
    inside: list[str] | None = None
    for line in guide.splitlines():
        if inside is None and line.startswith("```"):
            kind, inside = line.removeprefix("```"), []
        elif inside is not None and line == "```":
            yield above, kind, "\n".join([*inside, ""])
            above, inside = "", None
        elif inside is not None:
            inside.append(line)
        elif line:
            above = line


def script(guide: str) -> str:
    """The guide's blocks as one shell script: files are written where it says so, commands run."""
    parts = ["set -ex", "trap 'kill $(jobs -p)' EXIT"]  # what still runs would keep the pipe open
    for above, kind, text in blocks(guide):
        if kind == "sh":
            parts.append(text)
        elif named := NAMED.search(above):
            arrow = ">>" if above.startswith("Add at the end of") else ">"
            parts.append(f'mkdir -p "$(dirname {named["path"]})"')
            parts.append(f"cat {arrow} {named['path']} <<'END OF THE BLOCK'\n{text}END OF THE BLOCK")
    return "\n".join(parts) + "\n"


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def copied(folder: Path) -> Path:
    """What the guide works on, as in a fresh clone after `make setup`."""
    for part in ("include", "dags"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder in which the engineers' guide was followed, and what it printed."""
    clone = copied(tmp_path_factory.mktemp("guide"))
    sandbox, public = free_port(), free_port()
    text = script((DOCS / "engineers.md").read_text(encoding="utf-8")).replace("make setup\n", "")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "CONTROLTOWER_"))}
    running = subprocess.Popen(
        ["bash", "-c", text.replace("8025", sandbox).replace("8090", public)],
        cwd=clone,
        env=kept
        | {
            "PYTHONPATH": str(clone / "include"),
            "CONTROLTOWER_PUBLIC_URL": f"http://127.0.0.1:{public}",
            "GIT_CEILING_DIRECTORIES": str(clone.parent),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, printed[-3000:]
        yield clone, printed
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_engineers_guide_loads_its_shop(followed: tuple[Path, str]) -> None:
    clone, printed = followed
    assert "orders: files 1, read 8, loaded 7, duplicates 0, quarantined 1" in printed
    assert "broken time of ordered_at 1" in printed
    assert {r["customer_id"] for r in rows(clone / "recommendations.csv")} == {f"C{n}" for n in range(1, 7)}


@pytest.mark.slow
def test_the_engineers_guide_reads_a_database(followed: tuple[Path, str]) -> None:
    clone, printed = followed
    assert "source: shop-database" in printed
    assert (clone / "db-home" / "shop.yaml").is_file()


@pytest.mark.slow
def test_the_engineers_guide_sends_its_campaign_and_hears_of_it(followed: tuple[Path, str]) -> None:
    clone, _ = followed
    planned = {r["customer_id"]: r for r in rows(clone / "plan.csv")}
    reasons = {c: r["reason"] for c, r in planned.items() if r["outcome"] == "not_sent"}
    assert reasons == {"C4": "no_consent", "C5": "no_consent", "C6": "no_address"}
    sent = sorted(c for c, r in planned.items() if r["outcome"] == "message")
    known = {r["customer_id"]: float(r["messages_30d"] or 0) for r in rows(clone / "features.csv")}
    assert [c for c in sorted(known) if known[c]] == sent
    report = (clone / "report.html").read_text(encoding="utf-8")
    assert "Tea time" in report
    samples = json.loads((clone / "preview.json").read_text(encoding="utf-8"))["samples"]
    assert all(s["subject"].startswith("(광고)") for s in samples)


@pytest.mark.slow
def test_the_engineers_guide_trains_its_model(followed: tuple[Path, str]) -> None:
    clone, _ = followed
    cards = (clone / "tea-home" / "models" / "recommend_repeat").glob("20260615T150000Z-*/card.json")
    (card,) = [json.loads(path.read_text(encoding="utf-8")) for path in cards]
    assert "rising" in card["details"]["tried"]


@pytest.mark.slow
@pytest.mark.airflow
def test_the_engineers_guide_makes_a_dag(followed: tuple[Path, str], tmp_path: Path) -> None:
    from support.airflow_process import airflow_environment

    clone, _ = followed
    environment = airflow_environment(tmp_path, clone / "tea-home") | {
        "PYTHONPATH": os.pathsep.join([str(clone / "include"), str(clone / "dags")])
    }

    def ran(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, cwd=clone
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()[-1]

    found = json.loads(ran(str(ROOT / "tests" / "support" / "dag_bag.py"), str(clone / "dags")))
    assert found["errors"] == {}
    assert found["dags"]["export_lifecycle"]["assets"] == ["controltower_profiles"]
    assert found["dags"]["campaign_tea_time"]["owner"] == "marketing"
    (exported,) = (clone / "tea-home" / "exports").glob("lifecycle-*.csv")
    assert sum(int(r["customers"]) for r in rows(exported)) == 6


@pytest.mark.parametrize(
    ("guide", "language"), [("marketers.md", "en"), ("marketers.md", "ko"), ("marketers.ko.md", "ko")]
)
def test_the_marketers_guides_name_every_field_of_the_form(guide: str, language: str) -> None:
    """In English also in Korean: the form speaks the shop's language, which in the demo is Korean."""
    text = (DOCS / guide).read_text(encoding="utf-8")
    words = yaml.safe_load((INCLUDE / "content" / "languages" / f"{language}.yaml").read_text(encoding="utf-8"))["form"]
    fields = set(re.findall(r'field\(\s*"(\w+)"', (ROOT / "dags" / "_form.py").read_text(encoding="utf-8")))
    assert len(fields) == 10
    assert not [words[name] for name in fields if not re.search(rf"\| [^|]*{re.escape(words[name])}[^|]* \|", text)]


@pytest.mark.parametrize(("guide", "language"), [("marketers.md", "en"), ("marketers.ko.md", "ko")])
def test_the_marketers_guides_explain_every_verdict(guide: str, language: str) -> None:
    text = (DOCS / guide).read_text(encoding="utf-8")
    words = yaml.safe_load((INCLUDE / "measurement" / "locales" / f"{language}.yaml").read_text(encoding="utf-8"))[
        "verdict"
    ]
    assert not [word for word in words.values() if f"| {word.partition(':')[0]} |" not in text]
