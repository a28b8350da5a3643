"""Put plans on sale, add customers, begin and end subscriptions."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from schedules.calendar.periods import trial_end
from schedules.calendar.zones import local_date, zone
from schedules.charging.identity import subject_of_entropy, subject_of_request
from schedules.dunning.policies import BUILT_IN, DunningPolicy
from schedules.errors import BadRequest, Code, OwnCode
from schedules.requests.adhoc import LONGEST_UID, checked_words
from schedules.subscriptions.cursor import Cursor, first_cursor
from schedules.subscriptions.plans import Plan
from schedules.subscriptions.verbs import Verb
from schedules.texts import cleaned
from worker.charging import dunning
from worker.charging.close import CanceledDebts, cancel_subscription, why_paused
from worker.customers.admit import admit
from worker.customers.cards import facts_of, read_new_key
from worker.customers.next_charges import Next, next_if_on
from worker.gateway.port import BillingKey, KeyMissing, code_of
from worker.renewals.begin_subscription import Beginning, begin
from worker.renewals.one_per_plan import why_not
from worker.renewals.open_charges import Opened, pass_over_paused
from worker.services import Services
from worker.store.customers import customers, plans, policies, rival_subscriptions, subscriptions
from worker.store.customers.customers import KeyColumns
from worker.store.customers.plans import StoredPlan
from worker.store.customers.policies import StoredPolicy
from worker.store.customers.rival_subscriptions import Wanted
from worker.store.outbox import event_log

LONGEST_FACTS = {"name": 16, "email": 64, "tel": 16}  # characters of buyer_name, _email and _tel at PortOne

LATEST_ANCHOR = timedelta(days=5 * 366)  # a later anchor is taken for a typing error


class CannotEnroll(OwnCode):
    """The request does not fit the present state; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription that has begun."""

    key: str
    customer_uid: str
    code: str
    plan: Plan
    anchor: date
    first: Cursor
    trial_days: int  # trial days of this subscription
    trial_used_by: str | None  # key of the customer's subscription that had the plan's trial


def put_plan(
    services: Services, plan: Plan, policy: DunningPolicy | str, actor: str, *, above_limit: bool = False,
    other_currency: bool = False,
) -> tuple[StoredPlan, bool]:  # fmt: skip
    """Put a plan, or a new version of it, on sale; return it, and whether it is new.

    Running subscriptions keep their version. `policy` is the code of a stored policy, or a new policy, which gets
    the code of the plan if it has none. Raises CannotEnroll for a change of currency without `other_currency`, and
    for a price above AGAIN_CHARGE_LIMIT without `above_limit`.
    """
    now = services.clock.now()
    for field, text in (("code", plan.code), ("name", plan.statement_name)):
        cleaned(field, text)
    limits = services.settings.limits("charge_limit")
    if limits.exceeded_by(plan.price) and not above_limit:
        raise CannotEnroll(
            Code.LIMIT,
            f"price {plan.price} is above AGAIN_CHARGE_LIMIT, {limits.text_of(plan.price.currency)}; "
            "say --above-limit if it is meant",
        )
    try:
        with services.engine.begin() as db:
            newest = plans.newest(db, plan.code)
            kept = _policy(db, policy, plan.code, now)
            if newest is not None and _is_same(newest, plan, kept):
                return newest, False
            if newest is not None and not other_currency and plan.price.currency != newest.plan.price.currency:
                raise CannotEnroll(
                    Code.CONFLICT,
                    f"plan {plan.code!r} version {newest.plan.version} costs {newest.plan.price}, the new version "
                    f"{plan.price}; take another code, or say --other-currency",
                )
            version = replace(plan, version=newest.plan.version + 1 if newest else 1)
            plan_id = plans.add(db, version, kept.policy.code, now)
            event_log.record(
                db, actor, "plan.add", f"{plan.code}/{version.version}", None, now, price=str(plan.price)
            )
            return plans.by_id(db, plan_id), True
    except IntegrityError:
        raise CannotEnroll(
            Code.CONFLICT,
            f"plan {plan.code!r} got another version at this moment; `again plan show` shows it",
        ) from None


def add_plan(
    services: Services, plan: Plan, policy: DunningPolicy | str, actor: str, *, above_limit: bool = False
) -> StoredPlan:
    """Call `put_plan`, and return the version that is on sale."""
    return put_plan(services, plan, policy, actor, above_limit=above_limit)[0]


def _is_same(newest: StoredPlan, plan: Plan, policy: StoredPolicy) -> bool:
    same_terms = replace(plan, version=newest.plan.version) == newest.plan
    return newest.archived_at is None and same_terms and newest.policy_id == policy.id


def add_policy(services: Services, policy: DunningPolicy, actor: str) -> tuple[StoredPolicy, bool]:
    """Store a policy as the next version of its code; return it, and whether it differs from the newest one."""
    now = services.clock.now()
    cleaned("policy", policy.code)
    with services.engine.begin() as db:
        before = policies.newest(db, policy.code)
        stored = policies.put(db, policy, now)
        is_new = before is None or stored.id != before.id
        if is_new:
            event_log.record(db, actor, "policy.add", f"{policy.code}/{stored.policy.version}", None, now)
    return stored, is_new


def _policy(db: Connection, policy: DunningPolicy | str, plan: str, now: datetime) -> StoredPolicy:
    if isinstance(policy, DunningPolicy):
        return policies.put(db, replace(policy, code=policy.code or plan), now)
    kept = policies.known(db, policy, now)
    if kept is None:
        known = ", ".join(stored.policy.code for stored in policies.listed(db)) or "none yet"
        raise CannotEnroll(
            Code.NOT_FOUND,
            f"policy {policy!r} is not known; there are: {known}, and built in: {', '.join(BUILT_IN)}",
        )
    return kept


def archive_plan(services: Services, code: str, actor: str) -> int:
    """Take a plan off sale; running subscriptions keep it. Return how many versions were on sale."""
    now = services.clock.now()
    with services.engine.begin() as db:
        _known_plan(db, code)
        archived = plans.archive(db, code, now)
        event_log.record(db, actor, "plan.archive", code, None, now, versions=archived)
    return archived


def add_customer(
    services: Services,
    customer_uid: str,
    name: str | None,
    email: str | None,
    tel: str | None,
    actor: str,
    of: str | None = None,
    account: str | None = None,
) -> BillingKey:
    """Add a customer whose billing key exists at the gateway; the masked card facts are read from there.

    `of` is the customer_uid of another card of the same customer: the new key becomes one more card of that
    customer. Raises CannotEnroll when the customer is known already, or the gateway does not have or does not show
    the key.
    """
    check_facts(customer_uid, name=name, email=email, tel=tel)
    account = services.account(account or services.settings.account).name
    with services.engine.begin() as db:
        known = customers.key_by_uid(db, customer_uid)
        if known is not None and known.deleted_at is None:
            raise CannotEnroll(Code.ALREADY_DONE, f"customer {customer_uid!r} is known already")
        first = customers.key_by_uid(db, of) if of is not None else None
        if of is not None and first is None:
            raise CannotEnroll(
                Code.NOT_FOUND, f"customer {of!r} is not known; give the customer_uid of a card that is"
            )
    key = read_new_key(services.gateway(account), known.customer_uid if known is not None else customer_uid)
    if isinstance(key, KeyMissing):
        raise CannotEnroll(
            Code.NOT_FOUND,
            f"the gateway has no billing key for customer {customer_uid!r}; issue one in the payment window first",
        )
    if not isinstance(key, BillingKey):
        raise CannotEnroll(code_of(key), f"the gateway did not tell of customer {customer_uid!r}: {key.reason}")
    customer_uid = known.customer_uid if known is not None else key.customer_uid
    now = services.clock.now()
    with services.act() as db:
        customer_id = first.customer_id if first else customers.add(db, customer_uid, name, email, tel, now)
        key_id = customers.add_key(db, customer_id, customer_uid, account, facts_of(key), now)
        if known is not None:  # the card was deleted here, or never stored, and exists at the gateway now
            again: KeyColumns = {"deleted_at": None, "stopped_as": None, "changed_at": now, "account": account}
            customers.change_key(db, key_id, **facts_of(key) | again)
        event_log.record(db, actor, "customer.add", customer_uid, None, now, of=of)
    return key


def enroll_if_unknown(services: Services, customer_uid: str, actor: str, account: str | None = None) -> None:
    """Add a customer whose key was issued in the browser's payment window, unless the customer is known."""
    with services.engine.begin() as db:
        known = customers.key_by_uid(db, customer_uid)
    if known is None or known.deleted_at is not None:
        add_customer(services, customer_uid, None, None, None, actor, account=account)


