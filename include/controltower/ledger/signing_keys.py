"""Which key is the home's: with another one it is another home's ledger.

Links that were sent, the hashes of suppressed addresses and push tokens, and the ids of messages come of the key. The
table `signing_keys` holds no key, only a fingerprint of each that the home has had: the newest row's is the one in use.
A ledger from before revision 0009 has none yet: it knows its key by the ids of its messages.
"""

from __future__ import annotations

import hmac

import sqlalchemy as sa

from controltower import clock
from controltower.errors import BadSettings
from controltower.ledger.message_ids import DRAWN, message_ids
from controltower.ledger.tables import batches, campaign_runs, messages, occurrences, signing_keys, suppressions
from controltower.settings import Settings

_SETTLING = 0x6B657973  # PostgreSQL advisory lock: looking and recording are one step
_LOOKED_AT = 20  # messages, of which a ledger from before revision 0005 may have drawn some by lot
_hashed = suppressions.c.kind == "address"
_newest_first = sa.select(signing_keys.c.fingerprint).order_by(signing_keys.c.key_id.desc())


def check(connection: sa.Connection, settings: Settings) -> bool:
    """Hold the home's key, where it has one, against the ledger's; writes nothing.

    Returns whether its fingerprint is recorded; False: `settle` has something to do. BadSettings for another's key.
    """
    key = settings.kept_key()
    if key is None:
        return False
    known = connection.execute(_newest_first).scalar()
    if not _fits(connection, key, known):
        raise _refusal(f"{settings.key_place} is another home's key")
    return known is not None


def missing(connection: sa.Connection, settings: Settings) -> bool:
    """Whether the key is missing though something depends on it: nothing can be planned or sent until it is back."""
    return settings.kept_key() is None and _depends(connection)


def settle(connection: sa.Connection, settings: Settings) -> None:
    """See to it that the home has the ledger's key; done before anything is written.

    The first key of a ledger is recorded, and made where none is set and nothing depends on one. BadSettings with the
    remedy where the key is missing or isn't the ledger's.
    """
    if check(connection, settings):
        return
    _lock(connection)
    if check(connection, settings):  # another was first
        return
    key = settings.kept_key()
    if key is None:
        if missing(connection, settings):
            raise _refusal(f"{settings.key_place} is missing")
        key = settings.make_key()
    _record(connection, settings, key, None)


def start(connection: sa.Connection, settings: Settings, by: str) -> bool:
    """Take the key that is there, else make one, from now on. Returns whether it was made.

    BadSettings where the key that is there is the ledger's already.
    """
    _lock(connection)
    key = settings.kept_key()
    if key is not None and _fits(connection, key, connection.execute(_newest_first).scalar()):
        raise BadSettings(
            f"{settings.key_place} is the ledger's key: nothing is lost.",
            "To replace it all the same, move it away, or set another CONTROLTOWER_SECRET_KEY, first.",
        )
    _record(connection, settings, settings.make_key() if key is None else key, by)
    return key is None


def void(connection: sa.Connection) -> tuple[int, int]:
    """What another key doesn't know: messages, whose links are void, and suppressed addresses and push tokens."""
    return (
        connection.execute(sa.select(sa.func.count()).select_from(messages)).scalar_one(),
        connection.execute(sa.select(sa.func.count()).select_from(suppressions).where(_hashed)).scalar_one(),
    )


def _fits(connection: sa.Connection, key: bytes, known: str | None) -> bool:
    """Whether it is the ledger's key: by the fingerprint in use, else by the newest messages; with neither, any is."""
    if known is not None:
        return known == _fingerprint(key)
    m = messages.c
    newest = (
        sa.select(m.message_id, m.subject_id, occurrences.c.campaign, occurrences.c.occurrence)
        .join(batches, batches.c.batch_id == m.batch_id)
        .join(campaign_runs, campaign_runs.c.run_id == batches.c.run_id)
        .join(occurrences, occurrences.c.occurrence_id == campaign_runs.c.occurrence_id)
        .where(m.message_id.is_not(None))
        .order_by(m.seq.desc())
        .limit(_LOOKED_AT)
    )
    found = connection.execute(newest).tuples().all()
    made = any(message_ids(key, campaign, occurrence)(s) == one for one, s, campaign, occurrence in found)
    return made or all(DRAWN.fullmatch(one) for one, *_ in found)


def _depends(connection: sa.Connection) -> bool:
    """Whether something is there that a key made."""
    there = [_newest_first, sa.select(messages.c.seq), sa.select(suppressions.c.suppression_id).where(_hashed)]
    return any(connection.execute(one.limit(1)).first() is not None for one in there)


def _refusal(what: str) -> BadSettings:
    return BadSettings(
        f"{what}: with a new one every link that was sent is void and no suppressed address is recognised.",
        "Restore it from the backup. If it is lost for good, `controltower new-key` starts a new one.",
    )


def _fingerprint(key: bytes) -> str:
    return hmac.digest(key, b"fingerprint", "sha256").hex()


def _lock(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":  # on SQLite one transaction writes at a time
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETTLING)))


def _record(connection: sa.Connection, settings: Settings, key: bytes, by: str | None) -> None:
    row = {"fingerprint": _fingerprint(key), "recorded_at": clock.now(settings), "recorded_by": by}
    connection.execute(sa.insert(signing_keys).values(row))
