"""The verbs of the task API: each function is a task, and its parameters are the fields of the message."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from datetime import time as clock_time

from schedules.charging.identity import SUBJECT_LENGTH
from schedules.dunning.policies import ONCE
from schedules.errors import BadRequest, Code, RuleBroken
from schedules.money.amounts import MINOR_DIGITS, Money
from schedules.outbox.events import in_json
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.refunds import Fate, RefundRequest
from worker.charging import adhoc
from worker.customers import adjust, cards, enrollment, issued_keys
from worker.customers.adjustments import Undoable
from worker.operations import operate
from worker.refunds import refund_payment
from worker.renewals import enqueue
from worker.reporting import explain, history
from worker.reporting import find as finding
from worker.store.refunds import Refund
from worker.task_api import customer_reads
from worker.task_api.change_fields import (
    changed_fields,
    charge_fields,
    following_fields,
    moved_fields,
    opened_fields,
)
from worker.task_api.context import Answer, Context, Words

__all__ = ["Answer", "Context", "Words"]  # of `context`: their users import the verbs too


def charge_adhoc(
    context: Context,
    *,
    customer_uid: Words,
    amount: int,
    currency: Words,
    name: Words,
    request_key: Words,
    reason: Words,
    actor: Words,
    policy: Words = ONCE.code,
) -> Answer:
    """Charge a customer once outside of any plan; above a limit the charge waits for a second person."""
    request = ChargeRequest(
        customer_uid=customer_uid, money=money(amount, currency), name=name, request_key=request_key,
        reason=reason, policy=policy,
    )  # fmt: skip
    asked = adhoc.charge(context.services, request, actor, context.os_user)
    enqueue.send_now(context.services, asked.id, context.publish)
    return {
        "charge": asked.key, "status": asked.status.value, "is_new": asked.is_new, "held_why": asked.held_why,
    }  # fmt: skip


def charge_status(context: Context, *, charge: Words | None = None, request_key: Words | None = None) -> Answer:
    """Return the state of a charge, by its key or its request key; nothing is changed."""
    if (charge is None) is (request_key is None):
        raise BadRequest(Code.INVALID, "charge", "give the charge's key, or the request_key, and not both")
    return history.charge_status(context.services, charge, request_key)


def find(context: Context, *, query: Words) -> Answer:
    """Say what a text names: exact ids first, then what begins or ends with it; at most 20, with masked names."""
    found = finding.find(context.services, query, finding.LISTED)
    return {"matches": [finding.as_fields(match) for match in found.matches], "more": found.more}


def why(context: Context, *, key: Words) -> Answer:
    """Say why charges are tried now, later, or not: what is owed, or else the newest, and what comes next."""
    return {"why": [asdict(each) | {"at": in_json(each.at)} for each in explain.why(context.services, key)]}


def try_charge(context: Context, *, charge: Words, reason: Words, actor: Words) -> Answer:
    """Try a charge once now, outside its ladder; it uses none of the automatic tries."""
    operate.try_now(context.services, charge, actor, reason)
    return {"charge": charge}


def card_changed(context: Context, *, customer_uid: Words, reason: Words, actor: Words) -> Answer:
    """Record that a card was replaced or works again; open charges are tried at once, oldest first."""
    return {"tried": cards.changed(context.services, customer_uid, actor, reason)}


def delete_card(
    context: Context,
    *,
    customer_uid: Words,
    reason: Words,
    actor: Words,
    end_subscriptions: bool = False,
    request_key: Words | None = None,
) -> Answer:
    """Delete a stored card, here and at the gateway.

    `at_gateway` is `deleted`, or why the gateway may still have the card; `code` then says whether to send the
    same request again.
    """
    deleted = issued_keys.delete(
        context.services, customer_uid, actor, reason, end_subscriptions=end_subscriptions, request_key=request_key
    )
    return {
        "customer_uid": customer_uid, "subscriptions_ended": deleted.subscriptions_ended,
        "deleted_at": deleted.deleted_at, "at_gateway": deleted.at_gateway,
        "code": None if deleted.is_over else deleted.code,
    }  # fmt: skip


def release(context: Context, *, key: Words, reason: Words, actor: Words) -> Answer:
    """Let a charge or a subscription continue now that waits for an operator, or after a refusal."""
    if len(key) == SUBJECT_LENGTH:
        operate.release_subscription(context.services, key, actor, reason)
    else:
        operate.release(context.services, key, actor, reason, context.os_user)
    return {"key": key}


def release_refused(context: Context, *, reason: Words, actor: Words) -> Answer:
    """Collect now every charge whose last attempt was refused; with a request key in one transaction."""
    released = operate.release_refused(context.services, actor, reason)
    return {
        "released": released.charges,
        "amounts": [{"amount": sum_.amount, "currency": sum_.currency} for sum_ in released.sums],
    }


def waive(context: Context, *, charge: Words, reason: Words, actor: Words) -> Answer:
    """Waive a charge; it is not collected any more."""
    operate.waive(context.services, charge, actor, reason)
    return {"charge": charge}


def cancel_charge(context: Context, *, charge: Words, reason: Words, actor: Words) -> Answer:
    """Cancel a charge that should not exist; its subscription continues."""
    operate.cancel_charge(context.services, charge, actor, reason)
    return {"charge": charge}


def paid_elsewhere(context: Context, *, charge: Words, reason: Words, actor: Words) -> Answer:
    """Record a charge as paid by another way, such as a bank transfer; nothing more is tried."""
    operate.paid_elsewhere(context.services, charge, actor, reason)
    return {"charge": charge}


def add_customer(
    context: Context,
    *,
    customer_uid: Words,
    actor: Words,
    name: Words | None = None,
    email: Words | None = None,
    tel: Words | None = None,
    of: Words | None = None,
    account: Words | None = None,
) -> Answer:
    """Add a customer whose billing key the gateway has, or a further card of a known customer."""
    key = enrollment.add_customer(context.services, customer_uid, name, email, tel, actor, of, account)
    facts = {"customer_uid": customer_uid, "card_name": key.card_name, "card_number": key.card_number}
    return facts | {"pg_provider": key.pg_provider}


def subscribe(
    context: Context,
    *,
    customer_uid: Words,
    plan: Words,
    actor: Words,
    anchor: date | None = None,
    another: bool = False,
    trial_again: bool = False,
) -> Answer:
    """Begin a subscription; the same request key returns the same one, also after it has ended."""
    begun = enrollment.subscribe(
        context.services, customer_uid, plan, actor, anchor, another=another, trial_again=trial_again
    )
    price = begun.plan.price
    return {
        "subscription": begun.key, "version": begun.plan.version, "anchor": in_json(begun.anchor),
        "period_no": begun.first.period_no, "next_due_at": in_json(begun.first.due_at), "amount": price.amount,
        "currency": price.currency, "trial_days": begun.trial_days, "trial_used_by": begun.trial_used_by,
    }  # fmt: skip


def unsubscribe(
    context: Context, *, subscription: Words, reason: Words, actor: Words, now: bool = False
) -> Answer:
    """End a subscription when its running period ends, or at once; then its open charges are canceled.

    `unclear` lists charges that may still be paid. `stops` is the next charge, which is not made any more.
    """
    ended = enrollment.unsubscribe(context.services, subscription, actor, reason, at_period_end=not now)
    return {
        "subscription": subscription, "ends_at": in_json(ended.ends_at),
        "charges_canceled": len(ended.debts.closed), "canceled": [asdict(owed) for owed in ended.debts.closed],
        "unclear": [asdict(owed) for owed in ended.debts.unclear], "opened": opened_fields(ended.opened),
        "stops": charge_fields(ended.not_charged),
    }  # fmt: skip


def pause(context: Context, *, subscription: Words, reason: Words, actor: Words) -> Answer:
    """Open no period until the subscription is resumed; due periods are opened first, and debts are collected.

    `stops` is the next charge, which is not made during the pause.
    """
    paused = adjust.pause(context.services, subscription, actor, reason)
    return {
        "subscription": subscription, "opened": opened_fields(paused.opened),
        "stops": charge_fields(paused.not_charged),
    }  # fmt: skip


def resume(context: Context, *, subscription: Words, reason: Words, actor: Words) -> Answer:
    """Continue a paused subscription with its next period; those that came due during the pause are not charged.

    `periods_not_charged` lists them.
    """
    resumed = adjust.resume(context.services, subscription, actor, reason)
    facts = {"subscription": subscription, "periods_not_charged": opened_fields(resumed.not_charged)}
    return facts | following_fields(resumed.following)


def undo(context: Context, *, subscription: Words, what: Undoable | None, reason: Words, actor: Words) -> Answer:
    """Undo the end of a subscription that was set for its period, or the periods that it skips.

    `what` says which. Null undoes the one that exists and needs a request key; it is refused when both exist.
    """
    undone = adjust.undo(context.services, subscription, actor, reason, what)
    facts = {"undone": undone.what.value, "ended_at": in_json(undone.ended_at)}
    facts |= {"skipped_below": undone.skipped_below, "debts_tried": undone.debts_tried}
    facts |= {"opened": opened_fields(undone.opened)}
    return {"subscription": subscription} | facts | following_fields(undone.following)


def skip(context: Context, *, subscription: Words, period_no: int | None, reason: Words, actor: Words) -> Answer:
    """Skip one period; it is not charged.

    Its number lets a repeated request skip one period only. Null skips the next one and needs a request key.
    """
    skipped = adjust.skip(context.services, subscription, actor, reason, period_no)
    facts = {"period_no": skipped.period_no, "period_date": in_json(skipped.period_date)}
    facts |= {"due_at": in_json(skipped.due_at)}
    facts |= {"not_charged": skipped.amount, "opened": opened_fields(skipped.opened)}
    return {"subscription": subscription} | facts | following_fields(skipped.following, "following_period_no")


def move_anchor(context: Context, *, subscription: Words, anchor: date, reason: Words, actor: Words) -> Answer:
    """Begin the next period on another day, and count later periods from there; nothing is prorated."""
    return moved_fields(subscription, adjust.move_anchor(context.services, subscription, anchor, actor, reason))


def move_time(
    context: Context, *, subscription: Words, time: clock_time | None, reason: Words, actor: Words
) -> Answer:
    """Bill a subscription at another time of day than its plan.

    Null restores the plan's time.
    """
    return moved_fields(subscription, adjust.move_time(context.services, subscription, time, actor, reason))


def change_plan(
    context: Context,
    *,
    subscription: Words,
    plan: Words,
    reason: Words,
    actor: Words,
    another: bool = False,
    other_currency: bool = False,
) -> Answer:
    """Charge by another plan, or the newest version of its own, from the next period on; nothing is prorated."""
    change = adjust.change_plan(
        context.services, subscription, plan, actor, reason, another=another, other_currency=other_currency
    )
    return changed_fields(subscription, change.next, change.next_before, change.opened) | {
        "version": change.after.version, "version_before": change.before.version,
    }  # fmt: skip


def change_card(
    context: Context, *, subscription: Words, customer_uid: Words, reason: Words, actor: Words
) -> Answer:
    """Charge another card of the same customer from now on; open debts move to it and are tried at once.

    `debts` lists each open charge with what it `became`; the numbers count them.
    """
    change = adjust.change_card(context.services, subscription, customer_uid, actor, reason)
    debts = [asdict(debt) | {"due_at": in_json(debt.due_at), "became": debt.became.value} for debt in change.debts]
    counts = {became.value: count for became, count in change.counts.items()}
    facts = {"subscription": subscription, **counts, "debts": debts, "opened": opened_fields(change.opened)}
    return facts | following_fields(change.following)


def refund_charge(
    context: Context,
    *,
    charge: Words,
    request_key: Words,
    reason: Words,
    actor: Words,
    amount: int | None = None,
    currency: Words | None = None,
    subscription: Fate = Fate.KEEP,
    another: bool = False,
) -> Answer:
    """Refund a payment: all that is left of it, or an amount with its currency."""
    if (amount is None) is not (currency is None):
        raise BadRequest(
            Code.INVALID, "currency", "give the amount with its currency, or neither for all that is left"
        )
    much = None if amount is None or currency is None else money(amount, currency)
    request = RefundRequest(
        charge=charge, money=much, request_key=request_key, reason=reason, fate=subscription, another=another
    )  # fmt: skip
    asked, is_new = refund_payment.ask(context.services, request, actor)
    return refund_words(asked) | {"is_new": is_new}


def refund_status(context: Context, *, request_key: Words) -> Answer:
    """Return the state of a refund; nothing is changed."""
    return refund_words(refund_payment.status(context.services, request_key))


def refund_words(refund: Refund) -> Answer:
    """A refund as plain fields."""
    names = ("request_key", "merchant_uid", "amount", "currency", "state", "words")
    return {name: getattr(refund, name) for name in names} | {"ended_at": in_json(refund.ended_at)}


def money(amount: int, currency: str) -> Money:
    """An amount in minor units; raises BadRequest with the wrong field."""
    if currency not in MINOR_DIGITS:
        raise BadRequest(
            Code.INVALID, "currency", f"{currency!r} is not known; take one of {', '.join(MINOR_DIGITS)}"
        )
    try:
        return Money(amount, currency)
    except RuleBroken as error:
        raise BadRequest(Code.INVALID, "amount", str(error)) from None


VERBS: tuple[Callable[..., Answer], ...] = (
    charge_adhoc, charge_status, find, why, customer_reads.subscription_standing,
    customer_reads.customer_subscriptions, customer_reads.customer_charges, customer_reads.customer_cards,
    try_charge, release, release_refused, waive, cancel_charge,
    paid_elsewhere, add_customer, card_changed, delete_card, subscribe, unsubscribe, pause, resume, undo, skip,
    move_anchor, move_time, change_plan, change_card, refund_charge, refund_status,
)  # fmt: skip
# Verbs that create or charge need a request key. Three store the key themselves: charge_adhoc and refund_charge in
# their own rows, delete_card because it continues at the gateway after its first transaction.
NEEDS_KEY: frozenset[Callable[..., Answer]] = frozenset({add_customer, subscribe, try_charge})
# A field that may be null only with a request key: null means the current value, which changes with each call.
NULL_NEEDS_KEY: Mapping[Callable[..., Answer], str] = {skip: "period_no", undo: "what"}
TAKES_KEY = NEEDS_KEY | {
    release, release_refused, waive, cancel_charge, paid_elsewhere, card_changed, unsubscribe, pause, resume, undo,
    skip, move_anchor, move_time, change_plan, change_card,
}  # fmt: skip
