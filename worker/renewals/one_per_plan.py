"""One subscription for each customer and plan: every way to start a subscription checks it here."""

from sqlalchemy import Connection

from schedules.subscriptions.verbs import State, Verb, Verdict, ruling
from worker.store.customers import rival_subscriptions
from worker.store.customers.rival_subscriptions import Rival, RivalKind, Wanted


def why_not(db: Connection, wanted: Wanted) -> str | None:
    """Return why the wanted subscription may not start or continue; None when it may.

    The customer stays locked until the transaction ends, so that no other process starts one meanwhile.
    """
    rival_subscriptions.lock_customer(db, wanted.customer_id)
    return seen(db, wanted)


def seen(db: Connection, wanted: Wanted) -> str | None:
    """Like `why_not`, but without a lock and for reading only: another one may start right after."""
    rival = rival_subscriptions.find(db, wanted)
    ruled = ruling(Verb.SUBSCRIBE, _states(rival))
    if rival is None or ruled.verdict is not Verdict.REFUSED:
        return None
    ends: dict[str, str] = {}
    if rival.ends_at is not None:
        ends = {"ends_at": f"{rival.ends_at:%Y-%m-%d %H:%M}Z", "ends_on": f"{rival.ends_at:%Y-%m-%d}"}
    return ruled.why.format(plan=wanted.plan, key=rival.key, **ends)


def _states(rival: Rival | None) -> frozenset[State]:
    """Return the customer's subscriptions to the plan as states of the table of verbs."""
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
