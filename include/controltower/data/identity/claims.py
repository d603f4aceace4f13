"""Which keys customers have told, as SQL over the lake's files of `customers` and `identities`.

Keys are kept as SHA-256 in hex: of an address in lower case, of a phone number with its country's code (+821012345678),
of a log-in or a card as it is. A shop's own `email_hash` and `phone_hash` are taken as made in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

from controltower.data.identity.resolver import KINDS
from controltower.data.sql import listed, literal

# Countries whose national numbers begin with a 0 that goes when the country's code comes; elsewhere a national number
# is told apart by the country's letters.
_CALLING = {
    "AT": "43", "AU": "61", "BE": "32", "CH": "41", "CN": "86", "DE": "49", "FR": "33", "GB": "44", "IE": "353",
    "IN": "91", "JP": "81", "KR": "82", "NL": "31", "NZ": "64", "SE": "46", "TW": "886",
}  # fmt: skip
_SHORTEST = 8  # digits of a phone number that tells a person


def told(customers: Sequence[str], identities: Sequence[str], country: str, only: str = "true") -> str:
    """SELECT of kind, key, customer_id, since: a row for each time that a customer told a key, in these files.

    `country` is the shop's, where a customer's own is unknown; `only` limits the files' rows.
    """
    selects = [_NONE]
    if customers:
        files = f"read_parquet({listed(list(customers))})"
        selects += [
            "SELECT 'email_hash', sha256(lower(trim(email))), customer_id, updated_at"
            f" FROM {files} WHERE trim(email) <> '' AND {only}",
            f"""
            SELECT 'phone_hash', sha256({_phone()}), customer_id, updated_at
            FROM (SELECT customer_id, updated_at, {_WRITTEN} AS digits,
                         upper(coalesce(nullif(country, ''), {literal(country)})) AS land
                  FROM {files} WHERE phone IS NOT NULL AND {only})
            WHERE length(digits) >= {_SHORTEST}""",
        ]
    if identities:
        selects.append(f"""
            SELECT lower(kind), {hashed("lower(kind)", "value")}, customer_id, seen_at
            FROM read_parquet({listed(list(identities))})
            WHERE customer_id IS NOT NULL AND list_contains({listed(list(KINDS))}, lower(kind)) AND {only}""")
    return " UNION ALL ".join(selects)


_NONE = (
    "SELECT NULL::VARCHAR AS kind, NULL::VARCHAR AS key, NULL::VARCHAR AS customer_id, NULL::TIMESTAMPTZ AS since"
    " WHERE false"
)


def hashed(kind: str, value: str) -> str:
    """The key of a row of `identities`."""
    return f"CASE WHEN {kind} LIKE '%_hash' THEN lower({value}) ELSE sha256({value}) END"


_WRITTEN = "regexp_replace(replace(phone, '(0)', ''), '[^0-9+]', '', 'g')"


def _phone() -> str:
    """A phone number (`digits`, of a country `land`) as one text, however it is written."""
    codes = " ".join(f"WHEN {literal(land)} THEN {literal(code)}" for land, code in _CALLING.items())
    international = "CASE WHEN digits[1] = '+' THEN digits ELSE '+' || digits[3:] END"
    known = "|".join(sorted(_CALLING.values()))
    return (
        "CASE WHEN digits[1] = '+' OR digits[:2] = '00'"
        rf" THEN regexp_replace({international}, '^\+({known})0', '+\1')"  # +82 010: as it is often written
        f" ELSE coalesce('+' || CASE land {codes} END || ltrim(digits[1], '0') || digits[2:], land || digits) END"
    )
