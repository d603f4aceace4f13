"""Which key is the home's: the ledger keeps its fingerprint, because with another key it is another home's ledger.

Links that were sent, the hashes of suppressed addresses and push tokens, and the ids of messages come of the key.
"""

from __future__ import annotations

import hmac
from datetime import datetime

import sqlalchemy as sa

from controltower.errors import BadSettings
from controltower.ledger.tables import messages, signing_keys, suppressions
from controltower.settings import Settings

_SETTLING = 0x6B657973  # PostgreSQL advisory lock: looking and recording are one step


def is_known(connection: sa.Connection, key: bytes) -> bool:
    """Whether it is the ledger's key."""
    return _known(connection) == _fingerprint(key)


def settle(connection: sa.Connection, settings: Settings, now: datetime) -> bytes:
    """The home's key. The first one of a ledger is recorded, and made where none is set and nothing depends on one.

    BadSettings with the remedy where the key is missing or isn't the ledger's.
    """
    known, key = _locked(connection), settings.kept_key()
    if key is None and known is None and not any(_depending(connection)):
        key = settings.make_key()
    if key is None or known not in (None, _fingerprint(key)):
        what = f"{settings.key_place} is missing" if key is None else f"{settings.key_place} is another home's key"
        raise BadSettings(
            f"{what}: with a new one every link that was sent is void and no suppressed address is recognised.",
            "Restore it from the backup. If it is lost for good, `controltower new-key` starts a new one.",
        )
    if known is None:
        _record(connection, key, now, None)
    return key


def start(connection: sa.Connection, settings: Settings, by: str, now: datetime) -> bool:
    """Take the key that is there, else make one, from now on. Returns whether it was made.

    BadSettings where the key that is there is the ledger's already.
    """
    known, key = _locked(connection), settings.kept_key()
    made = key is None
    key = settings.make_key() if key is None else key
    if known == _fingerprint(key):
        raise BadSettings(
            f"{settings.key_place} is the ledger's key: nothing is lost.",
            "To replace it all the same, move it away, or set another CONTROLTOWER_SECRET_KEY, first.",
        )
    _record(connection, key, now, by)
    return made


def _locked(connection: sa.Connection) -> str | None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETTLING)))
    return _known(connection)


def _known(connection: sa.Connection) -> str | None:
    k = signing_keys.c
    return connection.execute(sa.select(k.fingerprint).order_by(k.key_id.desc()).limit(1)).scalar_one_or_none()


def void(connection: sa.Connection) -> tuple[int, int]:
    """What another key doesn't know: messages, whose links are void, and suppressed addresses and push tokens."""
    hashed = suppressions.c.kind == "address"
    return (
        connection.execute(sa.select(sa.func.count()).select_from(messages)).scalar_one(),
        connection.execute(sa.select(sa.func.count()).select_from(suppressions).where(hashed)).scalar_one(),
    )


def _depending(connection: sa.Connection) -> list[bool]:
    """Whether messages and hashes are there, which a key made."""
    there = [
        sa.select(messages.c.seq),
        sa.select(suppressions.c.suppression_id).where(suppressions.c.kind == "address"),
    ]
    return [connection.execute(one.limit(1)).first() is not None for one in there]


def _fingerprint(key: bytes) -> str:
    return hmac.digest(key, b"fingerprint", "sha256").hex()


def _record(connection: sa.Connection, key: bytes, now: datetime, by: str | None) -> None:
    row = {"fingerprint": _fingerprint(key), "recorded_at": now, "recorded_by": by}
    connection.execute(sa.insert(signing_keys).values(row))
