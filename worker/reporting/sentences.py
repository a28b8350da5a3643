"""Sentences that say why a charge is tried now, later, or not; each continues "charge … of … (…)"."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schedules.charging.cards import has_expired
from schedules.charging.charges import AttemptState
from schedules.charging.reasons import Reason, Verdict
from schedules.masking import named_card
from worker.store.customers.subscriptions import Subscription
from worker.store.reporting.timeline import AttemptRow, CardStop, ChargeRow


@dataclass(frozen=True, slots=True)
class Beside:
    """What a sentence says beside the verdict."""

    card: CardStop | None = None  # the card that is charged
    planned_as: str = ""  # why a try is planned for its time
    usable_until: datetime | None = None  # the end of the grace of a declined debt


def of_period(row: Subscription, verdict: Verdict, due_at: datetime, card: CardStop | None) -> str:
    """Say what becomes of a subscription's next period, which is due at `due_at`."""
    opened = f"is opened at {_moment(due_at)}"
    tried = f"{opened}, and tried then with {_named(card)}{_expiry(card, due_at)}"
    match verdict.reason:
        case Reason.CANCELED:
            return "is not charged: the subscription was canceled"
        case Reason.HELD:
            return f"is not charged: the subscription is held for an operator: {row.held_why}"
        case Reason.PAUSED:
            return "is not charged: the subscription is paused"
        case Reason.ENDS:
            return f"is not charged: the subscription ends at {_moment(row.ends_at)}"
        case Reason.SKIPPED:
            return f"{tried}; the periods before it are skipped"
        case Reason.SCHEDULED:
            return tried
        case Reason.OLDER_DEBT:
            return f"{opened}, and is not tried before charge {verdict.fact}, which is older"
        case Reason.CARD_STOPPED:
            return f"{opened}, and waits for another card: {_named(card)} can never pay{_stopped(card)}"
        case Reason.DUE:
            return "is due, and its charge is opened within a minute"
        case _:
            return _of_installation(verdict)


def of_debt(charge: ChargeRow, tried: Sequence[AttemptRow], verdict: Verdict, beside: Beside) -> str:
    """Say what becomes of a charge."""
    after = _after(tried) + _grace(charge, beside)
    match verdict.reason:
        case Reason.PAID:
            return f"is paid since {_moment(charge.closed_at)}, {_paid_by(charge, tried)}"
        case Reason.CLOSED:
            return f"is not tried: it is {charge.status}" + (f", {charge.closed_why}" if charge.closed_why else "")
        case Reason.HELD:
            return f"is not tried: it is held for an operator: {charge.held_why}"
        case Reason.UNDER_WAY | Reason.UNKNOWN:
            return _of_unresolved(next(each for each in tried if AttemptState(each.state).is_unresolved))
        case Reason.WAITS_FOR_CARD:
            return f"is not tried: it waits for another card, or for an operator{_why_stopped(beside.card)}{after}"
        case Reason.TO_BE_HELD:
            return f"will be held for an operator at its next try: {verdict.fact}"
        case Reason.LOOK_UP:
            due = _moment(charge.next_attempt_at)
            return (
                f"is due at {due}, and is tried when an earlier attempt has been looked up at the gateway{after}"
            )
        case Reason.OLDER_DEBT:
            return f"is not tried: charge {verdict.fact} of the same card is older and goes first"
        case Reason.CARD_STOPPED:
            card = beside.card
            return f"is not tried: {_named(card)} can never pay{_stopped(card)}; it waits for another card{after}"
        case Reason.CARD_CAP:
            until = f" before {_moment(verdict.at)}" if verdict.at is not None else ""
            return f"is not tried{until}: its card was declined as often as the policy's cap allows{after}"
        case Reason.CARD_IN_USE:
            return f"is tried as soon as {verdict.fact}, another call of its card, has ended"
        case Reason.SCHEDULED:
            return f"is tried at {_moment(verdict.at)}{beside.planned_as}{after}"
        case Reason.DUE:
            return f"is due, and is sent as soon as the account's cap allows{after}"
        case _:
            return _of_installation(verdict)


def _named(card: CardStop | None) -> str:
    shown = named_card(card.card_name, card.card_number) if card is not None else None
    return f"its card ({shown})" if shown is not None else "its card"


def _stopped(card: CardStop | None) -> str:
    if card is None or card.stopped_as is None:
        return ""
    when = f" at {_moment(card.declined_at)}" if card.declined_at is not None else ""
    return f" since its decline{when} ({card.stopped_as})"


def _why_stopped(card: CardStop | None) -> str:
    return f"; {_named(card)} is stopped{_stopped(card)}" if card is not None and card.stopped_as else ""


def _expiry(card: CardStop | None, due_at: datetime) -> str:
    if card is None or card.expires_on is None or not has_expired(card.expires_on, due_at):
        return ""
    return f", which expires before, on {card.expires_on}"


def _grace(charge: ChargeRow, beside: Beside) -> str:
    if charge.subscription is None or beside.usable_until is None or charge.closed_at is not None:
        return ""
    return f"; the grace of its subscription ends at {_moment(beside.usable_until)}"


def _of_installation(verdict: Verdict) -> str:
    here = "from here" if verdict.reason is Reason.NOT_HERE else "now"
    return f"is not sent {here}: {verdict.fact}"


def _of_unresolved(attempt: AttemptRow) -> str:
    if attempt.state == AttemptState.SENDING:
        return f"is being sent as {attempt.merchant_uid}"
    at = _moment(attempt.next_ask_at)
    return f"is not tried: the outcome of {attempt.merchant_uid} is unknown, and is looked up again at {at}"


def _paid_by(charge: ChargeRow, tried: Sequence[AttemptRow]) -> str:
    for attempt in tried:
        if attempt.state == AttemptState.PAID:
            return f"by {attempt.merchant_uid}, imp_uid {attempt.imp_uid}"
    return f"by another way: {charge.closed_why}"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}Z" if at is not None else "a time that is not known"


def _after(tried: Sequence[AttemptRow]) -> str:
    if not tried or tried[-1].state != AttemptState.DECLINED:
        return ""
    return f"; the last attempt was declined: {tried[-1].reason} ({tried[-1].decline_class})"
