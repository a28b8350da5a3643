"""Stories of renewals that fail, on one moving clock: when the card is tried, what is told, where it stands."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time, timedelta

import pytest
from sqlalchemy import select

from schedules.calendar.zones import zone
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Unknown
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import MONTH_END, STANDARD, DunningPolicy, FinalAction, Way
from tests.doubles import ScriptedGateway
from tests.factories import START, attempt_rows, charge_rows, move_to, on_sale, subscribed
from tests.scenarios.living import DAY, kst, live_until
from worker.charging import overdue
from worker.customers import cards, enrollment
from worker.gateway.port import BillingKey, ChargeOrder
from worker.operations import operate
from worker.outbox import announcements
from worker.reconciliation import restore
from worker.reporting import history
from worker.services import Services
from worker.store.charging import charges, kill_switch
from worker.store.customers import subscriptions
from worker.store.tables import outbox

SEOUL = zone("Asia/Seoul")
NO_MONEY, LOST, EXPIRED = "[CC10]통장 잔액부족", "분실 카드", "유효기간 만료 카드"
DO_NOT_HONOR = "[CC01]카드사로 문의"


# The default's shape with numbers of its own, so that tuning the default changes no story.
OURS = replace(
    STANDARD,
    ways={
        DeclineClass.MONEY_SHORT: Way(ladder=(DAY,), paydays=(10, 15, 21, 25, MONTH_END)),
        DeclineClass.LIMIT: Way(ladder=(DAY, 3 * DAY), resets=True),
        DeclineClass.LATER: Way(ladder=(timedelta(hours=3), timedelta(hours=12), DAY, 2 * DAY, 4 * DAY)),
        DeclineClass.UNKNOWN_WORD: Way(ladder=(DAY, 4 * DAY, 10 * DAY, 20 * DAY)),
    },
    payday_time=time(11),
    wait=32 * DAY,
)


def says_until(services: Services, gateway: ScriptedGateway, reason: str, until: datetime) -> None:
    """Ann's card is declined with these words until then, and pays after it."""

    def behave(order: ChargeOrder) -> Outcome:
        return Declined(reason, None, "imps_no", "kcp") if services.clock.now() < until else gateway.approve(order)

    gateway.cards["ann"] = behave


def always(reason: str) -> Callable[[ChargeOrder], Outcome]:
    return lambda order: Declined(reason, None, "imps_no", "kcp")


def another_card(gateway: ScriptedGateway, number: str = "53331234****9999") -> None:
    """The gateway has another card behind Ann's key."""
    gateway.keys["ann"] = BillingKey("ann", "kcp", "A52LD", "BC카드", number, None, None)


def tries(services: Services) -> list[str]:
    """When the card was tried, by the clock in Seoul."""
    return [f"{row['created_at'].astimezone(SEOUL):%m-%d %H:%M}" for row in attempt_rows(services)]


def told(services: Services, *kinds: str) -> list[tuple[str, str]]:
    """The notices of these kinds, or all but announcements, with their local day."""
    with services.engine.begin() as db:
        rows = db.execute(select(outbox.c.kind, outbox.c.created_at).order_by(outbox.c.id))
        return [
            (row.kind, f"{row.created_at.astimezone(SEOUL):%m-%d}")
            for row in rows
            if (row.kind in kinds if kinds else row.kind != "charge.upcoming")
        ]


def standing(services: Services, key: str) -> str:
    return str(history.show(services, key).facts["standing"])


def renewing(services: Services, policy: DunningPolicy = OURS) -> str:
    """Ann on a monthly plan that renews at nine on the 31st of January."""
    on_sale(services, policy=policy)
    return subscribed(services, anchor=date(2026, 1, 31))


