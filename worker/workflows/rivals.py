"""Rivals: why a customer cannot have one more subscription to a plan; every way to begin one asks here."""

from sqlalchemy import Connection

from worker.store import rivals
from worker.store.rivals import Rival, RivalKind, Wanted


def why_not(db: Connection, wanted: Wanted) -> str | None:
    """Why the wanted subscription may not begin or go on; None when it may.

    The customer stays locked until the transaction ends, so no other way in can begin one in between.
    """
    rivals.lock_customer(db, wanted.customer_id)
    return seen(db, wanted)


def seen(db: Connection, wanted: Wanted) -> str | None:
    """As `why_not`, for a look that writes nothing: no lock is taken, and another may begin right after."""
    rival = rivals.find(db, wanted)
    return None if rival is None else _words(rival, wanted.plan)


def _words(rival: Rival, plan: str) -> str:
    match rival.kind:
        case RivalKind.SUBSCRIPTION if rival.ends_at is None:
            return f"is on plan {plan!r} already, by subscription {rival.key}"
        case RivalKind.SUBSCRIPTION:
            return (
                f"is on plan {plan!r} until {rival.ends_at:%Y-%m-%d %H:%M}Z, by subscription {rival.key}; "
                f"`again undo {rival.key}` lets that one go on, or give an anchor from {rival.ends_at:%Y-%m-%d} on"
            )
        case RivalKind.SIGNUP:
            return (
                f"has a signup for plan {plan!r} under way; `again show {rival.key}` tells what becomes of its "
                "payment, and the subscription begins if it is there"
            )
        case RivalKind.TAKEOVER:
            return f"has a takeover to plan {plan!r} under way, to become subscription {rival.key}"
