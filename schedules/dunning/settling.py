"""Decide what an answer changes: the columns of its attempt, and what follows for its charge."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import TypedDict, assert_never

from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown, Voided
from schedules.charging.unknown_outcomes import next_ask_at
from schedules.dunning.declines import DeclineClass, Placed
from schedules.dunning.policies import FinalAction


class AttemptColumns(TypedDict, total=False):
    """The columns of an attempt that an answer writes; a column that is left out keeps its value."""

    state: str
    settled_at: datetime | None
    unknown_since: datetime | None
    next_ask_at: datetime | None
    quiet_answers: int
    imp_uid: str | None
    pg_provider: str | None
    pg_code: str | None
    reason: str | None
    decline_class: str | None
    decline_rule: str | None


# The columns of an attempt that was sent before, and whose last call was refused: its uid is sent again.
REFUSED_AGAIN: AttemptColumns = {"decline_class": DeclineClass.SETUP_FAULT.value, "decline_rule": "refused"}


@dataclass(frozen=True, slots=True)
class Sent:
    """The facts of an attempt that an answer came for."""

    before: AttemptState  # in which it was claimed: sending by a call, unknown by a look-up
    sends: int  # claims of it for a call
    unknown_since: datetime | None
    quiet_answers: int = 0  # look-ups in a row, this one included, that found no payment


@dataclass(frozen=True, slots=True)
class PaidCharge:
    """The facts of a charge that is paid, read under its lock."""

    kind: ChargeKind
    status: ChargeStatus
    is_of_canceled: bool  # its subscription was canceled
    has_subscription: bool
    keyed_in: KeyedIn | None
    card_stopped: bool  # after a decline that no later try can change
    was_declined: bool
    given_up: FinalAction | None
    owes_more: bool  # the card has another open charge
    others_declined: bool  # the subscription has another open charge that was declined
    others_rest: bool  # the subscription is paused for another open charge too


@dataclass(frozen=True, slots=True)
class PaymentEffects:
    """What a payment does beside closing its charge as paid and the event `charge.paid`."""

    recovered: bool  # a field of the event: the charge had been declined
    is_late: bool = False  # the charge or its subscription had ended: a finding, for a person to decide
    wakes_behind: bool = False  # charges of the card that waited behind this one are due
    stores_card: bool = False  # the gateway keeps the typed-in card, and the subscription begins that waited
    frees_card: bool = False  # the stopped card is tried again, with the charges that waited for it
    # The subscription's dunning: what follows depends on its other charges, which hold still only under its lock.
    of_subscription: bool = False
    resumes: bool = False  # the subscription was paused for this charge alone
    recovers_subscription: bool = False  # the event that the subscription is no longer past due

    @property
    def is_plain(self) -> bool:
        """Whether only the attempt and the charge change, also when other rows change at the same time."""
        return replace(self, recovered=False) == PaymentEffects(recovered=False)


class Course(Enum):
    """What becomes of a charge after an attempt that did not pay it."""

    OVER = "it had ended before: the try is counted, and nothing follows"
    ENDS_TYPED = "its card was typed in: no worker can send it again"
    ENDS_CANCELED = "its subscription was canceled"
    CONTINUES = "it is still owed: what `decide` says follows"


def believed(outcome: Outcome, before: AttemptState, placed: Placed | None, *, has_paid: bool) -> Outcome:
    """Return the outcome that is written; an answer that decides nothing becomes Unknown, to be looked up.

    A second payment of one charge is for an operator. The gateway client catches most texts of a call that are no
    definite decline, but only here is the PG known that an answer did not name.
    """
    match outcome:
        case Paid(imp_uid) if has_paid:
            return Unknown(f"{imp_uid} is a second payment for one debt", mismatch=True)
        case Declined(reason) if before is AttemptState.SENDING and placed is not None and not placed.definite:
            return Unknown(f"unclear failure: {reason}")
        case _:
            return outcome


def attempt_columns(outcome: Outcome, sent: Sent, placed: Placed | None, now: datetime) -> AttemptColumns:
    """Return the columns of the attempt that an outcome changes, its state among them."""
    quiet: AttemptColumns = {"quiet_answers": sent.quiet_answers}
    match outcome:
        case Paid(imp_uid, _, pg_provider):
            seen: AttemptColumns = {"imp_uid": imp_uid, "pg_provider": pg_provider, "reason": None}
            return quiet | _ended(AttemptState.PAID, now) | seen
        case Declined(reason, pg_code, imp_uid, pg_provider):
            seen = {"reason": reason, "pg_code": pg_code, "imp_uid": imp_uid, "pg_provider": pg_provider}
            # A text that decides nothing leaves the uid to be sent again; a new one could be a second charge.
            again = placed is not None and not placed.definite
            state = AttemptState.NOT_SENT if again else AttemptState.DECLINED
            return quiet | _ended(state, now) | seen | placed_columns(placed)
        case Voided(reason):
            return quiet | _ended(AttemptState.DECLINED, now) | {"reason": reason}
        case Refused(reason) if sent.before is AttemptState.SENDING and sent.sends > 1:
            # Nothing ended the sendings before this one, so a payment of theirs may still show: the uid is kept.
            return quiet | _ended(AttemptState.NOT_SENT, now) | {"reason": reason} | REFUSED_AGAIN
        case Refused(reason):
            return quiet | _ended(AttemptState.REFUSED, now) | {"reason": reason}
        case NotSent(reason):
            return quiet | _ended(AttemptState.NOT_SENT, now) | {"reason": reason}
        case Unknown():
            return quiet | in_doubt(outcome, sent.unknown_since, now)
        case _:
            assert_never(outcome)


def in_doubt(outcome: Unknown, unknown_since: datetime | None, now: datetime) -> AttemptColumns:
    """Return the columns of an attempt whose outcome is unknown: it is looked up."""
    since = unknown_since or now
    return {
        "state": AttemptState.UNKNOWN.value,
        "unknown_since": since,
        "next_ask_at": next_ask_at(since, now),
        "reason": outcome.reason,
        # One that had ended is no longer settled.
        "settled_at": None,
        "decline_class": None,
        "decline_rule": None,
    }


def placed_columns(placed: Placed | None) -> AttemptColumns:
    """Return the columns of a declined attempt that hold the class of its text."""
    if placed is None:
        return {}
    return {"decline_class": placed.decline_class.value, "decline_rule": placed.stamp}


def after_payment(charge: PaidCharge, *, by_attempt: bool) -> PaymentEffects:
    """Return what a payment does; without `by_attempt` a person said that it was paid by another way."""
    of_subscription = charge.was_declined and charge.has_subscription
    return PaymentEffects(
        recovered=charge.was_declined,
        is_late=not charge.status.is_owed or charge.is_of_canceled,
        wakes_behind=charge.owes_more,
        # A payment that comes after it was called failed begins nothing: a person refunds it.
        stores_card=by_attempt
        and charge.kind is ChargeKind.ADHOC
        and charge.keyed_in is KeyedIn.KEEP
        and charge.status.is_owed,
        frees_card=by_attempt and charge.card_stopped and charge.keyed_in is not KeyedIn.ONCE,
        of_subscription=of_subscription,
        resumes=of_subscription and resumes(charge.given_up, others_rest=charge.others_rest),
        recovers_subscription=of_subscription and not charge.others_declined and not charge.is_of_canceled,
    )


def resumes(given_up: FinalAction | None, *, others_rest: bool) -> bool:
    """Whether the end of this charge resumes the subscription that was paused for it."""
    return given_up is FinalAction.PAUSE and not others_rest


def unpaid_course(status: ChargeStatus, keyed_in: KeyedIn | None, *, is_of_canceled: bool) -> Course:
    """Return what becomes of a charge after an attempt that did not pay it."""
    if not status.is_owed:
        return Course.OVER
    if keyed_in is not None:
        return Course.ENDS_TYPED
    return Course.ENDS_CANCELED if is_of_canceled else Course.CONTINUES


def _ended(state: AttemptState, now: datetime) -> AttemptColumns:
    return {"state": state.value, "settled_at": now, "next_ask_at": None}
