"""Sign up a customer with a typed-in card: the first period is paid and the subscription begins, or neither."""

import secrets
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection

from schedules.calendar.zones import local_date, zone
from schedules.charging.charges import ChargeStatus, KeyedIn
from schedules.charging.identity import subject_of_entropy
from schedules.dunning.policies import ONCE
from schedules.errors import BadRequest, Code, OwnCode
from schedules.outbox.events import in_json
from schedules.requests.adhoc import ChargeRequest, VerbRequest
from schedules.subscriptions.cursor import first_cursor
from worker import idempotency
from worker.customers import card_entry, issued_keys
from worker.customers.card_entry import Holder, Keyed
from worker.customers.enrollment import Subscribed, check_facts, plan_on_sale, subscribe
from worker.gateway.port import BillingKey, Card
from worker.renewals.one_per_plan import why_not
from worker.services import Services
from worker.store.charging import adhoc_charges
from worker.store.customers import customers, rival_subscriptions, signups, subscriptions
from worker.store.customers.customers import StoredKey
from worker.store.customers.plans import StoredPlan
from worker.store.customers.rival_subscriptions import Wanted


class NotSignedUp(OwnCode):
    """The subscription has not begun; the message gives the reason, and whether it may still begin."""


@dataclass(frozen=True, slots=True)
class SignedUp:
    """A subscription that has begun, and the charge of its first period if it was paid at once."""

    subscription: str
    charge: str | None
    anchor: date
    next_due_at: datetime


def sign_up(
    services: Services,
    customer_uid: str,
    code: str,
    card: Card,
    actor: str,
    why: str,
    holder: Holder = Holder(),
    *,
    request_key: str | None = None,
    trial_again: bool = False,
) -> SignedUp:
    """Subscribe a customer with a typed-in card: with a first payment or, for a trial, with the card alone.

    A failed first payment leaves no subscription and no stored card. After an unknown outcome the subscription
    begins if a look-up finds the payment. The same request key returns the same signup. A customer who had the
    trial of the plan pays at once, unless `trial_again` is set. Raises NotSignedUp.
    """
    check_facts(customer_uid, name=holder.name, email=holder.email, tel=holder.tel)
    if request_key is not None:
        before = _before(services, _request(request_key, customer_uid, code))
        if before is not None:
            return before
    now = services.clock.now()
    with services.engine.begin() as db:
        plan = plan_on_sale(db, code)
        key = customers.key_by_uid(db, customer_uid)
        number = _number(db, key, plan, customer_uid, now)
        used = (
            key is not None
            and not trial_again
            and rival_subscriptions.trial_used(db, key.customer_id, code) is not None
        )
    today = local_date(now, zone(plan.plan.zone))
    if (plan.plan.trial_days and not used) or first_cursor(plan.plan, today).period_date > today:

        def begin_unpaid(at: Services) -> dict[str, Any]:
            issued_keys.issue(services, customer_uid, card, actor, why, holder)
            return _answer(subscribe(at, customer_uid, code, actor, trial_again=trial_again))

        if request_key is None:
            return _read(begin_unpaid(services))
        return _read(idempotency.once(services, _request(request_key, customer_uid, code), begin_unpaid)[0])
    request = ChargeRequest(
        customer_uid=customer_uid, money=plan.plan.price, name=plan.plan.statement_name,
        request_key=request_key or f"signup/{customer_uid}/{code}/{number}", reason=why, policy=ONCE.code,
    )  # fmt: skip
    keyed = card_entry.pay(
        services, request, card, actor, KeyedIn.KEEP, holder, _write_signup(plan, today), at_plan_price=True
    )
    return _outcome(services, keyed, customer_uid)


def _request(request_key: str, customer_uid: str, code: str) -> VerbRequest:
    return VerbRequest(
        request_key=request_key, verb="sign_up", arguments={"customer_uid": customer_uid, "plan": code}
    )


def _answer(begun: Subscribed) -> dict[str, Any]:
    return {"subscription": begun.key, "anchor": in_json(begun.anchor), "next_due_at": in_json(begun.first.due_at)}


