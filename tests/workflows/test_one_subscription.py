"""One live subscription for each customer and plan, whichever way it begins, unless another one is asked for."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from schedules.calendar.cadence import Every, Unit
from schedules.charging.outcomes import Unknown
from schedules.money.amounts import Money
from schedules.requests.batches import Line
from schedules.requests.imports import COLUMNS
from tests.doubles import ScriptedGateway
from tests.factories import MONTHLY, START, blocked_or_over, charge_rows, collect_due, on_sale, subscribed
from tests.scenarios.living import live_until
from worker.batches.drafts import BadLines
from worker.customers import adjust, enrollment, signup
from worker.customers.admit import CannotAdjust
from worker.customers.enrollment import CannotEnroll
from worker.customers.signup import NotSignedUp
from worker.gateway.port import Card
from worker.onboarding import import_file
from worker.onboarding.import_file import CannotGoOn
from worker.operations import operate
from worker.services import Services
from worker.store.customers import rival_subscriptions

WHO = ("kim", "asked for it")
CARD = Card("4000000000001091", "2030-12", "900101", "12")
FEBRUARY = datetime(2026, 2, 28, tzinfo=UTC)


@pytest.fixture
def two_cards(services: Services) -> Services:
    """A plan on sale, and a customer with two cards."""
    on_sale(services)
    enrollment.add_customer(services, "ann", None, None, None, "test")
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    return services


def line(number: int, **columns: str) -> Line:
    """A line of a file of subscriptions."""
    usual = {"customer_uid": "ann", "plan": "monthly", "next_date": "2026-02-28", "anchor": "2025-12-31"}
    return Line(number, {name: (usual | columns).get(name, "") for name in COLUMNS})


def live(services: Services) -> int:
    """How many subscriptions go on without an end."""
    query = "SELECT count(*) FROM subscriptions WHERE status <> 'canceled' AND ends_at IS NULL"
    with services.engine.begin() as db:
        return int(db.execute(text(query)).scalar_one())


def test_an_end_is_not_undone_beside_a_subscription_that_began_since(services: Services) -> None:
    on_sale(services)
    first = subscribed(services)
    collect_due(services)
    enrollment.unsubscribe(services, first, *WHO, at_period_end=True)
    second = enrollment.subscribe(services, "ann", "monthly", "kim", FEBRUARY.date()).key
    with pytest.raises(CannotAdjust, match=f"already, by subscription {second}"):
        adjust.undo(services, first, *WHO)
    live_until(services, FEBRUARY + timedelta(days=40))
    assert [row["status"] for row in charge_rows(services)] == ["paid"] * 3
    enrollment.unsubscribe(services, second, *WHO, at_period_end=False)


def test_the_next_one_begins_when_the_ending_one_has_ended(services: Services) -> None:
    on_sale(services)
    first = subscribed(services)
    collect_due(services)
    enrollment.unsubscribe(services, first, *WHO, at_period_end=True)
    with pytest.raises(CannotEnroll, match=f"until 2026-02-28 00:00Z, by subscription {first}; `again undo"):
        enrollment.subscribe(services, "ann", "monthly", "kim")
    adjust.undo(services, first, *WHO)
    assert live(services) == 1


def test_two_cards_of_one_customer_at_once_begin_one_subscription(two_cards: Services) -> None:
    begin = threading.Barrier(8)

    def subscribe(number: int) -> str:
        begin.wait(20)
        try:
            return enrollment.subscribe(two_cards, ("ann", "ann-2")[number % 2], "monthly", "kim").key
        except CannotEnroll as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        came = list(pool.map(subscribe, range(8)))
    assert sum("by subscription" in words for words in came) == 7
    assert live(two_cards) == 1


def test_a_subscription_waits_for_another_way_in_that_has_the_customer(two_cards: Services) -> None:
    """The guard: the customer is locked. The other way in is a takeover that is not committed yet."""
    came: list[str] = []

    def subscribe() -> None:
        try:
            came.append(enrollment.subscribe(two_cards, "ann-2", "monthly", "kim").key)
        except CannotEnroll as error:
            came.append(str(error))

    thread = threading.Thread(target=subscribe)
    with two_cards.engine.begin() as db:
        rival_subscriptions.lock_customer(db, 1)
        thread.start()
        assert blocked_or_over(two_cards, lambda: bool(came))
        db.execute(
            text(
                "INSERT INTO takeovers (billing_key_id, plan_id, plan, subscription_key, entries, billing_time, "
                "actor, why, created_at) VALUES (1, 1, 'monthly', 'k', '[]', '09:00', 'kim', 'x', now())"
            )
        )
    thread.join(30)
    assert "has a takeover to plan 'monthly' under way" in came[0]


def test_a_paused_subscription_keeps_its_place(services: Services) -> None:
    on_sale(services)
    first = subscribed(services)
    collect_due(services)
    adjust.pause(services, first, *WHO)
    with pytest.raises(CannotEnroll, match=f"by subscription {first}"):
        enrollment.subscribe(services, "ann", "monthly", "kim")
    adjust.resume(services, first, *WHO)
    assert live(services) == 1


def test_two_lines_of_a_file_do_not_begin_two(services: Services) -> None:
    on_sale(services)
    lines = [line(2, external_ref="a"), line(3, external_ref="b")]
    with pytest.raises(BadLines, match="line 3, customer_uid: 'ann' is on 'monthly' by another line of the file"):
        import_file.check(services, lines)
    with pytest.raises(CannotGoOn, match="line 3, customer_uid: 'ann' is on plan 'monthly' already"):
        import_file.write(services, lines, *WHO)


def test_two_lines_of_two_cards_do_not_begin_two(two_cards: Services) -> None:
    with pytest.raises(BadLines, match="line 3, customer_uid: 'ann-2' is on 'monthly' by another line"):
        import_file.check(two_cards, [line(2), line(3, customer_uid="ann-2")])


def test_a_line_may_ask_for_another(services: Services) -> None:
    on_sale(services)
    lines = [line(2, external_ref="a"), line(3, external_ref="b", another="yes")]
    import_file.check(services, lines)
    assert import_file.write(services, lines, *WHO) == 2
    assert live(services) == 2
    with pytest.raises(BadLines, match="line 2, another: 'maybe' is neither yes nor no"):
        import_file.check(services, [line(2, external_ref="c", another="maybe")])


def test_who_subscribes_between_the_check_and_the_write_is_not_imported_too(services: Services) -> None:
    on_sale(services)
    import_file.check(services, [line(2)])
    key = subscribed(services)
    with pytest.raises(CannotGoOn, match=f"by subscription {key}; write yes into the column `another`"):
        import_file.write(services, [line(2)], *WHO)
    assert live(services) == 1


def test_a_signup_under_way_keeps_the_customers_other_card_from_the_plan(
    two_cards: Services, gateway: ScriptedGateway
) -> None:
    with two_cards.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET deleted_at = now() WHERE customer_uid = 'ann'"))
    gateway.answers.append(Unknown("time-out"))
    with pytest.raises(NotSignedUp, match="not clear"):
        signup.sign_up(two_cards, "ann", "monthly", CARD, *WHO)
    with pytest.raises(CannotEnroll, match="has a signup for plan 'monthly' under way"):
        enrollment.subscribe(two_cards, "ann-2", "monthly", "kim")


def test_a_customer_who_is_on_the_plan_by_another_card_is_not_signed_up(
    two_cards: Services, gateway: ScriptedGateway
) -> None:
    key = enrollment.subscribe(two_cards, "ann-2", "monthly", "kim").key
    with two_cards.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET deleted_at = now() WHERE customer_uid = 'ann'"))
    with pytest.raises(NotSignedUp, match=f"by subscription {key}"):
        signup.sign_up(two_cards, "ann", "monthly", CARD, *WHO)
    assert not gateway.sent


@pytest.fixture
def signed_up_beside(services: Services, gateway: ScriptedGateway) -> signup.SignedUp:
    """A signup that is paid while its customer is put on the plan by other means, as every way in prevents."""
    on_sale(services)
    gateway.missing_keys.add("ann")

    def subscribe_elsewhere(order: object) -> Unknown:
        with services.engine.begin() as db:
            row = (
                "SELECT customer_id, id, 1, '2026-02-10', 'active', 0, '2026-02-10', now(), now(), now(), 'k', ''"
            )
            columns = (
                "customer_id, billing_key_id, plan_id, anchor, status, next_period_no, next_period_date, "
                "next_due_at, open_at, created_at, key, plan_code"
            )
            db.execute(text(f"INSERT INTO subscriptions ({columns}) {row} FROM billing_keys"))
        return gateway.approve(order)  # type: ignore[arg-type, return-value]  # the order is handed on as it came

    gateway.answers.append(subscribe_elsewhere)
    return signup.sign_up(services, "ann", "monthly", CARD, *WHO)


BESIDE = "its customer is on plan 'monthly' already, by subscription k"


def test_a_paid_signup_beside_a_live_subscription_is_set_aside_for_a_person(
    services: Services, signed_up_beside: signup.SignedUp
) -> None:
    """Guard: it is paid, so it begins, and charges nothing more."""
    key = signed_up_beside.subscription
    with services.engine.begin() as db:
        query = text("SELECT held_why, open_at, another FROM subscriptions WHERE key = :key")
        why, open_at, another = db.execute(query, {"key": key}).one()
    assert (why, open_at, another) == (BESIDE, None, True)
    operate.release_subscription(services, key, *WHO)
    assert live(services) == 2


def test_a_subscription_that_begins_set_aside_sends_an_event(
    services: Services, signed_up_beside: signup.SignedUp
) -> None:
    """Guard: nothing else tells a person that a paid subscription charges nothing more."""
    with services.engine.begin() as db:
        query = "SELECT subject, payload ->> 'why' FROM outbox WHERE kind = 'subscription.held'"
        told = [tuple(row) for row in db.execute(text(query))]
    assert told == [(signed_up_beside.subscription, BESIDE)]


def test_a_change_of_plan_to_one_that_the_customer_has_needs_to_be_asked_for(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    collect_due(services)
    on_sale(services, code="other", cadence=Every(1, Unit.MONTH))
    other = enrollment.subscribe(services, "ann", "other", "kim", date(2026, 3, 1)).key
    with pytest.raises(CannotAdjust, match=f"its customer is on plan 'other' already, by subscription {other}"):
        adjust.change_plan(services, key, "other", *WHO)
    adjust.change_plan(services, key, "other", *WHO, another=True)
    assert live(services) == 2


def test_one_that_was_asked_for_beside_another_may_end_go_on_and_take_a_new_version(services: Services) -> None:
    on_sale(services)
    subscribed(services)
    second = enrollment.subscribe(services, "ann", "monthly", "kim", another=True).key
    collect_due(services)
    enrollment.unsubscribe(services, second, *WHO, at_period_end=True)
    adjust.undo(services, second, *WHO)
    on_sale(services, price=Money(12900, "KRW"))
    assert adjust.change_plan(services, second, "monthly", *WHO).after.price == Money(12900, "KRW")


def left_and_back(services: Services, *, trial_again: bool = False) -> enrollment.Subscribed:
    """A customer who ends a subscription at once and begins one again."""
    with services.engine.begin() as db:
        key = db.execute(text("SELECT key FROM subscriptions ORDER BY id DESC LIMIT 1")).scalar_one()
    enrollment.unsubscribe(services, key, *WHO, at_period_end=False)
    return enrollment.subscribe(services, "ann", "monthly", "kim", trial_again=trial_again)


def test_a_customer_who_comes_back_has_no_second_trial(services: Services) -> None:
    on_sale(services, trial_days=14)
    first = subscribed(services)
    again = [left_and_back(services) for _ in range(2)]
    assert [begun.first.due_at for begun in again] == [START, START]
    assert [(begun.trial_days, begun.trial_used_by) for begun in again] == [(0, first)] * 2
    collect_due(services)
    # The period that was due when he left again has a row, and was canceled with its subscription.
    assert [row["status"] for row in charge_rows(services)] == ["canceled", "paid"]


def test_a_second_trial_can_be_asked_for(services: Services) -> None:
    on_sale(services, trial_days=14)
    subscribed(services)
    begun = left_and_back(services, trial_again=True)
    assert (begun.first.due_at, begun.trial_days) == (START + timedelta(days=14), 14)


@pytest.mark.parametrize(
    "way_out",
    [
        lambda services, key: adjust.change_plan(services, key, "other", *WHO),
        lambda services, key: enrollment.unsubscribe(services, key, *WHO, at_period_end=True),
        lambda services, key: enrollment.unsubscribe(services, key, *WHO, at_period_end=False),
    ],
)
def test_whatever_became_of_it_a_trial_was_used(
    services: Services, way_out: Callable[[Services, str], object]
) -> None:
    on_sale(services, trial_days=14)
    on_sale(services, code="other")
    first = subscribed(services)
    way_out(services, first)
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    begun = enrollment.subscribe(services, "ann-2", "monthly", "kim", date(2026, 3, 1))
    assert (begun.trial_days, begun.trial_used_by) == (0, first)


def test_a_trial_of_another_plan_or_of_no_plan_is_none_of_this_one(services: Services) -> None:
    on_sale(services, code="other", trial_days=14)
    on_sale(services)
    subscribed(services, code="other")
    enrollment.subscribe(services, "ann", "monthly", "kim")
    on_sale(services, trial_days=14)
    assert left_and_back(services).trial_days == 14


def test_who_was_charged_elsewhere_before_has_no_trial(services: Services) -> None:
    on_sale(services, trial_days=14)
    import_file.write(services, [line(2)], *WHO)
    assert left_and_back(services).trial_days == 0


def test_a_signup_of_one_who_has_had_the_trial_pays_at_once(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services, trial_days=14)
    key = subscribed(services)
    enrollment.unsubscribe(services, key, *WHO, at_period_end=False)
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET deleted_at = now()"))
    begun = signup.sign_up(services, "ann", "monthly", CARD, *WHO)
    assert begun.charge is not None
    assert [order.money for order in gateway.sent] == [MONTHLY.price]
