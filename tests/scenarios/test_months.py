"""Stories on one moving clock, through months: what a customer lives through, and what the books say."""

from schedules.calendar.cadence import Cron
from schedules.charging.outcomes import Declined, NotSent, Paid, Unknown
from schedules.dunning.policies import DunningPolicy, FinalAction
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, move_to, on_sale, subscribed
from tests.scenarios.living import DAY, kst, live_until, notices
from worker.customers import enrollment
from worker.operations import operate
from worker.reporting import history
from worker.services import Services


def test_half_a_year_of_a_good_card(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    live_until(services, kst(2026, 7, 1))
    due = [charge["due_at"] for charge in charge_rows(services)]
    assert due == [
        kst(2026, 1, 31),
        kst(2026, 2, 28),
        kst(2026, 3, 31),
        kst(2026, 4, 30),
        kst(2026, 5, 31),
        kst(2026, 6, 30),
    ]
    assert {charge["status"] for charge in charge_rows(services)} == {"paid"}
    assert len(gateway.sent) == len({order.merchant_uid for order in gateway.sent}) == 6
    assert notices(services) == ["charge.paid"] * 6


def test_a_short_purse_is_helped_by_the_ladder(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    key = subscribed(services)
    gateway.answers.extend([Declined("[CC10]통장 잔액부족"), Declined("[CC10]통장 잔액부족")])
    live_until(services, kst(2026, 2, 1, 0))
    assert history.show(services, key).facts["standing"] == "in_grace"
    live_until(services, kst(2026, 2, 10))
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"]) == ("paid", 2)
    assert [row["created_at"] - kst(2026, 1, 31) for row in attempt_rows(services)] == [0 * DAY, DAY, 3 * DAY]
    assert history.show(services, key).facts["standing"] == "active"
    assert notices(services) == [
        "charge.failed",
        "subscription.past_due",
        "charge.failed",
        "charge.paid",
        "subscription.recovered",
    ]


def test_a_lost_card_ends_the_subscription_when_the_plan_says_so(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services, policy=DunningPolicy(ladder=(DAY,), final=FinalAction.CANCEL))
    key = subscribed(services)
    gateway.answers.append(Declined("분실 카드"))
    live_until(services, kst(2026, 6, 1))
    assert [charge["status"] for charge in charge_rows(services)] == ["uncollectible"]
    assert history.show(services, key).facts["status"] == "canceled"
    assert len(gateway.sent) == 1


def test_an_outage_of_two_days_delays_and_loses_nothing(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    back = kst(2026, 2, 2)

    def down(order: object) -> NotSent | Paid:
        if services.clock.now() < back:
            gateway.answers.append(down)
            return NotSent("ConnectError")
        return Paid("imps_1")

    gateway.answers.append(down)
    live_until(services, kst(2026, 2, 3))
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"]) == ("paid", 0)
    assert len({order.merchant_uid for order in gateway.sent}) == 1


def test_money_that_moved_though_the_answer_was_lost_is_found_and_not_taken_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    subscribed(services)

    def taken_and_silent(order: object) -> Unknown:
        gateway.approve(order)  # type: ignore[arg-type]  # the order as it came
        return Unknown("ReadTimeout")

    gateway.answers.append(taken_and_silent)
    live_until(services, kst(2026, 3, 1))
    assert [charge["status"] for charge in charge_rows(services)] == ["paid", "paid"]
    assert len(gateway.sent) == 2


def test_three_weeks_without_any_beat_are_caught_up_without_a_second_charge(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services, code="weekly", cadence=Cron("0 9 * * 1"))
    subscribed(services, code="weekly")
    live_until(services, kst(2026, 2, 3))
    assert len(charge_rows(services)) == 1
    move_to(services, kst(2026, 2, 24))
    live_until(services, kst(2026, 2, 25))
    assert [charge["due_at"] for charge in charge_rows(services)] == [kst(2026, 2, d) for d in (2, 9, 16, 23)]
    assert len(gateway.sent) == 4


def test_an_operator_decides_about_missed_periods(services: Services, gateway: ScriptedGateway) -> None:
    from schedules.subscriptions.plans import CatchUp

    on_sale(services, catch_up=CatchUp.ASK)
    subscribed(services)
    move_to(services, kst(2026, 4, 15))
    live_until(services, kst(2026, 4, 16))
    assert gateway.sent == []
    january, february, march = (charge["key"] for charge in charge_rows(services))
    operate.release(services, january, "tester", "he used it")
    operate.waive(services, february, "tester", "our fault")
    live_until(services, kst(2026, 4, 17))
    assert [charge["status"] for charge in charge_rows(services)] == ["paid", "waived", "open"]
    assert march == charge_rows(services)[2]["key"]


def test_a_trial_of_two_weeks_moves_the_anchor(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services, trial_days=14)
    subscribed(services)
    live_until(services, kst(2026, 4, 1))
    assert [charge["due_at"] for charge in charge_rows(services)] == [kst(2026, 2, 14), kst(2026, 3, 14)]


def test_a_subscription_that_is_ended_is_paid_to_the_end_of_its_period_and_no_further(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    key = subscribed(services)
    live_until(services, kst(2026, 2, 10))
    enrollment.unsubscribe(services, key, "tester", "moves away", at_period_end=True)
    live_until(services, kst(2026, 6, 1))
    assert [charge["due_at"] for charge in charge_rows(services)] == [kst(2026, 1, 31)]


def test_the_whole_story_of_a_charge_is_told_in_order(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.extend([NotSent("ConnectError"), Declined("no"), Unknown("ReadTimeout")])
    live_until(services, kst(2026, 2, 5))
    (charge,) = charge_rows(services)
    told = [happening.what for happening in history.show(services, charge["key"]).happenings]
    assert told[0] == "opened"
    states = [what for what in told if what in ("sending", "not_sent", "declined", "unknown", "paid")]
    first = ["sending", "not_sent", "sending", "declined", "sending", "unknown"]
    assert states[: len(first)] == first
    assert states[-1] == "paid"
