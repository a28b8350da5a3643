"""Charges that the gateway is asked about before they are sent: it may have a payment for them.

The key of such a charge may have been used before a restore, or an attempt at it ended without a record of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

# `c` is the charge. Every charge that was owed when the hold ended has been asked for, up to the row asked_to. A
# charge that is written later has a key that may have been used between the backup and the restore: a request key
# comes again at any time, and so does a period that was due before the hold ended. A finding under the key says
# that the gateway has had a payment for it, in any state of the finding.
UNASKED = """(
    c.asked_at IS NULL AND (
        EXISTS (SELECT FROM installation i WHERE c.id > i.asked_to
            AND (c.kind = 'adhoc' OR c.due_at <= i.restored_at))
        OR EXISTS (SELECT FROM findings f WHERE f.charge_key = c.key)
    )
)"""
# An attempt that was sent more than once, or was unknown, and ended without a record of it at the gateway: its
# last sending was declined before the gateway looked at the uid, so that a payment of an earlier sending may still
# show. `sends` counts claims; a claim that did not end in a call costs a look-up here, and no more.
UNRECORDED = """a.state IN ('declined', 'refused') AND a.imp_uid IS NULL
    AND (a.sends > 1 OR a.unknown_since IS NOT NULL)"""
_UNRECORDED = text(f"SELECT a.merchant_uid FROM attempts a WHERE a.charge_id = :charge AND {UNRECORDED}")  # noqa: S608 # a constant
# It is asked about before each further call, and again where the call did not follow the answer soon.
ANSWER_LASTS = timedelta(minutes=1)
_BEFORE_SENDING = text(
    f"""
    SELECT {UNASKED} OR EXISTS (
        SELECT FROM attempts a WHERE a.charge_id = c.id AND {UNRECORDED}
            AND (c.asked_at IS NULL OR c.asked_at < a.settled_at OR c.asked_at < :asked_since)
    ), (SELECT min(f.id) FROM findings f WHERE f.charge_key = c.key AND f.ended_at IS NULL)
    FROM charges c WHERE c.id = :charge
    """  # noqa: S608 # the parts put in are constants
)
_KEY_IS_UNASKED = text(
    """
    SELECT EXISTS (SELECT FROM installation WHERE restored_at IS NOT NULL)
        OR EXISTS (SELECT FROM findings WHERE charge_key = :key)
    """
)


@dataclass(frozen=True, slots=True)
class Prior:
    """The facts of a charge whose key may have been used before a restore."""

    is_unasked: bool  # the gateway must be asked for payments under the key's uids first
    finding: int | None  # an open finding under the key


def before_sending(db: Connection, charge_id: int, now: datetime) -> Prior:
    """What keeps a charge from being sent because the gateway may have a payment under one of its uids."""
    row = db.execute(_BEFORE_SENDING, {"charge": charge_id, "asked_since": now - ANSWER_LASTS}).one()
    return Prior(bool(row[0]), row[1])


def unrecorded(db: Connection, charge_id: int) -> list[str]:
    """The merchant_uids of a charge that ended without a record, though an earlier sending may be paid."""
    return list(db.execute(_UNRECORDED, {"charge": charge_id}).scalars())


def key_is_unasked(db: Connection, charge_key: str) -> bool:
    """Whether a charge that is about to be inserted must be looked up before it is sent."""
    return bool(db.execute(_KEY_IS_UNASKED, {"key": charge_key}).scalar_one())
