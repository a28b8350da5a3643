"""Read the states of a subscription and look up in the table of verbs whether a verb is carried out."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection

from schedules.errors import Code, OwnCode
from schedules.subscriptions.cursor import Series
from schedules.subscriptions.plans import at_own_time
from schedules.subscriptions.verbs import RULES, Facts, State, Verb, Verdict, ruling, states
from worker.renewals.open_charges import Opened, open_first
from worker.services import CANNOT_DECIDE, Services, may_decide
from worker.store.charging import debts, kill_switch
from worker.store.customers import plans, signups, subscriptions, takeovers
from worker.store.customers.subscriptions import Subscription


class CannotAdjust(OwnCode):
    """The change does not fit the state of the subscription; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A locked subscription on which a verb is carried out."""

    row: Subscription  # with its cursor after the periods that were opened
    opened: tuple[Opened, ...]  # the periods that were due, opened by this verb


def admit(services: Services, db: Connection, key: str, verb: Verb, now: datetime) -> Admitted:
    """Lock a subscription, and open its due periods if the verb requires it.

    Raises CannotAdjust, with the code and reason of the table of verbs, when the verb is refused.
    """
    row = subscriptions.by_key(db, key, lock=True)
    if row is None:
        absent = RULES[_absent(db, key)][verb]
        raise CannotAdjust(absent.code or Code.NOT_FOUND, f"subscription {key!r}: {absent.why}")
    facts = _facts(services, db, row)
    found = ruling(verb, states(facts, now))
    if found.code is not None:
        raise CannotAdjust(found.code, f"subscription {key}: {found.why.format(**_words(facts))}")
    match found.verdict:
        case Verdict.OPENS_FIRST if not may_decide(services, db):
            raise CannotAdjust(
                Code.HELD,
                f"subscription {key} has a period that is due and cannot be opened: {CANNOT_DECIDE}",
            )
        case Verdict.OPENS_FIRST:
            return Admitted(*open_first(db, row, now))
        case _:
            return Admitted(row, ())


def _absent(db: Connection, key: str) -> State:
    """The state of a subscription that does not exist, or does not exist yet."""
    if takeovers.is_under_way(db, key):
        return State.TAKEOVER
    return State.SIGNUP if signups.is_under_way(db, key) else State.NONE


def _facts(services: Services, db: Connection, row: Subscription) -> Facts:
    owes = debts.facts_of(db, row.id)
    permission = kill_switch.permission(db, row.account)
    return Facts(
        row.status, row.next_period_no, row.next_due_at, _following(db, row),
        ends_at=row.ends_at, held_why=row.held_why, skip_to=row.skip_to or 0,
        rests_for=debts.rests_for(db, row.id), owes_declined=owes.declined, is_sending=owes.sending,
        is_unknown=owes.unknown, has_held=owes.held,
        is_stopped=permission.obstacle(services.identity, services.clock) is not None,
    )  # fmt: skip


def _following(db: Connection, row: Subscription) -> datetime:
    if row.held_why is not None:
        return row.next_due_at  # its plan may be unreadable
    own = at_own_time(plans.by_id(db, row.plan_id).plan, row.billing_time)
    series = Series(row.key, row.anchor, row.anchor_no, month_day=row.anchor_day)
    return series.after(own, row.cursor).due_at


def _words(facts: Facts) -> dict[str, object]:
    return {
        name: f"{value:%Y-%m-%d %H:%M}Z" if isinstance(value, datetime) else value
        for name, value in asdict(facts).items()
    }
