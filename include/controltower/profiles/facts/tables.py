"""Where facts come from, and how old they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import ibis
import ibis.expr.types as ir

from controltower.profiles.local_time import epoch

Tables = Callable[[str], ir.Table]  # a contract table as of the date: Reading.table, or a dict's __getitem__


def age(second: ir.IntegerValue, as_of: datetime) -> ir.IntegerValue:
    """Seconds before as_of of a second since 1970."""
    return ibis.literal(epoch(as_of), "int64") - second
