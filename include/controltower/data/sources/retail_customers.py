"""What Online Retail doesn't have and a demo needs: names, addresses, devices and consents, made up with a fixed seed.

Everything follows from the customer's id alone, so that it is the same in every home and for every end of the data.
Addresses end in `.example`, tokens can't be delivered to.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import pandas as pd

SEED = "online-retail-1"
MADE_UP = "online-retail demo (made up)"

EMAIL_CONSENT = 0.80  # share of customers who agree to marketing by e-mail at their first order
PUSH_CONSENT = 0.50  # share who have the app and agree to push
WITHDRAWN = 0.03  # share of those consents that are withdrawn, one to six months later

_FIRST = (
    "Ada Alice Amir Anna Ben Carla Chen Clara Daniel David Dora Elena Emil Emma Eva Finn Flora George Grace Hana Hugo"
    " Ida Ivan Jack James Jana Jonas Julia Kai Karl Kim Lara Lena Leo Lina Lucas Luis Maja Maria Max Mia Milan Mina"
    " Nadia Nina Noah Nora Olga Omar Oscar Paul Priya Rosa Sam Sara Sofia Theo Tom Vera Yuki Zoe"
).split()
_LAST = (
    "Adams Bailey Baker Barnes Bennett Brooks Carter Clarke Cole Collins Cooper Cox Davies Dixon Ellis Evans Fisher"
    " Foster Gray Green Hall Harris Hill Hughes Hunt Jackson James Jones Kelly King Lee Lewis Marsh Martin Mason Mills"
    " Moore Morgan Murphy Owen Palmer Parker Price Reed Reid Roberts Rose Scott Shaw Stone Taylor Turner Walker Ward"
    " Watson Webb West White Wood Wright Young"
).split()

# country -> ISO 3166, time zone (the capital's), locale; null where the file names no one country
COUNTRIES: dict[str, tuple[str, str, str]] = {
    "United Kingdom": ("GB", "Europe/London", "en-GB"), "Germany": ("DE", "Europe/Berlin", "de-DE"),
    "France": ("FR", "Europe/Paris", "fr-FR"), "EIRE": ("IE", "Europe/Dublin", "en-IE"),
    "Spain": ("ES", "Europe/Madrid", "es-ES"), "Netherlands": ("NL", "Europe/Amsterdam", "nl-NL"),
    "Belgium": ("BE", "Europe/Brussels", "nl-BE"), "Switzerland": ("CH", "Europe/Zurich", "de-CH"),
    "Portugal": ("PT", "Europe/Lisbon", "pt-PT"), "Australia": ("AU", "Australia/Sydney", "en-AU"),
    "Norway": ("NO", "Europe/Oslo", "nb-NO"), "Italy": ("IT", "Europe/Rome", "it-IT"),
    "Channel Islands": ("JE", "Europe/Jersey", "en-GB"), "Finland": ("FI", "Europe/Helsinki", "fi-FI"),
    "Cyprus": ("CY", "Asia/Nicosia", "el-CY"), "Sweden": ("SE", "Europe/Stockholm", "sv-SE"),
    "Austria": ("AT", "Europe/Vienna", "de-AT"), "Denmark": ("DK", "Europe/Copenhagen", "da-DK"),
    "Japan": ("JP", "Asia/Tokyo", "ja-JP"), "Poland": ("PL", "Europe/Warsaw", "pl-PL"),
    "Israel": ("IL", "Asia/Jerusalem", "he-IL"), "USA": ("US", "America/New_York", "en-US"),
    "Hong Kong": ("HK", "Asia/Hong_Kong", "zh-HK"), "Singapore": ("SG", "Asia/Singapore", "en-SG"),
    "Iceland": ("IS", "Atlantic/Reykjavik", "is-IS"), "Canada": ("CA", "America/Toronto", "en-CA"),
    "Greece": ("GR", "Europe/Athens", "el-GR"), "Malta": ("MT", "Europe/Malta", "en-MT"),
    "United Arab Emirates": ("AE", "Asia/Dubai", "ar-AE"), "RSA": ("ZA", "Africa/Johannesburg", "en-ZA"),
    "Lebanon": ("LB", "Asia/Beirut", "ar-LB"), "Lithuania": ("LT", "Europe/Vilnius", "lt-LT"),
    "Brazil": ("BR", "America/Sao_Paulo", "pt-BR"), "Czech Republic": ("CZ", "Europe/Prague", "cs-CZ"),
    "Bahrain": ("BH", "Asia/Bahrain", "ar-BH"), "Saudi Arabia": ("SA", "Asia/Riyadh", "ar-SA"),
}  # fmt: skip


def customers(first_seen: pd.DataFrame) -> pd.DataFrame:
    """Customer rows. `first_seen`: customer_id, country (the file's name for it), signed_up_at (UTC)."""
    rows = first_seen.copy()
    ids = rows["customer_id"]
    rows["first_name"] = [_FIRST[int(_draw(i, "first name") * len(_FIRST))] for i in ids]
    rows["last_name"] = [_LAST[int(_draw(i, "last name") * len(_LAST))] for i in ids]
    rows["email"] = (rows["first_name"] + "." + rows["last_name"] + "." + ids).str.lower() + "@mail.example"
    places = [COUNTRIES.get(name, (None, None, None)) for name in rows["country"]]
    for i, column in enumerate(("country", "timezone", "locale")):
        rows[column] = [place[i] for place in places]
    return rows


def devices(first_seen: pd.DataFrame) -> pd.DataFrame:
    """One device each of those who have the app, from their first order on."""
    rows = first_seen[[_has_app(i) for i in first_seen["customer_id"]]]
    ids = rows["customer_id"]
    return pd.DataFrame(
        {
            "device_id": "device-" + ids,
            "customer_id": ids,
            "push_token": [f"made-up:{_digest(i, 'push token')}" for i in ids],
            "platform": ["ios" if _draw(i, "platform") < 0.45 else "android" for i in ids],
            "last_seen_at": rows["signed_up_at"],
            "updated_at": rows["signed_up_at"],
        }
    )


def consents(first_seen: pd.DataFrame, until: datetime) -> pd.DataFrame:
    """What each was asked at the first order, and the withdrawals recorded before `until`."""
    rows = []
    for customer, at in zip(first_seen["customer_id"], first_seen["signed_up_at"], strict=True):
        asked = [("email", _draw(customer, "email consent") < EMAIL_CONSENT)]
        if _has_app(customer):
            asked.append(("push", True))
        for channel, granted in asked:
            rows.append((customer, channel, at, granted))
            withdrawn = at + timedelta(days=30 + int(150 * _draw(customer, f"{channel} withdrawn on")))
            if granted and _draw(customer, f"{channel} withdrawn") < WITHDRAWN and withdrawn < until:
                rows.append((customer, channel, withdrawn, False))
    table = pd.DataFrame(rows, columns=["customer_id", "channel", "recorded_at", "granted"])
    return table.assign(purpose="marketing", source=MADE_UP, legal_basis="consent", text_version="made-up-1")


def _has_app(customer: str) -> bool:
    return _draw(customer, "app") < PUSH_CONSENT


def _draw(customer: str, what: str) -> float:
    """A number in [0, 1) that belongs to this customer and this question."""
    return int(_digest(customer, what)[:13], 16) / 16**13


def _digest(customer: str, what: str) -> str:
    return hashlib.blake2b(f"{SEED}|{customer}|{what}".encode(), digest_size=16).hexdigest()