def check_facts(customer_uid: str, **facts: str | None) -> None:
    """Raise BadRequest, with the field, for an id or facts of a customer that the gateway would refuse."""
    for name, value in {"customer_uid": customer_uid, **facts}.items():
        if value is not None:
            cleaned(name, value)
    checked_words("customer_uid", customer_uid, LONGEST_UID)
    for name, value in facts.items():
        if value is not None and len(value) > LONGEST_FACTS[name]:
            most = LONGEST_FACTS[name]
            raise BadRequest(
                Code.INVALID, name, f"it has {len(value)} characters; the gateway takes at most {most}"
            )


def subscribe(
    services: Services,
    customer_uid: str,
    code: str,
    actor: str,
    anchor: date | None = None,
    new_key: Callable[[], str] = lambda: subject_of_entropy(secrets.token_bytes(13)),
    *,
    another: bool = False,
    trial_again: bool = False,
) -> Subscribed:
    """Begin a subscription at `anchor`, by default today in the zone of the plan, after the trial.

    An anchor in the past sets the dates but charges nothing of the past: the first charge is the next one due. A
    customer who had the trial of the plan gets none, unless `trial_again` is set. Raises CannotEnroll when the
    customer is on the plan and `another` is not set.
    """
    now = services.clock.now()
    with services.act() as db:
        plan = plan_on_sale(db, code)
        key = customers.key_by_uid(db, customer_uid, lock=True)
        if key is None:
            raise CannotEnroll(
                Code.NOT_FOUND, f"customer {customer_uid!r} is not known; make it known with `again customer add`"
            )
        if key.deleted_at is not None:
            raise CannotEnroll(
                Code.NOT_FOUND, f"the billing key of customer {customer_uid!r} was deleted; add a new one"
            )
        rival_subscriptions.lock_customer(db, key.customer_id)
        trial_days = plan.plan.trial_days
        used_by = (
            rival_subscriptions.trial_used(db, key.customer_id, code) if trial_days and not trial_again else None
        )
        trial_days = 0 if used_by is not None else trial_days
        begins, first = _first_charge(plan.plan, trial_days, anchor, now)
        wanted = Wanted(customer_id=key.customer_id, plan=code, starts_at=first.due_at)
        rival = None if another else why_not(db, wanted)
        if rival is not None:
            raise CannotEnroll(
                Code.CONFLICT, f"customer {customer_uid!r} {rival}; say --another for a second one beside it"
            )
        # A restore may lose this subscription together with its request key. The repeated request must lead to the
        # same charge keys, so that payments made before the restore are found before anything is sent.
        joined = services.joined
        subscription = new_key() if joined is None else subject_of_request(f"subscribe/{joined.request_key}")
        what = Beginning(
            key=subscription, customer_id=key.customer_id, billing_key_id=key.id, plan=plan, anchor=begins,
            first=first, another=another, trial_of=code if trial_days else None,
        )  # fmt: skip
        if not begin(db, what, now):
            raise CannotEnroll(
                Code.CONFLICT, f"customer {customer_uid!r} was put on plan {code!r} at this moment; look at it"
            )
        event_log.record(db, actor, "subscribe", subscription, None, now, plan=code, customer=customer_uid)
    return Subscribed(subscription, customer_uid, code, plan.plan, begins, first, trial_days, used_by)


