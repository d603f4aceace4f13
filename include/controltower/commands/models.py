"""`controltower models`: which models serve, and their cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from controltower.commands.options import AsOf
from controltower.commands.showing import columns, plain

if TYPE_CHECKING:
    from controltower.models.registry import Card

_BAR = 40  # letters of the widest


def models(
    name: Annotated[str | None, typer.Argument(help="one model, for its whole card")] = None, as_of: AsOf = None
) -> None:
    """The models that serve beside baseline and predecessor, and why; with a name its card."""
    from controltower.jobs.cards import compared, model_card, model_cards

    if name is not None:
        _show_card(model_card(name, as_of))
        return
    cards = model_cards(as_of)
    header = ["model", "version", "serves", "metric", "challenger", "baseline", "in service", "published"]
    rows = [
        [c.name, c.version, c.serves, c.metric, *map(_figure, compared(c).values()), plain(c.published)] for c in cards
    ]
    print(*columns(header, rows, 30, 150), "", sep="\n")
    for card in cards:
        print(f"{card.name}: {plain(card.why)}")


def _show_card(card: Card) -> None:
    window = f"{card.window[0]:%Y-%m-%d} to {card.window[1]:%Y-%m-%d}" if card.window else "nothing"
    from controltower.jobs.cards import too_few_dates

    details = dict(card.details)
    print(f"{card.name} {card.version}: {card.serves} serves")
    print(plain(card.why))
    print(f"as of {card.as_of:%Y-%m-%d %H:%M} UTC, learned from {window} ({plain(card.rows)}), by {card.code_version}")
    metrics = list(dict.fromkeys([*card.metrics, *card.baseline_metrics]))
    if metrics:
        rows = [
            [m + (" (decides)" if m == card.metric else ""), *(_figure(of.get(m)) for of in _both(card))]
            for m in metrics
        ]
        print("", *columns(["past dates", card.challenger, card.baseline], rows, 40), sep="\n")
    beside = details.pop("in_service", None)
    if isinstance(beside, dict):
        print(f"\nin service before: {plain(beside)}")
    if rows := details.pop("backtest", None):
        names = list(dict.fromkeys(name for row in rows for name in row))
        print("\nbacktest", *columns(names, [[_cell(row.get(n)) for n in names] for row in rows], 32), sep="\n")
    if (few := too_few_dates(card)) is not None:
        print(
            f"\nPast dates that could be judged: {few}. Three are wanted, but the data reach no further, or too little"
            " happened."
        )
    calibration = details.pop("calibration", None) or {}
    if table := calibration.pop("table", None):
        print("\ncalibration: what was said (|) and what came (#), in equal parts of those judged")
        print(*_plot(table), sep="\n")
    if calibration:
        details["calibration"] = calibration
    if drift := details.pop("drift", None):
        print(f"\ndrift since then (above .25: another population): {plain(drift)}")
    if details:
        print("")
    for key, value in details.items():
        print(f"{key}: {plain(value)}")


def _both(card: Card) -> tuple[dict[str, float], dict[str, float]]:
    return card.metrics, card.baseline_metrics


def _plot(table: list[dict[str, Any]]) -> list[str]:
    most = max(max(row["said"], row["came"]) for row in table) or 1.0
    rows = []
    ends = [name for name in ("low", "high") if name in table[0]]
    for row in table:
        bar = list("#" * round(_BAR * max(row["came"], 0) / most)) + [" "] * (_BAR + 1)
        bar[round(_BAR * max(row["said"], 0) / most)] = "|"
        rows.append([str(row["customers"]), _cell(row["said"]), _cell(row["came"]), *(_cell(row[e]) for e in ends),
                     "".join(bar).rstrip()])  # fmt: skip
    return columns(["customers", "said", "came", *ends, ""], rows, _BAR + 2)


def _cell(value: object) -> str:
    return _figure(value) if isinstance(value, float) else "" if value is None else plain(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
