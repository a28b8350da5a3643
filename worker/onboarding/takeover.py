"""Take over customers from the gateway's own timer, which stops charging them: Again charges the next date."""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schedules.charging.identity import subject_of_entropy
from schedules.errors import BadRequest, Code, OwnCode
from schedules.requests.imports import Mapped, TimerEntry, first_here, mapped
from schedules.subscriptions.cursor import Cursor
from schedules.subscriptions.plans import Plan
from worker.customers.enrollment import enroll_if_unknown, plan_on_sale
from worker.failpoints import Failpoint, hit
from worker.gateway.port import Timed, code_of
from worker.renewals.begin_subscription import Beginning, begin, begin_promised
from worker.renewals.one_per_plan import why_not
from worker.services import Services, UnusableAccount, are_ours_and_known
from worker.store.customers import customers, plans, subscriptions, takeovers
from worker.store.customers.customers import StoredKey
from worker.store.customers.plans import StoredPlan
from worker.store.customers.rival_subscriptions import Wanted
from worker.store.customers.takeovers import NewTakeover, Takeover
from worker.store.outbox import event_log

log = logging.getLogger("again.takeover")
AHEAD = timedelta(days=5 * 366)  # how far ahead entries are read; a later one would be charged twice
BATCH = 100


class CannotTakeOver(OwnCode):
    """The takeover is refused, or waits; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The schedules of a customer, mapped to a plan."""

    customer_uid: str
    plan: Plan
    mapped: Mapped


def look(services: Services, customer_uid: str, code: str, account: str | None = None) -> Seen:
    """Read what the timer will charge a customer, and map it to the plan; nothing is changed.

    Raises CannotTakeOver when amounts or dates do not fit the plan.
    """
    now = services.clock.now()
    name = services.account(account or services.settings.account).name
    with services.engine.begin() as db:
        plan = plan_on_sale(db, code).plan
        key = customers.key_by_uid(db, customer_uid)
    customer_uid = key.customer_uid if key is not None else customer_uid
    entries = _entries(services, key.account if key else name, customer_uid, now, now + AHEAD)
    try:
        return Seen(customer_uid, plan, mapped(plan, entries, now))
    except BadRequest as error:
        raise CannotTakeOver(
            error.code, f"customer {customer_uid!r} cannot be mapped to plan {code!r}: {error.without_advice}"
        ) from None


def take_over(
    services: Services, customer_uid: str, code: str, actor: str, why: str, account: str | None = None,
    *, another: bool = False,
) -> Cursor:  # fmt: skip
    """Stop the timer for one customer and begin the subscription here; return its first period.

    Raises CannotTakeOver when the customer is on the plan already and `another` is not set, and when a schedule is
    not surely revoked yet.

    The intent is committed before the first call. After an interruption at any point, a repeated call or the task
    `again.take_over` continues: each date is charged by exactly one of the two.
    """
    if not are_ours_and_known(services):
        raise CannotTakeOver(
            Code.HELD, "this database is a copy, or on hold; see `again status`: nothing is sent from here"
        )
    enroll_if_unknown(services, customer_uid, actor, account)
    with services.engine.begin() as db:
        key = customers.key_by_uid(db, customer_uid)
        plan = plan_on_sale(db, code)
        if key is None or key.deleted_at is not None:
            raise CannotTakeOver(Code.NOT_FOUND, f"customer {customer_uid!r} has no card here")
        known = takeovers.of_card(db, key.id, code)
    if known is not None and known.taken_at is not None:
        raise CannotTakeOver(
            Code.ALREADY_DONE, f"customer {customer_uid!r} was taken over already, as {known.subscription_key}"
        )
    if known is None:
        known = _intend(services, key, plan, look(services, customer_uid, code), actor, why, another=another)
    hit(Failpoint.TAKING_OVER_MEANT, customer_uid)
    return finish(services, known)


def _intend(
    services: Services, key: StoredKey, plan: StoredPlan, seen: Seen, actor: str, why: str, *, another: bool
) -> Takeover:
    """Write the intent to take over.

    Until it is finished, no other subscription of the customer to the plan begins.
    """
    code, first = (
        plan.plan.code,
        first_here(plan.plan, seen.mapped, frozenset(uid for uid, _ in seen.mapped.dates)),
    )
    row: NewTakeover = {
        "billing_key_id": key.id, "plan_id": plan.id, "plan": code, "actor": actor, "why": why, "another": another,
        "subscription_key": subject_of_entropy(secrets.token_bytes(13)), "created_at": services.clock.now(),
    }  # fmt: skip
    wanted = Wanted(customer_id=key.customer_id, plan=code, starts_at=first.due_at, but_card=key.id)
    with services.engine.begin() as db:
        rival = None if another else why_not(db, wanted)
        if rival is not None:
            raise CannotTakeOver(
                Code.CONFLICT, f"customer {key.customer_uid!r} {rival}; say --another for a second one beside it"
            )
        takeovers.add(db, row, seen.mapped)
        known = takeovers.of_card(db, key.id, code)
    if known is None:
        raise LookupError(f"the takeover of {key.customer_uid!r} is neither written nor there")
    return known


