"""Charges whose key may have been used before a restore: they are looked up before they are sent."""

from dataclasses import dataclass

from sqlalchemy import Connection, literal_column, select, text

from worker.store.tables import charges

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
_BEFORE_SENDING = (
    select(literal_column(UNASKED))
    .add_columns(
        literal_column("(SELECT min(f.id) FROM findings f WHERE f.charge_key = c.key AND f.ended_at IS NULL)")
    )
    .select_from(charges.alias("c"))
    .where(text("c.id = :charge"))
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

    is_unasked: bool  # the key's next uids must be looked up first
    finding: int | None  # an open finding under the key


def before_sending(db: Connection, charge_id: int) -> Prior:
    """Return why a charge must not be sent because its key may have been used before."""
    row = db.execute(_BEFORE_SENDING, {"charge": charge_id}).one()
    return Prior(bool(row[0]), row[1])


def key_is_unasked(db: Connection, charge_key: str) -> bool:
    """Whether a charge that is about to be inserted must be looked up before it is sent."""
    return bool(db.execute(_KEY_IS_UNASKED, {"key": charge_key}).scalar_one())
