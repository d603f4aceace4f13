"""The definitions: complete, used by the docs word by word, and never a division by nothing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from controltower.content import words
from controltower.ledger.funnels import FLAGS, Cell
from controltower.measurement import wording
from controltower.measurement.funnel import funnel
from controltower.measurement.kpis import KPIS, figures
from controltower.measurement.wording import shown
from hypothesis import given
from hypothesis import strategies as st

DOCS = Path(__file__).resolve().parents[2] / "docs" / "measurement.md"


def test_the_docs_quote_every_definition() -> None:
    text, t = DOCS.read_text(encoding="utf-8"), wording.speak("en")
    for kpi in KPIS:
        assert f"| {t(f'kpi.{kpi.name}.label')} | {kpi.unit} | {t(f'kpi.{kpi.name}.means')} |" in text


def test_names_and_labels_are_unique() -> None:
    assert len({k.name for k in KPIS}) == len(KPIS)
    for language in ("en", "ko"):
        assert len({wording.speak(language)(f"kpi.{k.name}.label") for k in KPIS}) == len(KPIS)


def test_both_languages_have_every_word_of_the_report() -> None:
    texts = words.load(wording.LOCALES).texts
    assert texts["en"].keys() == texts["ko"].keys()
    for key, text in texts["en"].items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", texts["ko"][key])), key


def test_of_nothing_every_rate_says_why_there_is_none() -> None:
    for figure in figures({}):
        if figure.kpi.top:
            assert figure.value is None and figure.reason
        else:
            assert figure.value == 0 and figure.reason is None


cells = st.lists(
    st.builds(
        Cell, st.sampled_from(["email", "push"]), st.sampled_from(["a", "b"]),
        st.none(), st.sampled_from(["accepted", "waiting", "not_sent", "rejected", "unknown", "cancelled"]),
        st.sampled_from([None, "expired"]), st.integers(1, 50),
        st.fixed_dictionaries({name: st.integers(0, 1) for name in FLAGS}),
    ),
    max_size=12,
)  # fmt: skip


@given(cells)
def test_parts_sum_to_the_run_and_every_message_has_one_place(given_cells: list[Cell]) -> None:
    total = sum(c.messages for c in given_cells)
    made = funnel([("message", None, total)] if total else [], given_cells)
    assert made.accounted
    for kind in ("channel", "variant"):
        parts: Counter[str] = Counter()
        for (level, _), counts in made.levels.items():
            if level == kind:
                parts.update(counts)
        for name in ("messages", "accepted", "stopped", "waiting", "told", *FLAGS):
            assert parts[name] == made.run[name], name
    for level, counts in made.levels.items():
        for figure in figures(counts, whole_run=level == ("run", "")):
            assert (figure.value is None) == (figure.reason is not None)


@pytest.mark.parametrize(("value", "unit", "text"), [
    (None, "share", "–"), (0.1234, "share", "12.3 %"), (0.0012, "share", "0.12 %"), (0.0, "share", "0.0 %"),
    ("12300.0000", "money", "₩12,300"), (1234567, "messages", "1,234,567"), (0, "customers", "0"),
])  # fmt: skip
def test_figures_as_people_read_them(value: object, unit: str, text: str) -> None:
    assert shown(value, unit, "KRW") == text