def finish(services: Services, takeover: Takeover) -> Cursor:
    """Revoke the entries of the timer, check that they are revoked, and begin with the first of them."""
    gateway = services.gateway(takeover.account)
    uids = [uid for uid, _ in takeover.mapped.dates]
    state = _states(services, takeover)
    waiting = [uid for uid in uids if state.get(uid) == "scheduled"]
    if waiting:
        answer = gateway.unschedule(takeover.customer_uid, waiting)
        hit(Failpoint.TAKING_OVER_REVOKED, takeover.customer_uid)
        log.info("%s: %d schedules revoked: %s", takeover.customer_uid, len(waiting), answer or "as asked")
        state = _states(services, takeover)
    unsure = [uid for uid in uids if state.get(uid) not in ("revoked", "executed")]
    if unsure:
        words = f"{len(unsure)} schedules are not surely revoked, {unsure[0]} first; Again goes on by itself"
        with services.engine.begin() as db:
            takeovers.change(db, takeover.id, words=words)
        raise CannotTakeOver(Code.BUSY, f"customer {takeover.customer_uid!r}: {words}")
    return _begin(services, takeover, frozenset(uid for uid in uids if state[uid] == "revoked"))


def go_on(services: Services, account: str, going_on: Callable[[], bool] = lambda: True) -> int:
    """Finish the takeovers of an account that were begun; return how many were finished."""
    if not are_ours_and_known(services):
        return 0
    with services.engine.begin() as db:
        open_ones = [takeovers.locked(db, number) for number in takeovers.unfinished(db, account, BATCH)]
    done = 0
    for takeover in open_ones:
        if takeover is None or not going_on():
            break
        try:
            finish(services, takeover)
            done += 1
        except (CannotTakeOver, UnusableAccount) as error:
            log.warning("%s", error)
    return done


def _begin(services: Services, takeover: Takeover, revoked: frozenset[str]) -> Cursor:
    now = services.clock.now()
    with services.engine.begin() as db:
        current = takeovers.locked(db, takeover.id)
        plan = plans.by_id(db, takeover.plan_id)
        cursor = first_here(plan.plan, takeover.mapped, revoked)
        if current is None or current.taken_at is not None:
            return cursor  # finished by another process
        takeovers.change(db, takeover.id, taken_at=now, words=None)
        what = Beginning(
            key=takeover.subscription_key, customer_id=takeover.customer_id,
            billing_key_id=takeover.billing_key_id, plan=plan, anchor=takeover.mapped.dates[0][1], first=cursor,
            another=takeover.another, trial_of=takeover.plan,
        )  # fmt: skip
        if takeover.another:
            begin(db, what, now)
        else:
            wanted = Wanted(customer_id=takeover.customer_id, plan=takeover.plan, starts_at=cursor.due_at)
            begin_promised(db, what, wanted, now)
        row = subscriptions.by_key(db, takeover.subscription_key)
        if row is not None:
            own_time, month_day = takeover.mapped.billing_time, takeover.mapped.month_day(plan.plan.cadence)
            billing_time = None if own_time == plan.plan.billing_time else own_time
            subscriptions.change(db, row.id, billing_time=billing_time, anchor_day=month_day)
        event_log.record(db, takeover.actor, "take-over", takeover.subscription_key, takeover.why, now,
                     customer_uid=takeover.customer_uid, first_due_at=cursor.due_at.isoformat())  # fmt: skip
    return cursor


def _states(services: Services, takeover: Takeover) -> dict[str, str]:
    """The present state of each entry at the timer, by merchant_uid; an entry that is not listed has none."""
    first, last = takeover.mapped.dates[0][1], takeover.mapped.dates[-1][1]
    now = services.clock.now()
    since = min(now, now.replace(year=first.year, month=first.month, day=1)) - timedelta(days=2)
    until = max(now, now + (last - now.date())) + timedelta(days=3)
    entries = _entries(services, takeover.account, takeover.customer_uid, since, until)
    return {entry.merchant_uid: entry.status for entry in entries}


def _entries(
    services: Services, account: str, customer_uid: str, since: datetime, until: datetime
) -> Sequence[TimerEntry]:
    answer = services.gateway(account).timed(customer_uid, since, until)
    if isinstance(answer, Timed):
        return answer.entries
    raise CannotTakeOver(
        code_of(answer), f"the gateway did not tell what is scheduled for {customer_uid!r}: {answer.reason}"
    )
