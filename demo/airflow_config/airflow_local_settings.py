"""What the demo's Airflow does differently; Airflow imports this from its path.

The demo's metadata is in SQLite. `airflow backfill create` reads and then writes, run by run. Where another process
writes in between, SQLite refuses at once ("database is locked"); Airflow then deletes the runs made so far, and the
scheduler, at work on one of them, ends. So that command takes SQLite's write lock first, and makes all runs or none.
"""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

if sys.argv[1:2] == ["backfill"]:

    @event.listens_for(Engine, "connect")
    def leave_begin_to_us(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(Engine, "begin")
    def lock(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
