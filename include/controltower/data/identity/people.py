"""Reading a table by person: the SQL by which each row of a customer becomes one of the person that the customer was.

It works on `_persons` (customer_id, person_id as of the reading's moment, only of ids that belong to another) and
`_spans` (whose the anonymous events of a visitor are, in [since, until)).
"""

from __future__ import annotations

from datetime import datetime

from controltower.data.contract import CONTRACT, Table
from controltower.data.identity.claims import hashed, told
from controltower.data.identity.resolver import KINDS
from controltower.data.sql import listed, quoted

NOBODY = "SELECT '' AS customer_id, '' AS person_id WHERE false"
WANTED = """
    CREATE OR REPLACE TEMP TABLE _asked AS
    SELECT value AS asked, coalesce(person_id, value) AS person FROM _wanted LEFT JOIN _persons ON customer_id = value;
    CREATE OR REPLACE TEMP TABLE _ids AS
    SELECT person AS value FROM _asked
    UNION SELECT customer_id FROM _persons WHERE person_id IN (SELECT person FROM _asked)"""
OWNERS = ("customer_id", "issued_to")  # columns that hold a customer's id


def then(as_of: datetime | None) -> str:
    """Which rows of a history hold as of a moment."""
    if as_of is None:
        return "until IS NULL"
    moment = f"TIMESTAMPTZ '{as_of.isoformat()}'"
    return f"since <= {moment} AND (until IS NULL OR until > {moment})"


def by_person(contract: Table, query: str) -> str:
    """The rows of a query over a contract table, with the person's id in place of the customer's."""
    owner = next((c.name for c in contract.columns if c.name in OWNERS), None)
    if owner is None:
        return query
    if contract.key == ("customer_id",):
        return _one_each(contract, query)
    return (
        f"SELECT q.* REPLACE (coalesce(p.person_id, q.{owner}) AS {owner})"
        f" FROM ({query}) q LEFT JOIN _persons p ON p.customer_id = q.{owner}"
    )


def _one_each(contract: Table, query: str) -> str:
    """One row a person: of each column the newest value that there is, of `signed_up_at` the first."""
    columns = []
    for column in contract.columns:
        name = quoted(column.name)
        if column.name == "customer_id":
            columns.append(f"_person AS {name}")
        elif column.name == "signed_up_at":
            columns.append(f"min({name}) AS {name}")
        else:
            newest = f"ORDER BY {quoted(contract.known)} DESC, customer_id"
            columns.append(f"first({name} {newest}) FILTER ({name} IS NOT NULL) AS {name}")
    return f"""
        SELECT q.* FROM ({query}) q
        WHERE customer_id NOT IN (SELECT customer_id FROM _persons UNION ALL SELECT person_id FROM _persons)
        UNION ALL
        SELECT {", ".join(columns)}
        FROM (SELECT q.*, coalesce(p.person_id, q.customer_id) AS _person
              FROM ({query}) q LEFT JOIN _persons p USING (customer_id))
        WHERE _person IN (SELECT person_id FROM _persons) GROUP BY _person"""


def as_asked(query: str) -> str:
    """Rows by person with the ids that were asked for (`WANTED`): a person who was asked for twice is there twice."""
    return f"SELECT q.* REPLACE (a.asked AS customer_id) FROM ({query}) q JOIN _asked a ON a.person = q.customer_id"


def with_history(query: str) -> str:
    """Events by person, a visitor's anonymous ones with the person that they belong to."""
    columns = ", ".join(
        "coalesce(p.person_id, e.customer_id, s.customer_id) AS customer_id"
        if c.name == "customer_id"
        else f"e.{quoted(c.name)}"
        for c in CONTRACT["events"].columns
    )
    return f"""
        SELECT {columns}
        FROM ({query}) e
        LEFT JOIN _persons p ON p.customer_id = e.customer_id
        LEFT JOIN _spans s ON s.visitor_id = CASE WHEN e.customer_id IS NULL THEN e.visitor_id END
             AND e.occurred_at >= s.since AND e.occurred_at < s.until"""


