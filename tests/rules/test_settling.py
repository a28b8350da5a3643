"""What an answer changes: what is believed, the attempt's columns, and what a payment does beside its charge."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown, Voided
from schedules.dunning.declines import DeclineClass, Placed
from schedules.dunning.policies import FinalAction
from schedules.dunning.settling import (
    Course,
    PaidCharge,
    PaymentEffects,
    Sent,
    after_payment,
    attempt_columns,
    believed,
    unpaid_course,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CALL = Sent(AttemptState.SENDING, 1, None)
UNCLEAR = Placed(DeclineClass.UNKNOWN_WORD, "rule", 1, definite=False)
PLAIN = PaidCharge(
    kind=ChargeKind.RENEWAL, status=ChargeStatus.OPEN, is_of_canceled=False, has_subscription=True, keyed_in=None,
    card_stopped=False, was_declined=False, given_up=None, owes_more=False, others_declined=False,
    others_rest=False,
)  # fmt: skip
paid_charges = st.builds(
    PaidCharge,
    kind=st.sampled_from(ChargeKind), status=st.sampled_from(ChargeStatus), is_of_canceled=st.booleans(),
    has_subscription=st.booleans(), keyed_in=st.none() | st.sampled_from(KeyedIn), card_stopped=st.booleans(),
    was_declined=st.booleans(), given_up=st.none() | st.sampled_from(FinalAction), owes_more=st.booleans(),
    others_declined=st.booleans(), others_rest=st.booleans(),
)  # fmt: skip


def test_a_payment_of_the_cards_only_open_charge_is_plain() -> None:
    assert after_payment(PLAIN, by_attempt=True) == PaymentEffects(recovered=False)
    assert after_payment(PLAIN, by_attempt=True).is_plain


@pytest.mark.parametrize(
    ("changes", "effects"),
    [
        ({"status": ChargeStatus.WAIVED}, {"is_late"}),
        ({"is_of_canceled": True}, {"is_late"}),
        ({"owes_more": True}, {"wakes_behind"}),
        ({"kind": ChargeKind.ADHOC, "keyed_in": KeyedIn.KEEP}, {"stores_card"}),
        ({"kind": ChargeKind.ADHOC, "keyed_in": KeyedIn.KEEP, "status": ChargeStatus.CANCELED}, {"is_late"}),
        ({"kind": ChargeKind.ADHOC, "keyed_in": KeyedIn.ONCE, "card_stopped": True}, set()),
        ({"card_stopped": True}, {"frees_card"}),
        ({"was_declined": True}, {"recovered", "of_subscription", "recovers_subscription"}),
        ({"was_declined": True, "others_declined": True}, {"recovered", "of_subscription"}),
        ({"was_declined": True, "has_subscription": False}, {"recovered"}),
        ({"was_declined": True, "is_of_canceled": True}, {"recovered", "of_subscription", "is_late"}),
        (
            {"was_declined": True, "given_up": FinalAction.PAUSE, "others_declined": True},
            {"recovered", "of_subscription", "resumes"},
        ),
        (
            {"was_declined": True, "given_up": FinalAction.PAUSE, "others_declined": True, "others_rest": True},
            {"recovered", "of_subscription"},
        ),
    ],
)
def test_what_a_payment_does_follows_from_the_charge(changes: dict[str, Any], effects: set[str]) -> None:
    then = after_payment(replace(PLAIN, **changes), by_attempt=True)
    assert {field.name for field in fields(then) if getattr(then, field.name)} == effects


@given(paid_charges, st.booleans())
def test_a_payment_is_plain_only_where_it_has_no_effect_beside_its_charge(
    charge: PaidCharge, by_attempt: bool
) -> None:
    then = after_payment(charge, by_attempt=by_attempt)
    others = [getattr(then, field.name) for field in fields(then) if field.name != "recovered"]
    assert then.is_plain == (not any(others))


@given(paid_charges)
def test_what_is_paid_by_another_way_says_nothing_about_the_card(charge: PaidCharge) -> None:
    then = after_payment(charge, by_attempt=False)
    assert not then.stores_card
    assert not then.frees_card


def test_a_second_payment_is_not_believed() -> None:
    """Guard: one payment for one charge."""
    found = believed(Paid("imps_2"), AttemptState.SENDING, None, has_paid=True)
    assert isinstance(found, Unknown)
    assert found.mismatch
    assert believed(Paid("imps_2"), AttemptState.SENDING, None, has_paid=False) == Paid("imps_2")


def test_a_decline_that_decides_nothing_is_looked_up_after_a_call_and_sent_again_after_a_look_up() -> None:
    declined = Declined("time-out")
    assert isinstance(believed(declined, AttemptState.SENDING, UNCLEAR, has_paid=False), Unknown)
    assert believed(declined, AttemptState.UNKNOWN, UNCLEAR, has_paid=False) == declined
    assert attempt_columns(declined, CALL, UNCLEAR, NOW)["state"] == AttemptState.NOT_SENT.value


@pytest.mark.parametrize(
    ("outcome", "sends", "state"),
    [
        (Paid("imps_1"), 1, AttemptState.PAID),
        (Declined("no money"), 1, AttemptState.DECLINED),
        (Voided("given back"), 1, AttemptState.DECLINED),
        (Refused("no such channel"), 1, AttemptState.REFUSED),
        (Refused("no such channel"), 2, AttemptState.NOT_SENT),
        (NotSent("ConnectError"), 1, AttemptState.NOT_SENT),
        (Unknown("ReadTimeout"), 1, AttemptState.UNKNOWN),
    ],
)
def test_each_outcome_gives_the_attempt_its_state(outcome: Outcome, sends: int, state: AttemptState) -> None:
    columns = attempt_columns(outcome, replace(CALL, sends=sends), None, NOW)
    assert columns["state"] == state.value
    assert (columns["next_ask_at"] is None) == (state is not AttemptState.UNKNOWN)
    assert (columns["settled_at"] is None) == (state is AttemptState.UNKNOWN)


def test_what_becomes_of_a_charge_that_is_not_paid() -> None:
    course = [
        unpaid_course(ChargeStatus.WAIVED, None, is_of_canceled=False),
        unpaid_course(ChargeStatus.OPEN, KeyedIn.KEEP, is_of_canceled=True),
        unpaid_course(ChargeStatus.PAST_DUE, None, is_of_canceled=True),
        unpaid_course(ChargeStatus.OPEN, None, is_of_canceled=False),
    ]
    assert course == [Course.OVER, Course.ENDS_TYPED, Course.ENDS_CANCELED, Course.CONTINUES]
