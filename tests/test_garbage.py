from __future__ import annotations

import gc

from controltower.garbage import seldom_collected


def test_what_overlaps_leaves_the_collector_as_it_was() -> None:
    usual = gc.get_threshold()
    first, second = seldom_collected(), seldom_collected()
    first.__enter__()
    within, frozen = gc.get_threshold(), gc.get_freeze_count()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() == within != usual
    assert gc.get_freeze_count() >= frozen * 0.9 > 0
    second.__exit__(None, None, None)
    assert (gc.get_threshold(), gc.get_freeze_count()) == (usual, 0)
