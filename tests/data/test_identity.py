"""One person from loads: any split and order of them gives the same, undo included, and tables are read by person."""

from __future__ import annotations

from controltower.data.identity import history
from controltower.data.lake import Lake

from data.conftest import LINES, ORDERS, Ingest, rows, utc

PEOPLE = "customer_id,updated_at,email,phone,birth_date,signed_up_at,first_name\n"
IDENTITIES = "kind,value,customer_id,visitor_id,seen_at\n"


def people(lake: Lake, as_of: str | None = None) -> dict[str, str]:
    """Whose each customer id is, where it isn't its own."""
    moment = utc(as_of) if as_of else utc("2026-01-01")
    return {
        s.customer: s.person for s in history.stays(lake) if s.since <= moment and (s.until is None or moment < s.until)
    }


def test_store_and_online_meet_by_phone_address_and_card(lake: Lake, ingest: Ingest) -> None:
    report = ingest({
        "customers.csv": PEOPLE
        + "web1,2025-03-01,Ann@Mail.example,010-1234-5678,,2025-03-01,Ann\n"
        + "pos9,2025-05-01,,+82 10 1234 5678,,2025-05-01,\n"
        + "app7,2025-06-01, ann@mail.example ,,1990-01-01,2025-06-01,\n"
        + "other,2025-06-01,bob@mail.example,,,2025-06-01,Bob\n",
        "identities.csv": IDENTITIES + "loyalty,L-1,web1,,2025-07-01\nLoyalty,L-1,card3,,2025-08-01\n",
        "orders.csv": ORDERS + "o1,2025-05-02,GBP,pos9,,\no2,2025-09-02,GBP,card3,,\no3,2025-09-02,GBP,other,,\n",
        "order_lines.csv": LINES + "o1,1,p1,1,5\no2,1,p1,1,5\no3,1,p1,1,5\n",
    })  # fmt: skip
    assert people(lake) == {"pos9": "web1", "app7": "web1", "card3": "web1"}
    assert people(lake, "2025-05-15") == {"pos9": "web1"}
    assert report["identity"] == {"customers": 4, "merged": 3, "parted": 0}
    assert [o["customer_id"] for o in rows(lake, "orders")] == ["web1", "web1", "other"]
    assert [o["customer_id"] for o in rows(lake, "orders", as_of="2025-05-02T01:00")] == ["web1"]
    assert [o["customer_id"] for o in rows(lake, "orders", as_of="2025-05-02")] == ["web1"]
    ann, bob = sorted(rows(lake, "customers"), key=lambda row: str(row["customer_id"]), reverse=True)
    assert (bob["customer_id"], ann["customer_id"]) == ("other", "web1")
    assert ann["signed_up_at"] == utc("2025-03-01")
    assert (ann["email"], ann["first_name"], str(ann["birth_date"])) == ("ann@mail.example", "Ann", "1990-01-01")
    assert len(rows(lake, "customers", as_of="2025-03-15")) == 1


def test_a_persons_contact_is_found_by_any_of_its_ids(lake: Lake, ingest: Ingest) -> None:
    ingest({
        "customers.csv": PEOPLE
        + "a,2025-03-01,ann@mail.example,,,2025-03-01,Ann\n"
        + "b,2025-04-01,ann@mail.example,,,2025-04-01,\n"
        + "c,2025-04-01,cat@mail.example,,,2025-04-01,Cat\n",
        "devices.csv": "device_id,customer_id,push_token,last_seen_at,updated_at\nd1,b,t1,2025-05-01,2025-05-01\n"
        "d2,a,t2,2025-05-01,2025-05-01\nd3,c,t3,2025-05-01,2025-05-01\n",
    })  # fmt: skip
    with lake.read() as reading:
        named = reading.of("customers", "customer_id", ["b", "c"], ["customer_id", "first_name"]).to_pylist()
        both = reading.of("devices", "customer_id", ["a", "b"], ["customer_id", "device_id"]).to_pylist()
    assert sorted(named, key=str) == [
        {"customer_id": "b", "first_name": "Ann"}, {"customer_id": "c", "first_name": "Cat"},
    ]  # fmt: skip
    assert sorted((row["customer_id"], row["device_id"]) for row in both) == [
        ("a", "d1"), ("a", "d2"), ("b", "d1"), ("b", "d2"),
    ]  # fmt: skip


VIEWS = "event_id,occurred_at,event_name,received_at,visitor_id,customer_id\n"