def test_an_empty_account_is_filled_on_payday(services: Services, gateway: ScriptedGateway) -> None:
    key = renewing(services)
    says_until(services, gateway, NO_MONEY, kst(2026, 2, 25, 8))
    live_until(services, kst(2026, 2, 2))
    assert standing(services, key) == "in_grace"
    live_until(services, kst(2026, 2, 10))
    assert standing(services, key) == "suspended"
    live_until(services, kst(2026, 2, 26))
    assert tries(services) == [
        "01-31 09:00", "02-01 09:00", "02-10 11:00", "02-13 11:00", "02-20 11:00", "02-25 11:00",
    ]  # fmt: skip
    assert standing(services, key) == "active"
    assert told(services)[-2:] == [("charge.paid", "02-25"), ("subscription.recovered", "02-25")]
    assert told(services, "subscription.past_due", "subscription.suspended") == [
        ("subscription.past_due", "01-31"),
        ("subscription.suspended", "02-07"),
    ]


def test_a_monthly_limit_is_tried_again_on_the_first(services: Services, gateway: ScriptedGateway) -> None:
    renewing(services)
    says_until(services, gateway, "[8188]거래불가카드(월최대승인한도초과)", kst(2026, 2, 1, 0))
    live_until(services, kst(2026, 2, 20))
    assert tries(services) == ["01-31 09:00", "02-01 08:00"]


def test_a_lost_card_is_tried_once_asked_for_and_ends_the_subscription(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services)
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 3, 10))
    assert tries(services) == ["01-31 09:00"]
    assert told(services) == [
        ("charge.failed", "01-31"),
        ("subscription.past_due", "01-31"),
        ("card.needs_update", "01-31"),
        ("subscription.suspended", "02-07"),
        ("dunning.last_warning", "03-01"),
        # The second renewal is due on the 28th of February: nobody is charged or told a second time.
        ("charge.uncollectible", "03-04"),
        ("subscription.canceled", "03-04"),
    ]
    assert standing(services, key) == "ended"
    assert [row["status"] for row in charge_rows(services)] == ["uncollectible", "canceled"]


def test_an_expired_card_that_is_mended_on_the_third_day_pays_at_once(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services)
    says_until(services, gateway, EXPIRED, kst(2026, 2, 3, 14))
    live_until(services, kst(2026, 2, 3, 14))
    assert tries(services) == ["01-31 09:00"]
    tried = cards.changed(services, "ann", "shop", "she gave a new card")
    live_until(services, kst(2026, 2, 3, 14) + timedelta(seconds=60))
    assert tried == 1
    assert tries(services) == ["01-31 09:00", "02-03 14:00"]
    assert [row["status"] for row in charge_rows(services)] == ["paid"]


def test_a_card_that_nobody_told_us_of_is_found_within_a_day(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: the daily look at the cards that debts wait for; a webhook that is lost strands nobody."""
    renewing(services)
    says_until(services, gateway, EXPIRED, kst(2026, 2, 3, 14))
    live_until(services, kst(2026, 2, 3, 14))
    another_card(gateway)
    live_until(services, kst(2026, 2, 5))
    assert tries(services) == ["01-31 09:00", "02-04 09:00"]


def test_a_daily_look_that_finds_the_same_card_tries_nothing(services: Services, gateway: ScriptedGateway) -> None:
    renewing(services)
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 2, 20))
    assert len(gateway.sent) == 1


def test_a_new_card_begins_the_ladder_anew(services: Services, gateway: ScriptedGateway) -> None:
    renewing(services)
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 2, 2, 9))
    gateway.cards["ann"] = always(NO_MONEY)
    another_card(gateway)
    cards.changed(services, "ann", "shop", "she gave a new card")
    live_until(services, kst(2026, 2, 11))
    assert tries(services) == ["01-31 09:00", "02-02 09:00", "02-03 09:00", "02-10 11:00"]


def test_an_outage_of_the_gateway_for_two_days_uses_up_no_rung_and_tells_nobody(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services)

    def down(order: ChargeOrder) -> Outcome:
        return NotSent("ConnectError") if services.clock.now() < kst(2026, 2, 2) else gateway.approve(order)

    gateway.cards["ann"] = down
    live_until(services, kst(2026, 2, 1, 12))
    assert standing(services, key) == "past_due"
    live_until(services, kst(2026, 2, 3))
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"], charge["first_declined_at"]) == ("paid", 0, None)
    assert [kind for kind, _ in told(services)] == ["charge.paid"]


def test_an_outage_in_the_middle_of_a_ladder_delays_its_rung_and_costs_none(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services, DunningPolicy(ladder=(DAY, 3 * DAY, 7 * DAY)))
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 2, 3, 8))
    no, back = gateway.cards["ann"], kst(2026, 2, 5, 9)
    gateway.cards["ann"] = lambda order: NotSent("429") if services.clock.now() < back else no(order)
    live_until(services, kst(2026, 2, 20))
    (charge,) = charge_rows(services)
    assert (charge["declines"], charge["status"]) == (4, "uncollectible")
    # The rung's own attempt is sent again until it arrives: it is begun once, on the day that was planned.
    assert tries(services) == ["01-31 09:00", "02-01 09:00", "02-03 09:00", "02-07 09:00"]


def test_downtime_in_the_middle_of_a_ladder_loses_no_rung_and_uses_none_up_at_once(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services, DunningPolicy(ladder=(DAY, 3 * DAY, 7 * DAY)))
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 2, 1, 12))
    move_to(services, kst(2026, 2, 15))
    live_until(services, kst(2026, 2, 20))
    assert tries(services) == ["01-31 09:00", "02-01 09:00", "02-15 09:00", "02-15 15:00"]


def test_downtime_over_the_end_of_the_patience_strands_nobody(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: the final action is taken by whoever looks, however late."""
    key = renewing(services)
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 2, 1))
    move_to(services, kst(2026, 4, 20))
    live_until(services, kst(2026, 4, 21))
    assert standing(services, key) == "ended"
    assert {row["status"] for row in charge_rows(services)} <= {"uncollectible", "canceled"}
    assert len(told(services, "subscription.canceled")) == 1


