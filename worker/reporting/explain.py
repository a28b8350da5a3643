"""Explain why a charge is tried now, later, or not, by the rule and the facts of a claim. Nothing is changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from schedules.charging.charges import AttemptState, SubscriptionStatus, TriedBy
from schedules.charging.claiming import AccountFacts, SetAside
from schedules.charging.identity import SUBJECT_LENGTH, parse_merchant_uid
from schedules.charging.reasons import (
    OF_CHARGE,
    OF_SUBSCRIPTION,
    Checked,
    Reason,
    SubscriptionFacts,
    Verdict,
    of_charge,
    of_subscription,
)
from schedules.dunning.decisions import Debt, is_dated
from schedules.dunning.standings import usable_until
from schedules.errors import BadUid
from schedules.money.amounts import amount_words
from worker.charging import dunning
from worker.charging.claim import intent_of
from worker.charging.claim_facts import account_facts, charge_facts, earlier_facts, load_earlier, or_aside
from worker.customers.next_charges import next_of
from worker.reporting import find, sentences
from worker.reporting.find import Kind
from worker.reporting.sentences import Beside
from worker.services import Services
from worker.store.charging import attempts, card_calls, charges, claims, debts, kill_switch
from worker.store.charging.charges import Charge
from worker.store.charging.claims import Locked
from worker.store.customers import customers, subscriptions
from worker.store.customers.subscriptions import Subscription
from worker.store.reporting import customer_facts, timeline
from worker.store.reporting.timeline import AttemptRow

MOST_CARDS = 20  # of a customer
ENDED = frozenset({Reason.PAID, Reason.CLOSED, Reason.CANCELED})


@dataclass(frozen=True, slots=True)
class Why:
    """The answer for one charge, or for the next period of one subscription."""

    kind: str  # charge or subscription
    key: str
    customer_uid: str
    account: str
    amount: int  # minor units
    currency: str
    reason: Reason
    at: datetime | None  # when it is tried, if nothing changes before
    sentence: str
    checks: tuple[Checked, ...]


def why(services: Services, key: str) -> list[Why]:
    """Explain a charge, a merchant_uid, or what a subscription, a card or a customer owes, oldest first.

    Where nothing is owed, the newest charge is explained; the next period of each subscription comes last. The
    text is read as by `find.one`, which raises NothingToShow or SeveralMatches.
    """
    now = services.clock.now()
    with services.one_moment() as db:
        match = find.one(db, key)
        if match.kind is Kind.CUSTOMER and match.customer_id is not None:
            return _of_customer(services, db, match.customer_id, now)
        return _of_key(services, db, match.key, now) or []


def why_of_customer(services: Services, customer_id: int) -> list[Why]:
    """As `why`, of all cards of a customer, by row id."""
    with services.one_moment() as db:
        return _of_customer(services, db, customer_id, services.clock.now())


def _of_customer(services: Services, db: Connection, customer_id: int, now: datetime) -> list[Why]:
    cards = customer_facts.cards_of(db, customer_id, MOST_CARDS)
    of_cards = [_of_key(services, db, card.customer_uid, now) or [] for card in cards]
    # A card that pays for nothing any more has only its last charge.
    of_live = [found for found in of_cards if any(each.reason not in ENDED for each in found)]
    return [each for found in of_live or of_cards for each in found]


def _of_key(services: Services, db: Connection, key: str, now: datetime) -> list[Why] | None:
    """Explain what has exactly this key; None when nothing has it."""
    if (charge_id := charges.id_of(db, _charge_key(key))) is not None:
        return _of_charges(services, db, [charge_id], now)
    row = subscriptions.by_key(db, key) if len(key) == SUBJECT_LENGTH else None
    if row is not None:
        return _of_subscription(services, db, row, now)
    stored = customers.key_by_uid(db, key)
    if stored is None:
        return None
    keys = [own for _, own in subscriptions.live_by_card(db, stored.id, lock=False)]
    keys = keys or subscriptions.newest_by_card(db, stored.id)
    rows = [found for own in keys if (found := subscriptions.by_key(db, own)) is not None]
    ids = debts.owed_by_card(db, stored.id) or timeline.newest_of_card(db, stored.id)
    return _of_charges(services, db, ids, now) + [_of_next(services, db, each, now) for each in rows]


def _charge_key(key: str) -> str:
    try:
        return parse_merchant_uid(key).charge_key
    except BadUid:
        return key


def _of_subscription(services: Services, db: Connection, row: Subscription, now: datetime) -> list[Why]:
    return [*_of_charges(services, db, timeline.owed_or_newest(db, row.id), now), _of_next(services, db, row, now)]


def _of_charges(services: Services, db: Connection, ids: Sequence[int], now: datetime) -> list[Why]:
    rows = {row.id: row for row in claims.read(db, ids)}
    return [_of_charge(services, db, rows[each], now) for each in ids if each in rows]


def _of_charge(services: Services, db: Connection, row: Locked, now: datetime) -> Why:
    verdict = _verdict(services, db, row, now)
    return Why(
        "charge", row.key, row.customer_uid, row.account, row.amount, row.currency, verdict.reason, verdict.at,
        _sentence(services, db, row, verdict), verdict.checks(OF_CHARGE),
    )  # fmt: skip


def _verdict(services: Services, db: Connection, row: Locked, now: datetime) -> Verdict:
    facts = or_aside(partial(charge_facts, row, _account(services, db, row.account)))
    if isinstance(facts, SetAside):
        return Verdict(Reason.TO_BE_HELD, None, facts.why)
    earlier = load_earlier(db, [row], now).get(row.id) if row.has_earlier else None
    if isinstance(earlier, SetAside):
        return Verdict(Reason.TO_BE_HELD, None, earlier.why)
    return _refused(services, db, row, of_charge(facts, earlier_facts(row, earlier), now), now)


def _refused(services: Services, db: Connection, row: Locked, verdict: Verdict, now: datetime) -> Verdict:
    """Return what the unique constraints of attempts make of a charge that the rule would try."""
    if verdict.is_new:
        intent = or_aside(partial(intent_of, services, row, now))
        if isinstance(intent, SetAside):
            return Verdict(Reason.TO_BE_HELD, None, intent.why)
        if attempts.is_taken(db, row.id, intent.number, intent.merchant_uid):
            taken = f"attempt {intent.number}, or {intent.merchant_uid}, exists already"
            return Verdict(Reason.TO_BE_HELD, None, taken)
    if verdict.reason is Reason.DUE and (busy := card_calls.under_way(db, row.billing_key_id)) is not None:
        return Verdict(Reason.CARD_IN_USE, None, busy)
    return verdict


def _account(services: Services, db: Connection, account: str) -> AccountFacts:
    return account_facts(services, account, kill_switch.permission(db, account))


def _of_next(services: Services, db: Connection, row: Subscription, now: datetime) -> Why:
    who, account = f"subscription {row.key} of {row.customer_uid}", _account(services, db, row.account)
    coming = or_aside(partial(next_of, db, row))
    if isinstance(coming, SetAside):
        broken = _of_broken(row, coming.why)
        return Why(
            "subscription", row.key, row.customer_uid, row.account, row.price, row.currency, broken.reason, None,
            f"the next period of {who} is not charged: {broken.fact}", broken.checks(OF_SUBSCRIPTION),
        )  # fmt: skip
    facts = SubscriptionFacts(
        status=row.status,
        is_held=row.held_why is not None,
        ends_at=row.ends_at,
        due_at=coming.due_at,
        skips=coming.period_no > row.next_period_no,
        unfit=account.unfit,
        obstacle=account.obstacle,
        ahead=timeline.oldest_owed(db, row.id),
        card_stopped=row.billing_key_id in customers.stopped_as(db, [row.billing_key_id]),
    )
    verdict, card = of_subscription(facts, now), timeline.card_stop(db, row.billing_key_id)
    money = amount_words(coming.amount, coming.currency)
    subject = f"period {coming.period_no} of {who} ({money})"
    return Why(
        "subscription", row.key, row.customer_uid, row.account, coming.amount, coming.currency,
        verdict.reason, verdict.at, f"{subject} {sentences.of_period(row, verdict, coming.due_at, card)}",
        verdict.checks(OF_SUBSCRIPTION),
    )  # fmt: skip


def _of_broken(row: Subscription, why: str) -> Verdict:
    match row.status:
        case SubscriptionStatus.CANCELED:
            return Verdict(Reason.CANCELED, None, "the subscription was canceled")
        case SubscriptionStatus.PAUSED:
            return Verdict(Reason.PAUSED, None, f"the subscription is paused, and {why}")
        case _ if row.held_why is not None:
            return Verdict(Reason.HELD, None, row.held_why)
        case _:
            return Verdict(Reason.TO_BE_HELD, None, why)


def _sentence(services: Services, db: Connection, row: Locked, verdict: Verdict) -> str:
    charge, tried = timeline.charge_row(db, row.key), timeline.attempts_of(db, row.id)
    own = or_aside(lambda: charges.of_ids(db, [row.id]).get(row.id))
    debt = None if isinstance(own, SetAside) else own
    beside = Beside(
        timeline.card_stop(db, row.billing_key_id),
        "" if debt is None else _planned_as(services, debt, tried, verdict.at),
        None if debt is None else usable_until(dunning.overdue(debt)),
    )
    words = sentences.of_debt(charge, tried, verdict, beside) if charge is not None else ""
    return f"charge {row.key} of {row.customer_uid} ({amount_words(row.amount, row.currency)}) {words}"


def _planned_as(services: Services, charge: Charge, tried: Sequence[AttemptRow], at: datetime | None) -> str:
    """Why a try is planned for its time: a person, a payday, a rung of the ladder, a call that was not sent."""
    if at is None or at != charge.next_attempt_at:
        return ""
    if charge.tried_by is not None:
        return f", as a {charge.tried_by} asked" if charge.tried_by is TriedBy.PERSON else ", with a changed card"
    last = tried[-1] if tried else None
    if last is None:
        return ", for the first time"
    if last.state != AttemptState.DECLINED or last.decline_class is None or last.settled_at is None:
        return ", again"
    debt = Debt(charge.policy, charge.history, last.merchant_uid, charge.zone or services.settings.zone)
    if is_dated(at, debt, last.decline_class, last.settled_at):
        return ", a payday or the first day of a month"
    rungs = len(charge.policy.way(last.decline_class).ladder)
    done = charge.history.declines
    return f", by rung {done} of {rungs} of the ladder" if 0 < done <= rungs else ", again"
