"""Charges that the gateway is asked about before they are sent: it may have a payment for them.

The key of such a charge may have been used before a restore, or an attempt at it ended in doubt.
"""

from collections.abc import Sequence
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
# An attempt that ended in doubt. One that was sent more than once: the end of its last sending says nothing of an
# earlier one, whose payment may still show. And one that was unknown and ended without a record of it at the
# gateway. `sends` counts claims; a claim that did not end in a call costs a look-up here, and no more.
IN_DOUBT = """a.state IN ('declined', 'refused')
    AND (a.sends > 1 OR (a.unknown_since IS NOT NULL AND a.imp_uid IS NULL))"""
_IN_DOUBT = text(
    f"""
    SELECT a.merchant_uid, a.imp_uid FROM attempts a WHERE a.charge_id = :charge AND {IN_DOUBT} ORDER BY a.number
    """  # noqa: S608 # a constant
)
# The first event of an attempt in doubt that tells of a look-up without an answer, since the last clear answer.
NOT_ANSWERED = "the gateway does not answer about it, and its charge is not sent"
_FIRST_IN_DOUBT = text(
    f"""
    SELECT a.id, a.merchant_uid, (
        SELECT min(e.at) FROM attempt_events e WHERE e.attempt_id = a.id AND e.words = :words
            AND e.at > greatest(c.asked_at, a.settled_at)
    ) AS since
    FROM attempts a JOIN charges c ON c.id = a.charge_id WHERE a.charge_id = :charge AND {IN_DOUBT}
    ORDER BY a.number LIMIT 1
    """  # noqa: S608 # a constant
)
_NOTE_UNANSWERED = text(
    """
    INSERT INTO attempt_events (attempt_id, at, state, fence, words)
    SELECT id, :now, state, fence, :words FROM attempts WHERE id = :attempt
    """
)
# It is asked about before each further call, and again where the call did not follow the answer soon.
ANSWER_LASTS = timedelta(minutes=1)
_BEFORE_SENDING = text(
    f"""
    SELECT {UNASKED} OR EXISTS (
        SELECT FROM attempts a WHERE a.charge_id = c.id AND {IN_DOUBT}
            AND (c.asked_at IS NULL OR c.asked_at < a.settled_at OR c.asked_at < :asked_since)
    ), (SELECT min(f.id) FROM findings f WHERE f.charge_key = c.key AND f.ended_at IS NULL), c.id
    FROM charges c WHERE c.id = ANY(:charges)
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
    """Whether the gateway may have a payment for a charge: its key was used before a restore, or it was sent."""

    is_unasked: bool  # the gateway must be asked about the charge's merchant_uids first
    finding: int | None  # an open finding under the key


@dataclass(frozen=True, slots=True)
class InDoubt:
    """An attempt that ended in doubt."""

    merchant_uid: str
    imp_uid: str | None  # the gateway's record that it was settled by


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An attempt that ended in doubt, and since when the gateway has not answered about its charge."""

    merchant_uid: str
    since: datetime


def before_sending(db: Connection, charge_ids: Sequence[int], now: datetime) -> dict[int, Prior]:
    """What keeps charges from being sent because the gateway may have a payment under one of their uids."""
    values = {"charges": list(charge_ids), "asked_since": now - ANSWER_LASTS}
    found = db.execute(_BEFORE_SENDING, values)
    return {charge_id: Prior(bool(is_unasked), finding) for is_unasked, finding, charge_id in found}


def in_doubt(db: Connection, charge_id: int) -> list[InDoubt]:
    """The attempts at a charge that ended, though an earlier sending of their merchant_uid may be paid."""
    return [InDoubt(*row) for row in db.execute(_IN_DOUBT, {"charge": charge_id})]


def note_unanswered(db: Connection, charge_id: int, now: datetime) -> Unanswered | None:
    """Write that the look-ups before sending were not answered, and return since when; None without a doubt."""
    row = db.execute(_FIRST_IN_DOUBT, {"charge": charge_id, "words": NOT_ANSWERED}).first()
    if row is None:
        return None
    if row.since is None:
        db.execute(_NOTE_UNANSWERED, {"attempt": row.id, "now": now, "words": NOT_ANSWERED})
    return Unanswered(row.merchant_uid, row.since or now)


def key_is_unasked(db: Connection, charge_key: str) -> bool:
    """Whether a charge that is about to be inserted must be looked up before it is sent."""
    return bool(db.execute(_KEY_IS_UNASKED, {"key": charge_key}).scalar_one())