def test_of_several_debts_the_oldest_goes_first_one_at_a_time_with_one_notice(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guards: gives_way in the claim; without it the card is tried five times in one minute, and told of."""
    on_sale(services, policy=OURS)
    enrollment.add_customer(services, "ann", None, None, None, "test")
    for _ in range(5):
        enrollment.subscribe(services, "ann", "monthly", "test", date(2026, 1, 31), another=True)
    says_until(services, gateway, NO_MONEY, kst(2026, 2, 10, 8))
    live_until(services, kst(2026, 2, 9))
    assert tries(services) == ["01-31 09:00", "02-01 09:00"]
    assert [kind for kind, _ in told(services)].count("charge.failed") == 2
    assert [kind for kind, _ in told(services)].count("subscription.past_due") == 1
    live_until(services, kst(2026, 2, 10, 12))
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 5
    paid = [order.merchant_uid for order in gateway.sent[-5:]]
    assert len({uid[:30] for uid in paid}) == 5
    assert len(tries(services)) == 7


def test_what_waited_behind_an_older_debt_is_tried_within_a_minute_of_its_end(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: whatever ends a debt wakes those behind it; without it they look again some minutes later."""
    on_sale(services, policy=OURS)
    enrollment.add_customer(services, "ann", None, None, None, "test")
    for _ in range(2):
        enrollment.subscribe(services, "ann", "monthly", "test", date(2026, 1, 31), another=True)
    says_until(services, gateway, NO_MONEY, kst(2026, 2, 10, 10))
    live_until(services, kst(2026, 2, 10, 11) + timedelta(seconds=60))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_what_waited_behind_an_older_debt_is_due_when_that_is_waived(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: each way to end a debt reschedules those that wait behind it, not only a payment."""
    on_sale(services, policy=OURS)
    enrollment.add_customer(services, "ann", None, None, None, "test")
    for _ in range(2):
        enrollment.subscribe(services, "ann", "monthly", "test", date(2026, 1, 31), another=True)
    gateway.cards["ann"] = always(NO_MONEY)
    live_until(services, kst(2026, 2, 1, 12))
    older, behind = charge_rows(services)
    assert (older["status"], behind["attempts"]) == ("past_due", 0)
    assert behind["next_attempt_at"] > services.clock.now()
    operate.waive(services, older["key"], "kim", "a gift")
    assert charge_rows(services)[1]["next_attempt_at"] == services.clock.now()


def test_a_lost_card_is_not_tried_with_the_next_period_either(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: the card itself is stopped, until it changes; the debt of the first period is over by then."""
    renewing(services, DunningPolicy(ladder=(DAY,), final=FinalAction.WRITE_OFF))
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 5, 15))
    assert len(charge_rows(services)) == 4
    assert len(gateway.sent) == 1
    assert len(told(services, "card.needs_update")) == 4