def _first_charge(plan: Plan, trial_days: int, anchor: date | None, now: datetime) -> tuple[date, Cursor]:
    today = local_date(now, zone(plan.zone))
    if anchor is not None and anchor - today > LATEST_ANCHOR:
        raise CannotEnroll(
            Code.INVALID, f"anchor {anchor} is more than five years away; it would charge nothing until then"
        )
    begins = trial_end(anchor or today, trial_days)
    return begins, first_cursor(plan, begins, now if begins < today else None)


@dataclass(frozen=True, slots=True)
class Ended:
    """When a subscription ends, and the state of its debts."""

    ends_at: datetime
    debts: CanceledDebts
    opened: tuple[Opened, ...]  # the periods that were due, opened first
    not_charged: Next | None  # the next charge, which is not made any more; None if there was none


def unsubscribe(services: Services, key: str, actor: str, why: str, *, at_period_end: bool) -> Ended:
    """End a subscription now, or at the end of its paid period.

    At the end of the period: what is due before it is opened and collected; declined debts get no further
    automatic attempt. Now: open debts are canceled. A charge with a call under way or unknown waits for its
    outcome; if it turns out paid, the event `charge.paid_after_end` is sent.
    """
    with services.act(key) as db:
        return end_subscription(services, db, key, actor, why, at_period_end=at_period_end)


