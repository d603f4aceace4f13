"""Making a simulated shop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from controltower import clock, settings


def simulate_shop(folder: Path, until: str, customers: int | None = None, seed: int = 1) -> dict[str, Any]:
    """Write a simulated shop into a folder, with its shop file. Returns rows by table."""
    import shutil

    from controltower.simulation.parameters import Parameters
    from controltower.simulation.shop import generate

    shop_file = settings.INCLUDE / "shops" / "simulated.yaml"
    moment = clock.parse(until, settings.parse_shop(shop_file))
    parameters = Parameters.load()
    if customers:
        parameters = parameters.model_copy(update={"customers": customers})
    rows = generate(folder, until=moment, parameters=parameters, seed=seed)
    shutil.copy(shop_file, folder / "shop.yaml")
    return {"folder": str(folder), "until": moment.isoformat(), "rows": rows}