def test_the_ladder_stops_when_a_person_ends_the_subscription(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services)
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 2, 1, 12))
    enrollment.unsubscribe(services, key, "shop", "she asked for it", at_period_end=True)
    live_until(services, kst(2026, 3, 20))
    assert len(tries(services)) == 2
    assert told(services, "subscription.canceled") == [("subscription.canceled", "02-28")]


def test_a_debt_that_is_paid_by_another_way_stops_everything_at_once(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services)
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 2, 1, 12))
    (charge,) = charge_rows(services)
    operate.paid_elsewhere(services, charge["key"], "shop", "by bank transfer")
    live_until(services, kst(2026, 2, 27))
    assert len(tries(services)) == 2
    assert standing(services, key) == "active"
    assert told(services)[-2:] == [("charge.paid", "02-01"), ("subscription.recovered", "02-01")]


def test_a_person_s_try_uses_up_no_rung_and_moves_none(services: Services, gateway: ScriptedGateway) -> None:
    renewing(services)
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 2, 2, 12))
    (charge,) = charge_rows(services)
    for hour in (12, 13, 14):
        move_to(services, kst(2026, 2, 2, hour))
        operate.try_now(services, charge["key"], "shop", "he is on the telephone")
        live_until(services, kst(2026, 2, 2, hour) + timedelta(minutes=1))
    live_until(services, kst(2026, 2, 21))
    assert tries(services) == [
        "01-31 09:00", "02-01 09:00", "02-02 12:00", "02-02 13:00", "02-02 14:00", "02-04 09:00", "02-10 09:00",
        "02-20 09:00",
    ]  # fmt: skip
    (charge,) = charge_rows(services)
    assert (charge["manual_tries"], charge["declines"]) == (3, 5)
    assert [row["tried_by"] for row in attempt_rows(services)].count("person") == 3


def test_a_person_may_try_a_card_that_is_stopped_and_a_paid_try_starts_it_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services)
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 2, 2))
    del gateway.cards["ann"]
    (charge,) = charge_rows(services)
    operate.try_now(services, charge["key"], "shop", "she has found it")
    live_until(services, kst(2026, 3, 1))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_no_card_is_declined_more_often_than_its_cap_within_a_month(
    services: Services, gateway: ScriptedGateway
) -> None:
    policy = replace(OURS, cap=replace(OURS.cap, declines=3))
    renewing(services, policy)
    gateway.cards["ann"] = always("[CC16]잠시 후 다시 시도")
    live_until(services, kst(2026, 3, 1))
    assert len(tries(services)) == 3
    (charge, *_) = charge_rows(services)
    with pytest.raises(operate.CannotOperate, match="declined 3 times within 30 days"):
        operate.try_now(services, charge["key"], "shop", "once more")


def test_under_pause_the_subscription_rests_until_the_debt_is_paid_and_goes_on_with_the_next_period(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services, replace(OURS, final=FinalAction.PAUSE))
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 4, 10))
    assert standing(services, key) == "suspended"
    owed = [row for row in charge_rows(services) if row["closed_at"] is None]
    assert [row["due_at"] for row in owed] == [kst(2026, 1, 31), kst(2026, 2, 28)]
    del gateway.cards["ann"]
    cards.changed(services, "ann", "shop", "a new card")
    live_until(services, kst(2026, 5, 1))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid", "waived", "paid"]
    assert charge_rows(services)[2]["due_at"] == kst(2026, 3, 31)  # it came in the pause
    assert charge_rows(services)[3]["due_at"] == kst(2026, 4, 30)
    assert standing(services, key) == "active"
    assert [kind for kind, _ in told(services, "subscription.paused", "subscription.resumed")] == [
        "subscription.paused",
        "subscription.resumed",
    ]


