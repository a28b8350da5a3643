"""Judging what the gateway shows: what counts, and what only counts twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schedules.charging.outcomes import Declined, GatewayPayment, NotSent, Paid, PaymentState, Refused, Unknown
from schedules.charging.unknown_outcomes import QUIET_TIME, TEST_CHANNEL, AskedAbout, next_ask_at, read_found
from schedules.money.amounts import Money

SENT = datetime(2026, 3, 1, tzinfo=UTC)
SOON = SENT + timedelta(seconds=10)
LATER = SENT + QUIET_TIME
MONEY = Money(9900, "KRW")


def asked(quiet_answers: int = 0) -> AskedAbout:
    """An attempt that was sent at SENT."""
    return AskedAbout("uid", MONEY, frozenset({"ann"}), SENT, SENT, quiet_answers)


def payment(
    status: str = "paid", *, amount: int = 9900, currency: str = "KRW", at: datetime = SENT, unclear: bool = False
) -> GatewayPayment:
    """A record at the gateway."""
    return GatewayPayment(
        imp_uid="imps_1", merchant_uid="uid", state=PaymentState(status), amount=amount, cancelled_amount=0,
        currency=currency, started_at=at, paid_at=None, failed_at=at, cancelled_at=None, fail_reason="no money",
        pg_provider="kcp", pg_tid=None, receipt_url=None, customer_uid="ann", unclear=unclear,
    )  # fmt: skip


def test_a_paid_record_decides_at_once() -> None:
    assert isinstance(read_found([payment("failed"), payment()], asked(), SOON).outcome, Paid)


def test_a_failed_record_of_this_sending_decides_at_once() -> None:
    assert isinstance(read_found([payment("failed")], asked(), SOON).outcome, Declined)


def test_a_failed_record_of_an_earlier_sending_says_nothing_until_the_quiet_time() -> None:
    """The same uid was sent twice; the record of the first says nothing about the second."""
    earlier = payment("failed", at=SENT - timedelta(hours=2))
    assert isinstance(read_found([earlier], asked(), SOON).outcome, Unknown)
    assert isinstance(read_found([earlier], asked(), LATER).outcome, Declined)


def test_a_definite_failure_of_this_sending_decides_though_an_earlier_one_was_unclear() -> None:
    earlier = payment("failed", at=SENT - timedelta(hours=2), unclear=True)
    assert isinstance(read_found([earlier, payment("failed")], asked(), SOON).outcome, Declined)


def test_an_unclear_failure_of_this_sending_does_not_decide_though_an_earlier_one_did() -> None:
    earlier = payment("failed", at=SENT - timedelta(hours=2))
    assert isinstance(read_found([earlier, payment("failed", unclear=True)], asked(), LATER).outcome, Unknown)


def test_a_payment_that_is_not_finished_is_still_unknown() -> None:
    assert isinstance(read_found([payment("ready")], asked(1), LATER).outcome, Unknown)
    assert isinstance(read_found([payment("other")], asked(1), LATER).outcome, Unknown)


def test_nothing_found_counts_twice_in_a_row_after_the_quiet_time() -> None:
    assert read_found([], asked(), SOON).quiet_answers == 0
    once = read_found([], asked(), LATER)
    assert isinstance(once.outcome, Unknown)
    assert once.quiet_answers == 1
    assert isinstance(read_found([], asked(once.quiet_answers), LATER).outcome, NotSent)


def test_something_unfinished_in_between_breaks_the_row() -> None:
    assert read_found([payment("ready")], asked(1), LATER).quiet_answers == 0


def test_another_amount_or_currency_or_two_paid_are_for_a_person() -> None:
    for found in (
        [payment(amount=990)],
        [payment(currency="USD")],
        [payment(), payment()],
        [payment("cancelled")],
        [replace(payment(), customer_uid="bob")],
    ):
        outcome = read_found(found, asked(), LATER).outcome
        assert isinstance(outcome, Unknown)
        assert outcome.mismatch


@given(st.timedeltas(timedelta(0), timedelta(days=3650)))
def test_there_is_always_a_next_ask_and_never_more_than_a_day_away(age: timedelta) -> None:
    """Guard: unknown never becomes failed by growing old."""
    now = SENT + age
    following = next_ask_at(SENT, now)
    assert now < following <= now + timedelta(days=1)


@given(
    st.lists(st.sampled_from(["paid", "failed", "ready", "cancelled"])), st.integers(0, 5), st.integers(0, 10**6)
)
def test_what_the_gateway_has_as_paid_is_never_sent_again(statuses: list[str], quiet: int, seconds: int) -> None:
    verdict = read_found([payment(s) for s in statuses], asked(quiet), SENT + timedelta(seconds=seconds))
    if "paid" in statuses or "cancelled" in statuses:
        assert isinstance(verdict.outcome, Paid | Unknown)


def test_a_payment_on_a_test_channel_moved_no_money() -> None:
    found = [replace(payment("paid"), sandbox=True)]
    assert read_found(found, asked(), SENT + timedelta(minutes=1)).outcome == Refused(TEST_CHANNEL)


def test_the_quiet_time_begins_when_the_call_was_surely_over() -> None:
    """A call may leave late in a lease: counted from the claim, the quiet time could end before the call does."""
    lapsed = replace(asked(1), quiet_since=SENT + timedelta(minutes=20))
    early = SENT + timedelta(minutes=30)
    assert isinstance(read_found([], lapsed, early).outcome, Unknown)
    assert isinstance(read_found([], lapsed, SENT + timedelta(minutes=36)).outcome, NotSent)
