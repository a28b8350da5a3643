"""The rule of claiming: one charge, its facts, and what follows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, KeyedIn, TriedBy
from schedules.charging.claiming import (
    ARCHIVED,
    BEHIND,
    BEHIND_WAITING,
    IS_PAID,
    TYPED_IN,
    AccountFacts,
    Ahead,
    AskAboutLast,
    AskFirst,
    Begin,
    Behind,
    CardCapped,
    CardStopped,
    ChargeFacts,
    Decision,
    EarlierFacts,
    GiveBack,
    LeaveToAttempt,
    NotDue,
    SendAgain,
    SetAside,
    Stopped,
    decide,
    screen,
)

NOW = datetime(2026, 2, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
DUE = ChargeFacts(
    account=AccountFacts(), kind=ChargeKind.RENEWAL, status=ChargeStatus.OPEN, is_held=False,
    next_attempt_at=NOW, was_declined=False, tried_by=None, keyed_in=None, is_archived=False,
)  # fmt: skip
DUNNED = replace(DUE, status=ChargeStatus.PAST_DUE, was_declined=True)
STOPPED, UNFIT = AccountFacts(obstacle="charging is stopped"), AccountFacts(unfit="its clock is wrong")
BEING_TRIED = Ahead("older", None, waits=False)


@pytest.mark.parametrize(
    ("charge", "decision"),
    [
        (DUE, None),
        (DUNNED, None),
        (replace(DUE, status=ChargeStatus.PAID), NotDue()),
        (replace(DUE, is_held=True), NotDue()),
        (replace(DUE, next_attempt_at=None), NotDue()),
        (replace(DUE, next_attempt_at=LATER), NotDue()),
        (replace(DUE, account=STOPPED), Stopped("charging is stopped")),
        (replace(DUE, account=STOPPED, is_held=True), NotDue()),
        (replace(DUE, account=UNFIT, next_attempt_at=LATER), GiveBack("its clock is wrong")),
    ],
)
def test_a_charge_is_tried_when_it_is_owed_due_and_allowed(charge: ChargeFacts, decision: Decision | None) -> None:
    """Guard: what is over, held, not due or stopped is not claimed; an unfit worker gives it back."""
    assert screen(charge, NOW) == decision


@pytest.mark.parametrize(
    ("charge", "earlier", "decision"),
    [
        (DUE, EarlierFacts(), Begin()),
        (DUNNED, EarlierFacts(), Begin()),
        (replace(DUE, keyed_in=KeyedIn.ONCE), EarlierFacts(has_paid=True), SetAside(TYPED_IN)),
        (replace(DUE, is_archived=True), EarlierFacts(is_unasked=True), SetAside(ARCHIVED)),
        (DUE, EarlierFacts(has_paid=True, is_unasked=True), SetAside(IS_PAID)),
        (DUE, EarlierFacts(is_unasked=True, finding=7), AskFirst()),
        (DUE, EarlierFacts(unresolved=AttemptState.READY), SendAgain()),
        (DUE, EarlierFacts(unresolved=AttemptState.NOT_SENT), SendAgain()),
        (DUE, EarlierFacts(unresolved=AttemptState.SENDING), LeaveToAttempt()),
        (DUE, EarlierFacts(unresolved=AttemptState.UNKNOWN), LeaveToAttempt()),
        (DUNNED, EarlierFacts(last_is_indefinite=True), AskAboutLast()),
        # What was begun is brought to its end before an older debt; a further try is not begun.
        (DUE, EarlierFacts(unresolved=AttemptState.NOT_SENT, ahead=BEING_TRIED), SendAgain()),
        (DUNNED, EarlierFacts(unresolved=AttemptState.NOT_SENT, ahead=BEING_TRIED), Behind("older", NOW + BEHIND)),
        (DUNNED, EarlierFacts(unresolved=AttemptState.READY, ahead=BEING_TRIED), SendAgain()),
        (DUE, EarlierFacts(ahead=BEING_TRIED), Behind("older", NOW + BEHIND)),
        (DUE, EarlierFacts(ahead=Ahead("older", None, waits=True)), Behind("older", NOW + BEHIND_WAITING)),
        (DUE, EarlierFacts(ahead=Ahead("older", LATER, waits=False)), Behind("older", LATER + BEHIND)),
        (
            DUE,
            EarlierFacts(ahead=Ahead("older", NOW + timedelta(days=9), waits=False)),
            Behind("older", NOW + BEHIND_WAITING),
        ),
        (replace(DUE, kind=ChargeKind.ADHOC), EarlierFacts(ahead=BEING_TRIED), Begin()),
        (replace(DUE, tried_by=TriedBy.PERSON), EarlierFacts(ahead=BEING_TRIED, card_stopped=True), Begin()),
        (DUE, EarlierFacts(card_stopped=True), CardStopped()),
        (DUNNED, EarlierFacts(card_free_at=LATER), CardCapped(LATER)),
        (DUNNED, EarlierFacts(card_free_at=NOW), Begin()),
        (DUE, EarlierFacts(card_free_at=LATER), Begin()),
    ],
)
def test_what_follows_for_a_charge_that_is_due(
    charge: ChargeFacts, earlier: EarlierFacts, decision: Decision
) -> None:
    """Guard: each reason why a charge must not be sent, and which of two reasons goes first."""
    assert decide(charge, earlier, NOW) == decision


def test_an_open_finding_sets_the_charge_aside() -> None:
    found = decide(DUE, EarlierFacts(finding=7), NOW)
    assert isinstance(found, SetAside)
    assert "finding 7 is open" in found.why