def test_under_unpaid_later_periods_wait_behind_the_first_and_are_paid_in_order(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services, replace(OURS, final=FinalAction.UNPAID))
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 4, 10))
    assert len(gateway.sent) == 1
    assert standing(services, key) == "suspended"
    del gateway.cards["ann"]
    cards.changed(services, "ann", "shop", "a new card")
    live_until(services, kst(2026, 4, 11))
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 3
    paid = [row["charge_id"] for row in attempt_rows(services) if row["state"] == "paid"]
    assert paid == [row["id"] for row in charge_rows(services)]


def test_under_keep_the_debt_stays_past_due_and_later_periods_are_collected(
    services: Services, gateway: ScriptedGateway
) -> None:
    policy = DunningPolicy(ladder=(DAY,), final=FinalAction.KEEP)
    key = renewing(services, policy)
    says_until(services, gateway, DO_NOT_HONOR, kst(2026, 2, 20))
    live_until(services, kst(2026, 3, 5))
    assert [row["status"] for row in charge_rows(services)] == ["past_due", "paid"]
    assert standing(services, key) == "in_grace"
    cards.changed(services, "ann", "shop", "a new card")
    live_until(services, kst(2026, 3, 6))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_a_change_of_the_policy_leaves_debts_that_are_being_dunned_alone(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services, DunningPolicy(code="ours", ladder=(DAY, 2 * DAY)))
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 1, 31, 12))
    enrollment.add_policy(services, DunningPolicy(code="ours", ladder=(5 * DAY,)), "shop")
    live_until(services, kst(2026, 3, 15))
    assert tries(services) == ["01-31 09:00", "02-01 09:00", "02-02 09:00", "02-28 09:00", "03-05 09:00"]


def test_a_charge_is_announced_once_before_it_is_due(services: Services, gateway: ScriptedGateway) -> None:
    renewing(services)
    live_until(services, kst(2026, 4, 1))
    assert told(services, "charge.upcoming") == [("charge.upcoming", "02-25"), ("charge.upcoming", "03-28")]


def test_a_card_that_expires_is_told_of_a_month_before(services: Services, gateway: ScriptedGateway) -> None:
    renewing(services)
    cards.expires(services, "ann", 2026, 4, "shop")
    live_until(services, kst(2026, 4, 15))
    assert told(services, "card.expiring") == [("card.expiring", "03-31")]