def whose(lake: Lake, as_of: str | None = None) -> dict[str, str | None]:
    return {e["event_id"]: e.get("customer_id") for e in rows(lake, "events", as_of)}


def view(event: str, at: str, visitor: str, customer: str = "", received: str = "") -> str:
    return f"{event},{at},view_item,{received or at},{visitor},{customer}\n"


def test_anonymous_history_joins_on_log_in(lake: Lake, ingest: Ingest) -> None:
    ingest({
        "events.csv": VIEWS
        + view("old", "2025-05-01", "v1")  # more than 30 days before the log-in
        + view("before", "2025-06-20", "v1")
        + view("login", "2025-07-01", "v1", "a")
        + view("after", "2025-09-01", "v1")
        + view("stranger", "2025-07-02", "v2"),
    })  # fmt: skip
    assert whose(lake) == {"old": None, "before": "a", "login": "a", "after": "a", "stranger": None}
    assert whose(lake, "2025-06-30") == {"old": None, "before": None}
    assert len(rows(lake, "events")) == 5


def test_a_log_in_that_is_known_later_counts_from_then_on(lake: Lake, ingest: Ingest) -> None:
    ingest({"events.csv": VIEWS + view("before", "2025-06-20", "v1")
            + view("login", "2025-07-01", "v1", "a", received="2025-07-05")})  # fmt: skip
    assert whose(lake, "2025-07-04")["before"] is None
    assert whose(lake, "2025-07-05")["before"] == "a"


def test_a_shared_tablet_does_not_glue_a_family_together(lake: Lake, ingest: Ingest) -> None:
    told = "".join(f"login,{who},{who},tablet,2025-0{n}-01\nad_id,ad,{who},,2025-0{n}-01\n"
                   for n, who in enumerate(("mum", "dad", "kim", "lee"), start=2))  # fmt: skip
    ingest({
        "identities.csv": IDENTITIES + told,
        "customers.csv": PEOPLE + "".join(f"{who},,{who}@mail.example,02-555-0100,,2025-01-01,\n"
                                          for who in ("mum", "dad", "kim", "lee")),
        "devices.csv": "device_id,customer_id,ad_id\n" + "".join(f"tablet,{w},ad\n" for w in ("mum", "dad")),
        "events.csv": VIEWS
        + view("early", "2025-01-20", "tablet")
        + view("m1", "2025-07-01", "tablet", "mum") + view("mums", "2025-07-02", "tablet")
        + view("m2", "2025-07-03", "tablet", "mum") + view("whose", "2025-07-04", "tablet")
        + view("d1", "2025-07-05", "tablet", "dad") + view("dads", "2025-07-06", "tablet")
        + view("d2", "2025-07-07", "tablet", "dad") + view("late", "2025-07-09", "tablet"),
    })  # fmt: skip
    assert people(lake) == {}
    found = whose(lake)
    assert {k: found[k] for k in ("mums", "dads", "early", "whose", "late")} == {
        "mums": "mum", "dads": "dad", "early": None, "whose": None, "late": None,
    }  # fmt: skip


def test_a_visitor_who_tells_a_key_is_its_customer(lake: Lake, ingest: Ingest) -> None:
    import hashlib

    address = hashlib.sha256(b"ann@mail.example").hexdigest()
    ingest({
        "customers.csv": PEOPLE + "a,2025-03-01,ann@mail.example,,,2025-03-01,\n",
        "identities.csv": IDENTITIES + f"email_hash,{address.upper()},,v1,2025-06-01\n",
        "events.csv": VIEWS + view("e", "2025-06-02", "v1"),
    })  # fmt: skip
    assert whose(lake) == {"e": "a"}
    assert whose(lake, "2025-06-03") == {"e": "a"}


def test_visitors_of_merged_customers_are_one_person(lake: Lake, ingest: Ingest) -> None:
    ingest({
        "customers.csv": PEOPLE + "".join(f"{c},2025-03-01,x@mail.example,,,2025-03-01,\n" for c in "ab"),
        "events.csv": VIEWS + view("1", "2025-06-02", "v1", "a") + view("2", "2025-06-03", "v1")
        + view("3", "2025-06-04", "v1", "b") + view("4", "2025-06-05", "v1"),
    })  # fmt: skip
    assert set(whose(lake).values()) == {"a"}
    assert whose(lake, "2025-03-15") == {}