def spans(events: str, identities: str, keys: str | None, days: int) -> str:
    """Makes `_spans`: visitor_id, customer_id (the person's), since, until.

    Of a visitor on which one person only logged in: theirs, from `days` before the first log-in on. Of one on which
    several did: what lies between two log-ins of the same person without another's between them; the rest stays
    anonymous. A log-in is an event or a row of `identities` with both ids, or one of `identities` with a visitor and a
    key that one person only has told. All are queries as of the moment; `keys` (kind, key, customer_id) may be None
    where no visitor has told a key.
    """
    by_key = f"""
            UNION ALL
            SELECT i.visitor_id, k.person_id, i.seen_at AS moment
            FROM (SELECT visitor_id, seen_at, lower(kind) AS kind, {hashed("lower(kind)", "value")} AS key
                  FROM ({identities}) WHERE customer_id IS NULL) i
            JOIN (SELECT kind, key, min(coalesce(person_id, customer_id)) AS person_id
                  FROM ({keys}) LEFT JOIN _persons USING (customer_id)
                  GROUP BY kind, key
                  HAVING min(coalesce(person_id, customer_id)) = max(coalesce(person_id, customer_id))) k
            USING (kind, key)"""
    return f"""
        CREATE TEMP TABLE _spans AS
        WITH seen AS (
            SELECT visitor_id, customer_id, occurred_at AS moment FROM ({events}) WHERE customer_id IS NOT NULL
            UNION ALL
            SELECT visitor_id, customer_id, seen_at FROM ({identities}) WHERE customer_id IS NOT NULL
            {by_key if keys else ""}
        ),
        logins AS MATERIALIZED (
            SELECT visitor_id, coalesce(person_id, customer_id) AS customer_id, moment
            FROM (SELECT * FROM seen SEMI JOIN
                  (SELECT visitor_id FROM ({events}) WHERE customer_id IS NULL) USING (visitor_id))
            LEFT JOIN _persons USING (customer_id)
        ),
        visitors AS (
            SELECT visitor_id, min(customer_id) AS one, max(customer_id) AS other, min(moment) AS earliest
            FROM logins GROUP BY visitor_id
        ),
        steps AS (
            SELECT *, count(*) FILTER (customer_id IS DISTINCT FROM before) OVER w AS stretch
            FROM (SELECT *, lag(customer_id) OVER w AS before
                  FROM logins SEMI JOIN (SELECT visitor_id FROM visitors WHERE one <> other) USING (visitor_id)
                  WINDOW w AS (PARTITION BY visitor_id ORDER BY moment, customer_id))
            WINDOW w AS (PARTITION BY visitor_id ORDER BY moment, customer_id ROWS UNBOUNDED PRECEDING)
        )
        SELECT visitor_id, one AS customer_id, earliest - INTERVAL {days} DAY AS since, TIMESTAMPTZ 'infinity' AS until
        FROM visitors WHERE one = other
        UNION ALL
        SELECT visitor_id, customer_id, min(moment), max(moment) FROM steps
        GROUP BY visitor_id, customer_id, stretch HAVING min(moment) < max(moment)"""


def of_visitors(query: str) -> str:
    """The rows of a query over events or identities that name a visitor."""
    return f"SELECT * FROM ({query}) WHERE visitor_id IS NOT NULL"


def keys_as_of(customers: list[str], identities: list[str], country: str, as_of: datetime | None) -> str:
    """The keys that customers had told by a moment, in these files."""
    limit = f"since <= TIMESTAMPTZ '{as_of.isoformat()}'" if as_of else "true"
    return f"SELECT kind, key, customer_id FROM ({told(customers, identities, country)}) WHERE {limit}"


def keyed(identities: str) -> str:
    """The rows of a query over identities by which a key alone tells whose a visitor is."""
    kinds = f"list_contains({listed(list(KINDS))}, lower(kind))"
    return f"SELECT * FROM ({identities}) WHERE visitor_id IS NOT NULL AND customer_id IS NULL AND {kinds}"