def test_a_fault_of_our_set_up_is_told_to_no_customer_and_stops_the_account(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: the breaker counts what a PG says of our set-up as it counts what the gateway refuses."""
    on_sale(services, policy=OURS)
    for number in range(6):
        subscribed(services, f"customer-{number}", anchor=date(2026, 1, 31))
        gateway.cards[f"customer-{number}"] = always("가맹점 해지")
    live_until(services, START + timedelta(minutes=5))
    assert told(services) == [("account.stopped", "01-31")]
    assert len(gateway.sent) == 5
    assert {row["declines"] for row in charge_rows(services)} == {0}


def test_a_line_that_was_never_made_is_tried_again_soon_and_uses_no_rung(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services)
    says_until(services, gateway, "회선 연결 실패", kst(2026, 1, 31, 10))
    live_until(services, kst(2026, 1, 31, 12))
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"]) == ("paid", 0)
    assert told(services) == [("charge.paid", "01-31")]


def test_money_that_was_lost_sight_of_in_a_ladder_is_found_and_ends_it(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services)
    gateway.answers.append(Declined(NO_MONEY))

    def taken_and_silent(order: ChargeOrder) -> Outcome:
        gateway.approve(order)
        return Unknown("ReadTimeout")

    gateway.answers.append(taken_and_silent)
    live_until(services, kst(2026, 2, 20))
    assert [row["status"] for row in charge_rows(services)] == ["paid"]
    assert len(gateway.sent) == 2


def test_every_kind_of_end_leaves_a_paid_charge_alone(services: Services, gateway: ScriptedGateway) -> None:
    renewing(services)
    live_until(services, kst(2026, 2, 1))
    (charge,) = charge_rows(services)
    assert isinstance(gateway.approve(gateway.sent[0]), Paid)
    with pytest.raises(operate.CannotOperate, match="nothing is owed"):
        operate.try_now(services, charge["key"], "shop", "once more")


def under_way(services: Services, gateway: ScriptedGateway) -> None:
    """Ann's next try is taken, and its answer is lost; asked, the gateway says that the card was lost."""

    def silent(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "failed")
        gateway.records[order.merchant_uid] = [
            replace(payment, fail_reason=LOST) for payment in gateway.records[order.merchant_uid]
        ]
        return Unknown("ReadTimeout")

    gateway.answers.append(silent)


def test_a_late_no_of_the_old_card_does_not_stop_the_new_one(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: an answer to an attempt that was sent before the card changed is about another card."""
    renewing(services)
    under_way(services, gateway)
    live_until(services, START + timedelta(seconds=5))
    another_card(gateway)
    cards.changed(services, "ann", "shop", "a new card")
    live_until(services, kst(2026, 1, 31, 12))
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"]) == ("paid", 0)
    assert [kind for kind, _ in told(services)] == ["card.changed", "charge.paid"]


def test_books_on_hold_end_nobody_s_subscription(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: what was restored may not know of a payment; nothing is given up before that is known."""
    key = renewing(services)
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 2, 2))
    restore.begin_hold(services, "tester", "a backup was restored")
    move_to(services, kst(2026, 3, 20))
    assert overdue.look_due(services) == 0
    assert announcements.announce_due(services) == 0
    assert standing(services, key) == "suspended"
    with services.engine.begin() as db:
        kill_switch.end_hold(db, services.clock.now())
    assert overdue.look_due(services) == 1
    assert standing(services, key) == "ended"


def two_plans(services: Services, policy: DunningPolicy) -> tuple[str, str]:
    """Ann on two plans, the dear one since an hour earlier."""
    on_sale(services, policy=policy, code="dear", billing_time=time(8))
    on_sale(services, policy=policy)
    enrollment.add_customer(services, "ann", None, None, None, "test")
    begun = [enrollment.subscribe(services, "ann", code, "test", date(2026, 2, 1)) for code in ("dear", "monthly")]
    return begun[0].key, begun[1].key


@pytest.mark.parametrize("final", [FinalAction.PAUSE, FinalAction.UNPAID])
def test_a_debt_that_was_given_up_keeps_no_other_subscription_from_being_paid(
    services: Services, gateway: ScriptedGateway, final: FinalAction
) -> None:
    dear, cheap = two_plans(services, DunningPolicy(ladder=(DAY,), final=final))
    dears: set[str] = set()

    def behave(order: ChargeOrder) -> Outcome:
        dears.update(row["key"] for row in charge_rows(services)[:1])
        is_dear = any(key in order.merchant_uid for key in dears)
        return Declined(DO_NOT_HONOR, None, None, "kcp") if is_dear else gateway.approve(order)

    gateway.cards["ann"] = behave
    live_until(services, kst(2026, 4, 10))
    assert standing(services, dear) == "suspended"
    assert standing(services, cheap) == "active"


def test_a_person_s_try_goes_before_an_older_debt(services: Services, gateway: ScriptedGateway) -> None:
    two_plans(services, OURS)
    gateway.cards["ann"] = always(NO_MONEY)
    live_until(services, kst(2026, 2, 1, 12))
    younger = charge_rows(services)[1]
    assert younger["attempts"] == 0
    operate.try_now(services, younger["key"], "shop", "this one first")
    live_until(services, kst(2026, 2, 1, 13))
    assert charge_rows(services)[1]["attempts"] == 1


