"""Two customers turn out to be one after both were planned a message: one of the two arrives."""

from __future__ import annotations

from controltower.ledger import persons
from controltower.ledger.database import begin

from delivery.conftest import CUSTOMERS, NOW, Desk


def test_a_person_gets_one_message_of_an_occurrence(desk: Desk) -> None:
    desk.plan()
    with begin(desk.settings) as ledger:
        persons.follow(ledger, {"c1": "c0", "c2": "c0"}, NOW)
    desk.dispatch()
    found = desk.totals()
    assert found.not_sent == {"merged": 2}
    assert found.accepted == {"sendgrid": len(CUSTOMERS) - 2}
    arrived = [m["recipient"] for m in desk.sandbox.http.get("/api/messages", params={"limit": 100}).json()["messages"]]
    assert "c0@customers.example" in arrived
    assert "c1@customers.example" not in arrived
