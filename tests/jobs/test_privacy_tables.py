"""No table is forgotten by `controltower privacy`: each is reached, or declared as nobody's."""

from __future__ import annotations

import pyarrow as pa
import pytest
from controltower import settings
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.data.persons import NOBODYS, _whose
from controltower.errors import ControlTowerError
from controltower.jobs.ingest import publish
from controltower.ledger import erasures, tables

# Columns of the ledger that name a person, lead to one, or tell of one.
TELLING = {
    "customer_id", "person_id", "subject_id", "own_subject_id", "message_id", "device_id", "address_hash", "hash",
    "value", "body", "detail", "proof", "choices", "choice",
}  # fmt: skip
REACHED = {
    "arms": {"subject_id"},
    "consents": {"customer_id", "proof"},
    "decisions": {"customer_id", "subject_id", "choices"},
    "delivery_events": {"message_id", "detail"},
    "event_bodies": {"body"},
    "merges": {"customer_id", "person_id"},
    "messages": {"customer_id", "subject_id", "message_id"},
    "requests": {"device_id"},
    "subjects": {"customer_id", "subject_id", "own_subject_id"},
    "suppressions": {"value"},
    "test_sends": {"customer_id", "address_hash"},
    "webhook_bodies": {"body"},
}
HASHES = {"erased": {"hash"}}  # keyed, and kept so that no load brings them back
SHARED = {"choices": {"choice"}}  # what several were offered
NOBODYS_IN_THE_LEDGER = {
    "approvals", "batches", "campaign_runs", "loads", "occurrences", "outcomes", "planning_failures", "provider_rates",
    "providers", "readouts", "signing_keys",
}  # fmt: skip


def test_every_table_of_the_ledger_is_reached_or_nobodys() -> None:
    told = {t.name: TELLING & {c.name for c in t.columns} for t in tables.metadata.sorted_tables}
    assert told == REACHED | HASHES | SHARED | {name: set() for name in NOBODYS_IN_THE_LEDGER}
    by_id = {name for name, columns in REACHED.items() if "customer_id" in columns}
    assert by_id == {t.name for t in erasures._NAMING} | {"merges"}
    assert {name for name, columns in REACHED.items() if "body" in columns} == set(erasures.BODIES)


def test_every_table_of_the_lake_is_reached_or_nobodys(home: object) -> None:
    for name, contract in CONTRACT.items():
        people = {"customer_id", "visitor_id", "email", "order_id", "message_id", "device_id", "issued_to"}
        reached = _whose(name, contract.schema.names) is not None
        assert reached == (name not in NOBODYS) and reached >= bool(people & set(contract.schema.names)), name
    lake = Lake(settings.load())
    publish(lake, "t", {"wishes": lake.write("wishes", pa.table({"customer_id": ["c"], "sku": ["x"]}))})
    with pytest.raises(ControlTowerError, match="Whose the rows of wish_list are isn't known"):
        publish(lake, "t", {"wish_list": lake.write("wish_list", pa.table({"visitor": ["v"], "sku": ["x"]}))})
