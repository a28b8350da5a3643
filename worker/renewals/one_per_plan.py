"""Rivals: why a customer cannot have one more subscription to a plan; every way to begin one asks here."""

from sqlalchemy import Connection

from schedules.subscriptions.verbs import State, Verb, Verdict, ruling
from worker.store.customers import rival_subscriptions
from worker.store.customers.rival_subscriptions import Rival, RivalKind, Wanted


def why_not(db: Connection, wanted: Wanted) -> str | None:
    """Why the wanted subscription may not begin or go on; None when it may.

    The customer stays locked until the transaction ends, so no other way in can begin one in between.
    """
    rival_subscriptions.lock_customer(db, wanted.customer_id)
    return seen(db, wanted)


def seen(db: Connection, wanted: Wanted) -> str | None:
    """As `why_not`, for a look that writes nothing: no lock is taken, and another may begin right after."""
    rival = rival_subscriptions.find(db, wanted)
    ruled = ruling(Verb.SUBSCRIBE, _states(rival))
    if rival is None or ruled.verdict is not Verdict.REFUSED:
        return None
    ends: dict[str, str] = {}
    if rival.ends_at is not None:
        ends = {"ends_at": f"{rival.ends_at:%Y-%m-%d %H:%M}Z", "ends_on": f"{rival.ends_at:%Y-%m-%d}"}
    return ruled.why.format(plan=wanted.plan, key=rival.key, **ends)


def _states(rival: Rival | None) -> frozenset[State]:
    """What the customer has of the plan, in the states of the table of verbs."""
    if rival is None:
        return frozenset({State.NONE})
    match rival.kind:
        case RivalKind.SUBSCRIPTION if rival.ends_at is None:
            return frozenset({State.ACTIVE})
        case RivalKind.SUBSCRIPTION:
            return frozenset({State.ENDING, State.ACTIVE})
        case RivalKind.SIGNUP:
            return frozenset({State.SIGNUP})
        case RivalKind.TAKEOVER:
            return frozenset({State.TAKEOVER})
