"""Charge a typed-in card once, in the process that holds the card data.

Card data is not stored, so no worker can send the charge.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection

from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn
from schedules.charging.identity import charge_key, subject_of_request
from schedules.charging.outcomes import Outcome, Paid
from schedules.errors import BadRequest, Code
from schedules.persons import Person
from schedules.requests.adhoc import ChargeRequest, digest
from worker.charging import attempt_charge, prior_attempts
from worker.charging.adhoc import NO_PERIOD, CannotRequest, known_policy, row_of
from worker.charging.approval_limits import above_limit
from worker.charging.claim import Claimed, begin_attempt, claimed_of
from worker.customers import cards
from worker.gateway.port import Card, ChargeOrder, Gateway
from worker.services import Services, UnusableAccount, clock_is_right
from worker.store.charging import adhoc_charges, asked_before_sending, charges, kill_switch
from worker.store.customers import customers
from worker.store.customers.customers import StoredKey
from worker.store.outbox import event_log

log = logging.getLogger("again.card_entry")
AlsoWrite = Callable[[Connection, int, StoredKey, datetime], None]


@dataclass(frozen=True, slots=True)
class Keyed:
    """The state of a charge of a typed-in card."""

    key: str
    status: ChargeStatus
    is_new: bool
    reason: str | None  # why it is not paid


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The holder of a typed-in card, used when the customer is not known yet."""

    account: str | None = None
    name: str | None = None
    email: str | None = None
    tel: str | None = None


def pay(
    services: Services,
    request: ChargeRequest,
    card: Card,
    actor: str,
    keep: KeyedIn,
    holder: Holder = Holder(),
    also_write: AlsoWrite = lambda *_: None,
    *,
    at_plan_price: bool = False,
    os_user: str | None = None,
) -> Keyed:
    """Charge a typed-in card. The charge and its attempt are committed before the call is sent.

    A repeated request returns the same charge and sends nothing. An unknown outcome is looked up like any other;
    if the gateway never received the call, the charge ends, because the card is not stored and cannot be sent
    again. `also_write` writes further rows in the transaction that opens the charge. A charge above a limit is
    refused, because the card cannot be kept until a second person approves; `at_plan_price` skips the limits.
    """
    if wrong := services.gateway(holder.account or services.settings.account).wrong_with_card(card):
        raise BadRequest(Code.INVALID, "card", wrong)
    fingerprint = digest("keyed", keep, request.fingerprint)
    now = services.clock.now()
    last_day = cards.last_day_of_typed(card.expiry, now)
    _refuse_used_key(services, request, holder)
    with services.act() as db:
        known = adhoc_charges.by_request(db, request.request_key)
        opening = _Opening(
            request, fingerprint, keep, holder, Person(actor, os_user), also_write, at_plan_price, last_day
        )
        claimed = None if known else _open(services, db, opening, now)
        known = known or adhoc_charges.by_request(db, request.request_key)
        if known is None:
            raise LookupError(f"charge of request {request.request_key!r} is neither written nor there")
        if known.fingerprint not in {digest("keyed", keep, each) for each in request.fingerprints()}:
            raise BadRequest(
                Code.CONFLICT,
                "request_key",
                f"{request.request_key!r} is charge {known.key}, with other arguments",
            )
    if claimed is not None and services.dry_run is None:
        state = attempt_charge.carry_out(services, claimed, _with(card, keep))
        if keep is KeyedIn.KEEP and state is AttemptState.PAID:
            _read_facts(services, request, actor)
    return outcome(services, known.id, is_new=claimed is not None)


def _read_facts(services: Services, request: ChargeRequest, actor: str) -> None:
    """Store the masked facts of the stored card from the gateway; a failure is logged only."""
    try:
        cards.changed(services, request.customer_uid, actor, request.reason, believed=False)
    except (cards.CannotChange, UnusableAccount) as error:
        log.warning("%s", error)


def _with(card: Card, keep: KeyedIn) -> attempt_charge.Ask:
    def ask(gateway: Gateway, order: ChargeOrder, until: float) -> Outcome:
        outcome = gateway.charge_card(order, card, keep=keep is KeyedIn.KEEP, until=until)
        channel = (card.channel or "").partition(".")[0]
        if isinstance(outcome, Paid) and channel and outcome.pg_provider not in (channel, None):
            # PortOne uses the default channel, without an error, when the requested one is not set up.
            log.error("%s was paid through %s, not %s", order.merchant_uid, outcome.pg_provider, channel)
        return outcome

    return ask


