"""A message made again from its run's frozen spec, for who asks to see it."""

from __future__ import annotations

from controltower.campaigns import specs
from controltower.campaigns.composing import Composer
from controltower.errors import BadSpec
from controltower.ledger.runs import Run
from controltower.settings import Settings
from controltower.shop import Shop


def composer_of(settings: Settings, shop: Shop, run: Run) -> Composer:
    """What the run's messages share; BadSpec where its template is gone or no longer what it was."""
    composer = Composer.of(settings, shop, specs.validate(dict(run.spec), f"run {run.run_id}"))
    if composer.template.content_hash != run.content_hash:
        raise BadSpec(f"The template {run.spec['template']!r} has changed since run {run.run_id} was planned.")
    return composer
