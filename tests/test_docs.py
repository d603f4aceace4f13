"""The docs are whole: a setting, field, command, DAG or route without a line in them fails a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from controltower.campaigns.specs import Audience, Recommend, Spec, Variant, Window
from controltower.cli import app
from controltower.data.sources.mapping import SourceFile, TableMapping
from controltower.settings import Settings
from controltower.shop import FrequencyCap, ProviderRules, Sender, Shop
from pydantic import BaseModel
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text under a heading of the reference, up to the next of its level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/reference.md has no heading {heading!r}"
    return found[1]


def named(text: str) -> set[str]:
    """The words in the first cells of a text's tables."""
    cells = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def fields(*models: type[BaseModel]) -> set[str]:
    return {name for model in models for name in model.model_fields}


def test_every_command_is_in_the_reference() -> None:
    top = get_command(app)
    known = set()
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        known |= {f"controltower {name} {sub}" for sub in inner} if inner else {f"controltower {name}"}
    assert named(section("Commands")) == known


def test_every_setting_is_in_the_reference() -> None:
    assert named(section("Settings")) == {f"CONTROLTOWER_{name.upper()}" for name in fields(Settings)}


def test_every_field_of_the_shop_file_is_in_the_reference() -> None:
    assert named(section("`shop.yaml`")) == fields(Shop)
    inner = fields(Sender, FrequencyCap, ProviderRules)
    assert not [name for name in inner if f"`{name}`" not in section("`shop.yaml`")]


def test_every_field_of_a_source_is_in_the_reference() -> None:
    assert named(section("A source's YAML")) == fields(SourceFile, TableMapping)


def test_every_field_of_a_campaign_is_in_the_reference() -> None:
    text = section("Campaign specs")
    assert named(text) == fields(Spec)
    assert not [name for name in fields(Audience, Variant, Recommend, Window) if f"`{name}`" not in text]


def test_every_dag_is_in_the_docs() -> None:
    text = (DOCS / "airflow.md").read_text(encoding="utf-8")
    files = {p.stem for p in (ROOT / "dags").glob("*.py") if not p.stem.startswith("_")} - {"campaigns"}
    assert not [name for name in files if f"| `{name}` |" not in text]


def test_every_room_is_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "include" / "controltower"
    rooms = {p.parent.name for p in package.glob("*/__init__.py")}
    assert not [room for room in rooms if f"| `… {room}/` |" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if link.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_folder_of_this_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w.])/(?:home|root|work|tmp|Users)/\w+", text)