def _refuse_used_key(services: Services, request: ChargeRequest, holder: Holder) -> None:
    """Raise CannotRequest if the gateway has payments for a request key that has no charge in this database.

    A restore loses the charge of a request key, and the payment remains at the gateway.
    """
    key = charge_key(ChargeKind.ADHOC, subject_of_request(request.request_key), NO_PERIOD)
    with services.engine.begin() as db:
        if charges.id_of(db, key) is not None or not asked_before_sending.key_is_unasked(db, key):
            return
        stored = customers.key_by_uid(db, request.customer_uid)
    account = stored.account if stored is not None else holder.account or services.settings.account
    found = prior_attempts.known_payments(services, account, key)
    if found is None:
        raise CannotRequest(
            Code.UNAVAILABLE,
            f"request key {request.request_key!r} may have been used before the database was restored, and the "
            "gateway does not answer; nothing was charged",
        )
    if found:
        seen = ", ".join(f"{payment.imp_uid} ({payment.state})" for payment in found)
        raise CannotRequest(
            Code.CONFLICT,
            f"request key {request.request_key!r} was used before the database was restored: the gateway has "
            f"{seen}; nothing was charged now; see `again findings`, and take a new key for another payment",
        )


@dataclass(frozen=True, slots=True)
class _Opening:
    """Arguments of opening a charge of a typed-in card."""

    request: ChargeRequest
    fingerprint: str
    keep: KeyedIn
    holder: Holder
    asked_by: Person
    also_write: AlsoWrite
    at_plan_price: bool
    last_day: date  # of the card


def _open(services: Services, db: Connection, opening: _Opening, now: datetime) -> Claimed | None:
    """Write the charge and its claimed attempt; None when another process wrote the same request first."""
    request, keep = opening.request, opening.keep
    if not clock_is_right(services, db):
        raise CannotRequest(
            Code.HELD, "this machine's clock is not the database's, so nothing is sent; set it right"
        )
    key = _key(services, db, request.customer_uid, keep, opening.holder, now)
    obstacle = kill_switch.permission(db, key.account).obstacle(services.identity, services.clock)
    if obstacle is not None:
        raise CannotRequest(Code.HELD, f"nothing is sent: {obstacle}")
    policy = known_policy(services, db, request.policy)
    row = row_of(request, key.id, key.account, policy, now)
    row |= {"keyed_in": keep.value, "request_fingerprint": opening.fingerprint, "next_attempt_at": None}
    if not adhoc_charges.open_one(db, row):
        return None
    if not opening.at_plan_price:
        _refuse_above_limit(services, db, key.account, request, now)
    charge = charges.locked_by_key(db, row["key"])
    if charge is None:
        raise LookupError(f"charge {row['key']} is not there")
    if keep is KeyedIn.KEEP:
        # The gateway never sends the expiry date. It is used once the card is paid and stored.
        customers.change_key(db, key.id, expires_on=opening.last_day, tell_expiry_at=None)
    opening.also_write(db, charge.id, key, now)
    intent = begin_attempt(services, db, charge)
    if intent is None:
        raise LookupError(f"charge {row['key']} has an attempt already")
    event_log.record(db, opening.asked_by.actor, "charge.keyed", charge.key, request.reason, now,
                 request_key=request.request_key, customer_uid=request.customer_uid, amount=str(request.money),
                 keep=keep.value, os_user=opening.asked_by.os_user)  # fmt: skip
    return claimed_of(charge, intent)


def _refuse_above_limit(
    services: Services, db: Connection, account: str, request: ChargeRequest, now: datetime
) -> None:
    above = above_limit(services, db, account, request.money, now)
    if above is not None:
        raise CannotRequest(
            Code.LIMIT,
            f"nothing is sent: {above}; a typed-in card is not kept until a second person releases the charge, so "
            "store the card with `again card issue` and use `again charge`, or raise the limit",
        )


def _key(
    services: Services, db: Connection, customer_uid: str, keep: KeyedIn, holder: Holder, now: datetime
) -> StoredKey:
    """Return the locked billing key; a new one is written as deleted, as the gateway does not have it."""
    key = customers.key_by_uid(db, customer_uid, lock=True)
    account = services.account(holder.account or services.settings.account).name
    if key is not None:
        if keep is KeyedIn.KEEP and key.deleted_at is None:
            raise BadRequest(
                Code.CONFLICT,
                "customer_uid",
                f"customer {customer_uid!r} has a stored card; `again card issue` replaces it",
            )
        if key.account != account and holder.account is not None:
            raise BadRequest(
                Code.CONFLICT, "account", f"customer {customer_uid!r} belongs to account {key.account!r}"
            )
        return key
    customer_id = customers.add(db, customer_uid, holder.name, holder.email, holder.tel, now)
    customers.add_key(db, customer_id, customer_uid, account, {"deleted_at": now}, now)
    written = customers.key_by_uid(db, customer_uid)
    if written is None:
        raise LookupError(f"customer {customer_uid!r} is not there")
    return written


def outcome(services: Services, charge_id: int, *, is_new: bool) -> Keyed:
    """The state of a charge of a typed-in card now; an open charge without a key in a dry run."""
    with services.engine.begin() as db:
        found = adhoc_charges.outcome(db, charge_id)
    if found is None:
        return Keyed("", ChargeStatus.OPEN, is_new, "a dry run")
    key, status, closed_why, reason = found
    return Keyed(key, ChargeStatus(status), is_new, closed_why or reason)
