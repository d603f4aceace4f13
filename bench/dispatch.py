"""CPU a mail where each is a request of its own, rendered whole, beside the official client in a loop.

Both send six-product mails over TLS to the same acceptor, whose work isn't counted; nor is planning. Ours also claims,
checks each message once more, and writes each request down twice.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from controltower import settings
from controltower.data.lake import Lake
from controltower.delivery.dispatch import Dispatcher
from controltower.delivery.providers.sendgrid import SendGrid
from controltower.settings import Settings

from bench import _campaign
from bench._acceptor import accepting
from bench._naive import Naive

CUSTOMERS, PAIRS = 5000, 5


def run() -> list[dict[str, Any]]:
    """Medians of interleaved pairs."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder, accepting(Path(folder)) as acceptor:
        for pair in range(PAIRS):
            home = Path(folder) / str(pair)
            home.mkdir()
            _campaign.write_shop(home, CUSTOMERS)
            _campaign.write_customers(home, None, CUSTOMERS)
            conf = Settings(home=home, sendgrid_url=acceptor.url, sendgrid_api_key="SG.bench")  # type: ignore[arg-type]
            _campaign.set_time(home, _campaign.PLANNED)
            _campaign.run(home, {}, None, ["campaign", "plan", _campaign.CAMPAIGN])
            _campaign.set_time(home, _campaign.ALL_DUE)
            pairs.append((_micros(conf), Naive(conf).micros()))
    ours, naive = (statistics.median(side) for side in zip(*pairs, strict=True))
    name = "send a mail, one body a request, ledger included, CPU"
    return [{"name": name, "value": ours, "unit": "µs", "naive": naive}]


def _micros(conf: Settings) -> float:
    began = time.process_time()
    with patch.object(SendGrid, "splits", False), Lake(conf).read(_campaign.ALL_DUE) as lake:
        report = Dispatcher(conf, settings.load_shop(conf), lake).run()
    if set(report.requests) != {"sent"} or report.refused:
        raise RuntimeError(f"not all was sent: {report}")
    return (time.process_time() - began) / report.requests["sent"] * 1e6