def end_subscription(
    services: Services, db: Connection, key: str, actor: str, why: str, *, at_period_end: bool
) -> Ended:
    """Do what `unsubscribe` does, in the transaction of the caller."""
    now = services.clock.now()
    admitted = admit(services, db, key, Verb.END_LATER if at_period_end else Verb.END_NOW, now)
    row = admitted.row
    end = now if not at_period_end else max(now, row.next_due_at)
    row, passed = pass_over_paused(db, row, why_paused(db, row.id), now)
    opened = admitted.opened + passed
    ended = Ended(end, CanceledDebts((), ()), opened, None if row.held_why else next_if_on(db, row))
    if not at_period_end:
        ended = replace(ended, debts=cancel_subscription(db, row.id, why, now))
    elif row.ends_at is not None:
        return replace(ended, ends_at=row.ends_at)  # a repeated request keeps the first end
    else:
        subscriptions.change(db, row.id, ends_at=end, open_at=None, tell_at=end, told_as=None)
        dunning.stop_ladders(db, row.id, now)
    verb = "unsubscribe.at_period_end" if at_period_end else "unsubscribe.now"
    words = {"charges_canceled": len(ended.debts.closed), "charges_unclear": len(ended.debts.unclear)}
    event_log.record(db, actor, verb, key, why, now, ends_at=ended.ends_at.isoformat(), **words)
    return ended


def _known_plan(db: Connection, code: str) -> StoredPlan:
    plan = plans.newest(db, code)
    if plan is None:
        codes = sorted({stored.plan.code for stored in plans.listed(db)})
        raise CannotEnroll(
            Code.NOT_FOUND, f"plan {code!r} is not known; there are: {', '.join(codes) or 'none yet'}"
        )
    return plan


def plan_on_sale(db: Connection, code: str) -> StoredPlan:
    """The newest version of a plan; raises CannotEnroll when the plan is unknown or archived."""
    plan = _known_plan(db, code)
    if plan.archived_at is not None:
        raise CannotEnroll(
            Code.CONFLICT,
            f"plan {code!r} was archived at {plan.archived_at:%Y-%m-%d}; it takes no new subscriptions",
        )
    return plan
