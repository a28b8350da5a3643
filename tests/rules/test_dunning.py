"""What comes after an answer: rungs, paydays, limits, cards, and counters that are never mixed."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.calendar.zones import zone
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown
from schedules.dunning.card_limits import LimitSpan, limit_span
from schedules.dunning.decisions import (
    LEAST_SPACING,
    NEEDS_CARD,
    AskGateway,
    Collected,
    Counter,
    Debt,
    GiveUp,
    History,
    Said,
    SendAgain,
    SetAside,
    TryAgain,
    WaitForCard,
    counter,
    decide,
)
from schedules.dunning.declines import INDEFINITE, DeclineClass
from schedules.dunning.policies import MONTH_END, STANDARD, DunningPolicy, FinalAction, Hours, Way

NOW = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday, 09:00 in Seoul
DAY = timedelta(days=1)
POLICY = DunningPolicy(ladder=(DAY, 3 * DAY, 7 * DAY))
SEOUL = zone("Asia/Seoul")
offsets = st.lists(st.integers(1, 60), unique=True, max_size=20).map(lambda days: tuple(sorted(days)))
instants = st.integers(0, 3 * 365 * 24 * 60).map(lambda minutes: NOW + timedelta(minutes=minutes))
histories = st.builds(
    History,
    first_declined_at=st.none(),
    declines=st.just(0),
    technical_tries=st.integers(0, 500),
    refusals=st.integers(0, 500),
    manual_tries=st.integers(0, 500),
)
classes = st.sampled_from(DeclineClass)
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(
    [Declined("no"), NotSent("ConnectError"), NotSent("429"), Refused("credentials"), Unknown("time-out")]
)
NO = Declined("no")


def lived(
    policy: DunningPolicy, said: Said, begin: datetime = NOW, debt: Debt | None = None
) -> tuple[list[datetime], str]:
    """When a debt is tried that is declined each time with the same words, and what comes at the end."""
    debt, now, tries = debt or Debt(policy), begin, list[datetime]()
    while isinstance(decision := decide(NO, debt, now, said), TryAgain | SendAgain):
        tries.append(decision.at)
        first = debt.history.ladder_began_at or begin
        declines = debt.history.declines + (counter(NO, debt, said) is Counter.RUNG)
        now = decision.at
        debt = replace(debt, history=History(first, declines, ladder_began_at=first))
        assert len(tries) < 100, "it never ends"
    return tries, type(decision).__name__


def in_seoul(tries: list[datetime]) -> list[str]:
    return [f"{at.astimezone(SEOUL):%m-%d %H}" for at in tries]


def test_money_ends_it() -> None:
    assert decide(Paid("imps_1"), Debt(POLICY), NOW) == Collected()


def test_rungs_are_counted_from_the_first_decline() -> None:
    first = NOW - DAY
    history = History(first_declined_at=first, declines=1, ladder_began_at=first)
    assert decide(NO, Debt(POLICY, history), NOW) == TryAgain(first + 3 * DAY)


def test_the_ladder_ends_with_the_policys_final_action() -> None:
    policy = DunningPolicy(ladder=(DAY,), final=FinalAction.CANCEL)
    history = History(first_declined_at=NOW - DAY, declines=1, ladder_began_at=NOW - DAY)
    assert decide(NO, Debt(policy, history), NOW) == GiveUp(FinalAction.CANCEL)


def test_after_downtime_rungs_that_are_past_are_not_used_up_at_once() -> None:
    long_ago = NOW - 30 * DAY
    history = History(first_declined_at=long_ago, declines=1, ladder_began_at=long_ago)
    assert decide(NO, Debt(POLICY, history), NOW) == TryAgain(NOW + LEAST_SPACING)


def test_doubt_asks_and_a_mismatch_calls_a_person() -> None:
    assert decide(Unknown("time-out"), Debt(POLICY), NOW) == AskGateway()
    assert decide(Unknown("990 instead of 9900", mismatch=True), Debt(POLICY), NOW) == SetAside(
        "990 instead of 9900"
    )


@given(
    st.builds(Said, classes, st.sampled_from([None, *LimitSpan]), st.none(), st.booleans()),
    histories,
    st.booleans(),
    st.booleans(),
)
def test_a_text_that_is_no_definite_answer_never_starts_a_new_uid(
    said: Said, history: History, by_person: bool, old_card: bool
) -> None:
    debt = Debt(STANDARD, history, by_person=by_person, old_card=old_card, planned_at=NOW + DAY)
    decision = decide(NO, debt, NOW, said)
    indefinite = not said.definite or said.decline_class in INDEFINITE
    assert not (indefinite and isinstance(decision, TryAgain))
    assert indefinite or not isinstance(decision, SendAgain)


@given(histories)
def test_an_outage_however_long_uses_up_no_rung(history: History) -> None:
    """NotSent and Refused leave the ladder's own counters alone, and always come back."""
    debt = Debt(POLICY, history)
    assert isinstance(decide(NotSent("ConnectError"), debt, NOW), SendAgain)
    assert isinstance(decide(Refused("credentials"), debt, NOW), TryAgain)
    assert decide(NO, debt, NOW) == TryAgain(NOW + DAY)