def test_a_debt_released_after_its_end_is_over_comes_to_its_end(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: what waits has a time to look even when its end is past; else its row could not be written."""
    key = renewing(services)
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 2, 2))
    (charge,) = charge_rows(services)
    with services.engine.begin() as db:
        charges.hold(db, charge["key"], "a person looks")
    live_until(services, kst(2026, 3, 20))
    operate.release(services, charge["key"], "shop", "all is well")
    live_until(services, kst(2026, 3, 21))
    assert standing(services, key) == "ended"


def test_who_leaves_after_the_end_of_a_ladder_s_patience_may_leave(
    services: Services, gateway: ScriptedGateway
) -> None:
    ways = {DeclineClass.UNKNOWN_WORD: Way(ladder=(DAY, 20 * DAY))}
    key = renewing(services, DunningPolicy(ladder=(DAY,), ways=ways, wait=None))
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 2, 6))
    move_to(services, kst(2026, 2, 25))
    enrollment.unsubscribe(services, key, "shop", "she asked for it", at_period_end=True)
    live_until(services, kst(2026, 2, 26))
    assert [row["status"] for row in charge_rows(services)] == ["uncollectible"]


def test_a_paused_subscription_goes_on_when_its_debt_is_waived(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services, DunningPolicy(ladder=(DAY,), final=FinalAction.PAUSE))
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    live_until(services, kst(2026, 2, 10))
    assert standing(services, key) == "suspended"
    operate.waive(services, charge_rows(services)[0]["key"], "shop", "our fault")
    del gateway.cards["ann"]
    live_until(services, kst(2026, 3, 5))
    assert [row["status"] for row in charge_rows(services)] == ["waived", "paid"]


def test_a_card_said_to_be_mended_again_and_again_is_not_tried_each_time(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: the same card is not tried sooner than a ladder would; a task that comes twice tries once."""
    renewing(services)
    gateway.cards["ann"] = always(NO_MONEY)
    live_until(services, kst(2026, 2, 2, 12))
    for minute in range(10):
        cards.changed(services, "ann", "shop", "she says that it is mended")
        live_until(services, kst(2026, 2, 2, 12) + timedelta(minutes=minute + 1))
    assert tries(services) == ["01-31 09:00", "02-01 09:00", "02-02 12:00"]
    assert told(services, "card.changed") == []


def test_nothing_is_tried_again_after_a_no_that_comes_when_a_person_has_left(
    services: Services, gateway: ScriptedGateway
) -> None:
    key = renewing(services)
    gateway.cards["ann"] = always(DO_NOT_HONOR)
    enrollment.unsubscribe(services, key, "shop", "she asked for it", at_period_end=True)
    with services.engine.begin() as db:  # one period is left to be paid
        row = subscriptions.by_key(db, key)
        assert row is not None
        subscriptions.change(db, row.id, ends_at=kst(2026, 2, 28), open_at=row.next_due_at)
    live_until(services, kst(2026, 2, 27))
    assert tries(services) == ["01-31 09:00"]


def test_two_cards_that_expire_one_after_the_other_are_told_of_twice(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services)
    gateway.cards["ann"] = always(EXPIRED)
    live_until(services, kst(2026, 2, 2))
    another_card(gateway)
    cards.changed(services, "ann", "shop", "a new card")
    live_until(services, kst(2026, 2, 3))
    assert len(told(services, "card.needs_update")) == 2


def test_a_payment_that_proves_the_card_wakes_the_other_debts_that_wait_for_it(
    services: Services, gateway: ScriptedGateway
) -> None:
    renewing(services, replace(OURS, final=FinalAction.KEEP, wait=5 * DAY, ways={}, ladder=(DAY,)))
    gateway.cards["ann"] = always(LOST)
    live_until(services, kst(2026, 3, 2))
    assert [row["waits"] for row in charge_rows(services)] == ["card", "card"]
    del gateway.cards["ann"]
    operate.try_now(services, charge_rows(services)[0]["key"], "shop", "she has found it")
    live_until(services, kst(2026, 3, 2, 12))
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_a_policy_without_a_plain_ladder_waits_as_long_as_its_longest_class() -> None:
    assert DunningPolicy(ladder=(), ways={DeclineClass.LATER: Way(ladder=(DAY, 9 * DAY))}).patience == 9 * DAY
    assert DunningPolicy(ladder=(), ways={DeclineClass.LIMIT: Way(resets=True)}).patience == 35 * DAY