def _read(answer: dict[str, Any]) -> SignedUp:
    anchor, due = date.fromisoformat(answer["anchor"]), datetime.fromisoformat(answer["next_due_at"])
    return SignedUp(answer["subscription"], None, anchor, due)


def _before(services: Services, request: VerbRequest) -> SignedUp | None:
    """The signup of a known request key, by its charge or, for one without a payment, by the stored answer."""
    answer = idempotency.known(services, request)
    if answer is not None:
        return _read(answer)
    with services.engine.begin() as db:
        charge = adhoc_charges.by_request(db, request.request_key)
        asked_as = None if charge is None else signups.asked_as(db, charge.id)
    if charge is None:
        return None
    customer_uid, code = request.arguments["customer_uid"], request.arguments["plan"]
    if asked_as != (customer_uid, code):
        raise BadRequest(
            Code.CONFLICT,
            "request_key",
            f"{request.request_key!r} is charge {charge.key}, asked for otherwise; take a new key",
        )
    return _outcome(services, card_entry.outcome(services, charge.id, is_new=False), asked_as[0])


def _outcome(services: Services, keyed: Keyed, customer_uid: str) -> SignedUp:
    if keyed.status not in (ChargeStatus.PAID, ChargeStatus.REFUNDED):
        raise NotSignedUp(*_why_not(services, keyed, customer_uid))
    with services.engine.begin() as db:
        begun_as = subscriptions.by_key(db, signups.subscription_of(db, keyed.key) or "")
    if begun_as is None:
        raise LookupError(f"charge {keyed.key} is paid and its subscription has not begun")
    return SignedUp(begun_as.key, keyed.key, begun_as.anchor, begun_as.next_due_at)


def _number(db: Connection, key: StoredKey | None, plan: StoredPlan, customer_uid: str, now: datetime) -> int:
    """The number of this signup of the card for the plan, from 1; raises NotSignedUp for a rival."""
    if key is None:
        return 1
    _refuse_second(db, key, plan, customer_uid, now)
    return signups.count(db, key.id, plan.plan.code) + 1


def _refuse_second(db: Connection, key: StoredKey, plan: StoredPlan, customer_uid: str, now: datetime) -> None:
    rival = why_not(db, Wanted(customer_id=key.customer_id, plan=plan.plan.code, starts_at=now))
    if rival is not None:
        raise NotSignedUp(Code.CONFLICT, f"customer {customer_uid!r} {rival}")


def _write_signup(plan: StoredPlan, anchor: date) -> card_entry.AlsoWrite:
    def write(db: Connection, charge_id: int, key: StoredKey, now: datetime) -> None:
        _refuse_second(db, key, plan, key.customer_uid, now)
        signups.add(db, {
            "charge_id": charge_id, "customer_id": key.customer_id, "billing_key_id": key.id, "plan_id": plan.id,
            "plan": plan.plan.code, "subscription_key": subject_of_entropy(secrets.token_bytes(13)),
            "anchor": anchor, "created_at": now,
        })  # fmt: skip

    return write


def _why_not(services: Services, keyed: Keyed, customer_uid: str) -> tuple[Code, str]:
    if keyed.status.is_owed:
        return Code.UNKNOWN, (
            f"it is not clear whether the first payment was made ({keyed.reason or 'it is under way'}); it is "
            f"asked about, and the subscription begins if it was: `again show {keyed.key}`. Do not type the card "
            "in again before"
        )
    with services.engine.begin() as db:
        key = customers.key_by_uid(db, customer_uid)
    left = ""
    if key is not None and key.deleted_at is not None:
        gateway = services.gateway_if_ours(key.account)
        # Some PGs store the card though its payment fails; it would stay there unused.
        if gateway is not None and isinstance(gateway.read_key(key.customer_uid), BillingKey):
            gateway.delete_key(key.customer_uid)
            left = "; the card that was stored with it is deleted"
    return Code.DECLINED, f"the first payment failed, so there is no subscription: {keyed.reason}{left}"