@given(outcomes, classes, histories, st.booleans())
def test_each_try_moves_one_counter_and_only_the_cards_own_no_moves_the_ladder(
    outcome: Outcome, decline_class: DeclineClass, history: History, by_person: bool
) -> None:
    debt = Debt(POLICY, history, by_person=by_person)
    found = counter(outcome, debt, Said(decline_class))
    ours = decline_class in (DeclineClass.NOT_A_DECLINE, DeclineClass.SETUP_FAULT)
    uses_a_rung = isinstance(outcome, Declined) and not ours and not by_person
    assert (found is Counter.RUNG) == uses_a_rung


@given(st.integers(0, 2), st.lists(st.sampled_from(["outage", "429", "person"]), max_size=30), instants)
def test_the_ladder_goes_on_as_if_nothing_else_had_happened(rung: int, others: list[str], begin: datetime) -> None:
    """Outages, 429 and a person's tries between two rungs leave the second where it was."""
    history = History(begin, rung, ladder_began_at=begin)
    debt = Debt(POLICY, history)
    planned = decide(NO, debt, begin)
    for other in others:
        if other == "person":
            said = Said(DeclineClass.MONEY_SHORT)
            by_person = replace(debt, by_person=True, planned_at=begin + 60 * DAY)
            assert counter(NO, by_person, said) is Counter.MANUAL
            assert decide(NO, by_person, begin, said) == TryAgain(begin + 60 * DAY)
            moved = replace(debt.history, manual_tries=debt.history.manual_tries + 1)
        else:
            assert counter(NotSent(other), debt) is Counter.TECHNICAL
            moved = replace(debt.history, technical_tries=debt.history.technical_tries + 1)
        debt = replace(debt, history=moved)
    assert decide(NO, debt, begin) == planned


def test_a_person_s_try_that_comes_just_before_a_rung_is_not_followed_by_it_at_once() -> None:
    debt = Debt(POLICY, by_person=True, planned_at=NOW + timedelta(minutes=1))
    assert decide(NO, debt, NOW) == TryAgain(NOW + LEAST_SPACING)


def test_a_person_s_try_at_a_debt_that_waits_leaves_it_waiting() -> None:
    debt = Debt(STANDARD, History(NOW, 1, ladder_began_at=NOW), by_person=True)
    assert decide(NO, debt, NOW + DAY) == WaitForCard()


@given(st.integers(0, 1000))
def test_a_technical_retry_comes_within_an_hour_and_a_half(tries: int) -> None:
    decision = decide(NotSent("x"), Debt(POLICY, History(technical_tries=tries), f"uid{tries}"), NOW)
    assert isinstance(decision, SendAgain)
    assert timedelta(seconds=15) <= decision.at - NOW < timedelta(minutes=90)


@given(offsets)
def test_every_ladder_gives_as_many_tries_as_it_has_rungs_in_rising_order(days: tuple[int, ...]) -> None:
    policy = DunningPolicy(ladder=tuple(timedelta(days=d) for d in days))
    assert lived(policy, Said()) == ([NOW + timedelta(days=d) for d in days], "GiveUp")


@pytest.mark.parametrize("decline_class", sorted(NEEDS_CARD))
def test_a_card_that_cannot_pay_is_tried_once(decline_class: DeclineClass) -> None:
    assert lived(STANDARD, Said(decline_class)) == ([], "WaitForCard")


def test_a_debt_that_waits_is_given_up_when_the_patience_ends() -> None:
    history = History(NOW, 1, ladder_began_at=NOW)
    lost = Said(DeclineClass.NEVER_AGAIN)
    assert decide(NO, Debt(STANDARD, history), NOW + STANDARD.patience - DAY, lost) == WaitForCard()
    assert decide(NO, Debt(STANDARD, history), NOW + STANDARD.patience, lost) == GiveUp(FinalAction.CANCEL)


def test_no_money_waits_for_salaries_which_come_early_where_the_day_is_off() -> None:
    policy = replace(POLICY, ways={DeclineClass.MONEY_SHORT: Way(paydays=(10, 15, 25, MONTH_END))}, wait=30 * DAY)
    policy = replace(policy, holidays="KR")
    tries, end = lived(policy, Said(DeclineClass.MONEY_SHORT))
    # The 15th of March 2026 is a Sunday.
    assert (in_seoul(tries), end) == (["03-10 11", "03-13 11", "03-25 11", "03-31 11"], "WaitForCard")


def test_a_payday_in_the_next_months_first_days_that_is_brought_into_this_month_is_not_missed() -> None:
    policy = replace(POLICY, ways={DeclineClass.MONEY_SHORT: Way(paydays=(1,))}, wait=40 * DAY, holidays="KR")
    begin = datetime(2026, 10, 20, tzinfo=UTC)
    tries, _ = lived(policy, Said(DeclineClass.MONEY_SHORT), begin)
    assert in_seoul(tries) == ["10-30 11"]  # 2026-11-01 is a Sunday


@pytest.mark.parametrize(
    ("span", "tries"),
    [
        (LimitSpan.DAY, ["03-03 08", "03-04 08", "04-01 08"]),
        (LimitSpan.MONTH, ["04-01 08"]),
        (None, ["03-03 09", "03-05 09", "04-01 08"]),
    ],
)
def test_a_limit_is_tried_when_it_begins_anew(span: LimitSpan | None, tries: list[str]) -> None:
    policy = replace(STANDARD, ways={DeclineClass.LIMIT: Way(ladder=(DAY, 3 * DAY), resets=True)})
    found, _ = lived(policy, Said(DeclineClass.LIMIT, span))
    assert in_seoul(found) == tries


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("[8186]거래불가카드(일최대승인한도초과)", LimitSpan.DAY),
        ("[CC08]1일 한도초과", LimitSpan.DAY),
        ("[8188]거래불가카드(월최대승인한도초과)", LimitSpan.MONTH),
        ("결제승인에 실패하였습니다. [2116]개인 월 한도금액 초과", LimitSpan.MONTH),
        ("Exceeds monthly limit", LimitSpan.MONTH),
        ("[CC07]1회 한도초과", None),
        ("한도초과", None),
    ],
)
def test_the_words_say_how_long_a_limit_lasts(text: str, span: LimitSpan | None) -> None:
    assert limit_span(text) is span


@given(instants, classes, st.sampled_from([None, *LimitSpan]), st.sampled_from(["Asia/Seoul", "America/New_York"]))
def test_no_try_of_a_ladder_leaves_the_allowed_hours(
    begin: datetime, decline_class: DeclineClass, span: LimitSpan | None, place: str
) -> None:
    if decline_class in (DeclineClass.NOT_A_DECLINE, DeclineClass.SETUP_FAULT):
        return  # no rungs: a line, or ourselves
    policy = replace(STANDARD, hours=Hours(time(9), time(20)))
    tries, end = lived(policy, Said(decline_class, span), begin, Debt(policy, uid="uid", zone=place))
    local = [at.astimezone(zone(place)).time() for at in tries]
    assert all(time(9) <= wall < time(20) for wall in local)
    assert tries == sorted(tries)
    assert len(tries) <= 10
    assert end in ("WaitForCard", "GiveUp")


def test_a_card_that_was_declined_as_often_as_the_networks_allow_waits_until_it_is_free() -> None:
    free_at = NOW + 9 * DAY
    assert decide(NO, Debt(POLICY), NOW, Said(card_free_at=free_at)) == TryAgain(free_at)


def test_our_own_fault_and_a_line_are_no_rungs_and_come_back_soon() -> None:
    fault = decide(NO, Debt(STANDARD), NOW, Said(DeclineClass.SETUP_FAULT))
    line = decide(NO, Debt(STANDARD), NOW, Said(DeclineClass.NOT_A_DECLINE))
    assert fault == TryAgain(NOW + timedelta(hours=1))
    assert isinstance(line, SendAgain)
    assert line.at - NOW < timedelta(minutes=1)


@given(instants, classes, st.sampled_from([None, *LimitSpan]))
def test_every_debt_comes_to_an_end_under_the_default_policy(
    begin: datetime, decline_class: DeclineClass, span: LimitSpan | None
) -> None:
    if decline_class in (DeclineClass.NOT_A_DECLINE, DeclineClass.SETUP_FAULT):
        return  # these are never given up: nobody has said that the customer cannot pay
    tries, _ = lived(STANDARD, Said(decline_class, span), begin)
    assert all(begin < at <= begin + STANDARD.patience + 2 * DAY for at in tries)
