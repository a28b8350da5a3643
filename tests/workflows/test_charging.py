"""Charging: rows before calls, claims with fences, the pre-send check, and answers only their owner may write."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown
from tests.doubles import ScriptedGateway
from tests.factories import (
    attempt_rows,
    charge_rows,
    collect,
    collect_due,
    in_an_executor,
    move,
    move_to,
    on_sale,
    opened,
    subscribed,
    with_settings,
)
from worker.charging import attempt_charge, resolve_unknown
from worker.charging.close import close
from worker.charging.settle import settle
from worker.clock import elapsed
from worker.customers import enrollment
from worker.gateway.port import ChargeOrder
from worker.operations import operate
from worker.renewals import open_charges
from worker.services import Services
from worker.store.charging import charges, kill_switch


@pytest.fixture(params=["alone", "together"])
def services(services: Services, request: pytest.FixtureRequest) -> Services:
    """Every promise holds for a charge by itself, and in the executor of a worker."""
    return in_an_executor(services) if request.param == "together" else services


def test_a_due_charge_is_collected(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = opened(services)
    assert collect(services, charge_id) is AttemptState.PAID
    (order,) = gateway.sent
    (charge,) = charge_rows(services)
    (attempt,) = attempt_rows(services)
    assert (charge["status"], charge["next_attempt_at"]) == ("paid", None)
    assert (attempt["state"], attempt["merchant_uid"]) == ("paid", order.merchant_uid)
    assert (order.money.amount, order.money.currency, order.customer_uid) == (9900, "KRW", "ann")


def test_the_row_is_committed_before_the_request_leaves(services: Services, gateway: ScriptedGateway) -> None:
    """Rule 1, and no transaction is open during the call: another connection sees the row and can lock it."""
    charge_id = opened(services)
    seen: list[str] = []

    def look(order: ChargeOrder) -> Outcome:
        with services.engine.begin() as db:
            row = db.execute(text("SELECT state, merchant_uid FROM attempts FOR UPDATE NOWAIT")).one()
            db.execute(text("SELECT 1 FROM charges FOR UPDATE NOWAIT"))
        seen.append(row.state)
        assert row.merchant_uid == order.merchant_uid
        return Paid("imps_1")

    gateway.answers.append(look)
    collect(services, charge_id)
    assert seen == ["sending"]


def test_a_second_message_for_a_charge_in_flight_is_left_out(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: the claim is conditional (crash row 3)."""
    charge_id = opened(services)
    second: list[AttemptState | None] = []

    def meanwhile(order: ChargeOrder) -> Outcome:
        second.append(collect(services, charge_id))
        return gateway.approve(order)

    gateway.answers.append(meanwhile)
    collect(services, charge_id)
    assert second == [None]
    assert len(gateway.sent) == 1


def test_a_message_that_comes_back_days_later_finds_the_charge_closed(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Crash row 12."""
    charge_id = opened(services)
    collect(services, charge_id)
    move(services, days=3)
    assert collect(services, charge_id) is None
    assert len(gateway.sent) == 1


def test_a_stale_answer_changes_nothing(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: the fence (crash row 10). The lease runs out during the call, and the sweep takes the attempt."""
    charge_id = opened(services)

    def sleep_past_the_lease(order: ChargeOrder) -> Outcome:
        move(services, seconds=services.settings.lease + 1)
        assert resolve_unknown.sweep(services) == 1
        return Declined("too late to matter")

    gateway.answers.append(sleep_past_the_lease)
    assert collect(services, charge_id) is None
    (attempt,) = attempt_rows(services)
    (charge,) = charge_rows(services)
    assert attempt["state"] == "unknown"
    assert (charge["status"], charge["declines"]) == ("open", 0)


def test_a_decline_is_tried_again_by_the_ladder_under_a_new_uid(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge_id = opened(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족", "CC10"))
    assert collect(services, charge_id) is AttemptState.DECLINED
    (charge,) = charge_rows(services)
    assert charge["status"] == "past_due"
    assert charge["next_attempt_at"] == services.clock.now() + timedelta(days=1)
    move(services, days=1)
    assert collect(services, charge_id) is AttemptState.PAID
    first, second = (order.merchant_uid for order in gateway.sent)
    assert first != second


def test_a_charge_is_given_up_when_the_ladder_has_ended(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = opened(services)
    gateway.answers.extend([Declined("no")] * 3)
    for _ in range(3):
        collect(services, charge_id)
        move(services, days=3)
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"]) == ("uncollectible", 3)


def test_what_was_not_sent_is_sent_again_under_the_same_uid_and_uses_no_rung(
    services: Services, gateway: ScriptedGateway
) -> None:
    charge_id = opened(services)
    gateway.answers.extend([NotSent("ConnectError"), NotSent("ConnectError")])
    for _ in range(3):
        collect(services, charge_id)
        move(services, hours=2)
    (charge,) = charge_rows(services)
    assert charge["status"] == "paid"
    assert charge["declines"] == 0
    assert len({order.merchant_uid for order in gateway.sent}) == 1


def test_a_refusal_touches_no_customer_and_gives_no_debt_up(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = opened(services)
    gateway.answers.extend([Refused("wrong credentials")] * 6)
    for _ in range(6):
        assert collect(services, charge_id) is AttemptState.REFUSED
        move(services, days=1)
    (charge,) = charge_rows(services)
    assert (charge["status"], charge["declines"], charge["refusals"]) == ("open", 0, 6)
    assert collect(services, charge_id) is AttemptState.PAID


def test_nothing_else_is_sent_while_an_outcome_is_unknown(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: one_unresolved_attempt_for_each_charge, and a charge in doubt has no next attempt."""
    charge_id = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    assert collect(services, charge_id) is AttemptState.UNKNOWN
    for _ in range(5):
        move(services, days=1)
        assert collect(services, charge_id) is None
    assert len(gateway.sent) == 1


def test_an_answer_with_another_amount_stops_the_charge(services: Services, gateway: ScriptedGateway) -> None:
    """Rule 8."""
    charge_id = opened(services)
    gateway.answers.append(Unknown("paid 990 instead of 9900", mismatch=True))
    collect(services, charge_id)
    (charge,) = charge_rows(services)
    assert charge["held_why"] == "paid 990 instead of 9900"
    assert charge["status"] == "open"


def _stop(services: Services) -> None:
    operate.stop_charging(services, "test", "a fire")


def _cancel(services: Services) -> None:
    with services.engine.begin() as db:
        db.execute(text("UPDATE subscriptions SET status = 'canceled', open_at = NULL, ends_at = now()"))


def _other_environment(services: Services) -> None:
    with services.engine.begin() as db:
        kill_switch.bind(db, "0" * 32, "prod", "test", services.clock.now())


def _delete_key(services: Services) -> None:
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET deleted_at = now()"))


def _change_amount(services: Services) -> None:
    with services.engine.begin() as db:
        db.execute(text("UPDATE charges SET amount = 1"))


def _hold(services: Services) -> None:
    with services.engine.begin() as db:
        charges.change(db, charge_rows(services)[0]["id"], held_why="a person looks at it")


def _close(services: Services) -> None:
    with services.engine.begin() as db:
        close(db, charge_rows(services)[0]["id"], ChargeStatus.WAIVED, "let go", services.clock.now())


def _put_off(services: Services) -> None:
    with services.engine.begin() as db:
        charges.change(db, charge_rows(services)[0]["id"], due_at=services.clock.now() + timedelta(days=1))


@pytest.mark.parametrize(
    "obstacle", [_stop, _cancel, _other_environment, _delete_key, _change_amount, _hold, _close, _put_off]
)
def test_the_pre_send_check_keeps_a_claimed_attempt_from_leaving(
    services: Services, gateway: ScriptedGateway, obstacle: Callable[[Services], None]
) -> None:
    """Guard: the pre-send check. What changes between the claim and the call is seen before the call."""
    claimed = attempt_charge.claim(services, opened(services))
    assert claimed is not None
    obstacle(services)
    state = attempt_charge.carry_out(services, claimed)
    assert gateway.sent == []
    assert state in (AttemptState.READY, AttemptState.NOT_SENT)


def test_the_pre_send_check_sees_a_lease_that_is_too_short_for_the_call(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the lease (crash row 11): a worker that was frozen after its claim does not call."""
    claimed = attempt_charge.claim(services, opened(services))
    assert claimed is not None
    move(services, seconds=services.settings.lease - services.settings.call_deadline + 1)
    attempt_charge.carry_out(services, claimed)
    assert gateway.sent == []


def test_a_database_of_another_environment_sends_nothing(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: the fingerprint (crash row 15)."""
    charge_id = opened(services)
    _other_environment(services)
    assert collect(services, charge_id) is None
    assert gateway.sent == []
    operate.adopt(services, "test", "moved to a new host")
    assert collect(services, charge_id) is AttemptState.PAID


def test_stopped_charging_goes_on_where_it_was(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = opened(services)
    _stop(services)
    assert collect(services, charge_id) is None
    operate.resume_charging(services, "test", "the fire is out")
    assert collect(services, charge_id) is AttemptState.PAID


def test_a_subscription_canceled_during_a_call_that_fails_is_not_tried_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    key = subscribed(services)
    open_charges.open_due(services)
    (charge,) = charge_rows(services)

    def cancel_meanwhile(order: ChargeOrder) -> Outcome:
        enrollment.unsubscribe(services, key, "test", "enough", at_period_end=False)
        return Declined("no")

    gateway.answers.append(cancel_meanwhile)
    collect(services, charge["id"])
    (charge,) = charge_rows(services)
    assert charge["status"] == "canceled"


def test_a_charge_canceled_during_a_call_that_pays_is_paid(services: Services, gateway: ScriptedGateway) -> None:
    """The books say what happened to the money, whatever was wished meanwhile."""
    on_sale(services)
    key = subscribed(services)
    open_charges.open_due(services)

    def cancel_meanwhile(order: ChargeOrder) -> Outcome:
        enrollment.unsubscribe(services, key, "test", "enough", at_period_end=False)
        return gateway.approve(order)

    gateway.answers.append(cancel_meanwhile)
    collect_due(services)
    (charge,) = charge_rows(services)
    assert charge["status"] == "paid"


def test_the_rate_cap_gives_the_claim_back_unsent(services: Services, gateway: ScriptedGateway) -> None:
    charge_id = opened(services)
    with services.engine.begin() as db:
        db.execute(text("INSERT INTO rate_buckets VALUES ('main', clock_timestamp() + interval '90 s')"))
    assert collect(with_settings(services, rate=0.01), charge_id) is AttemptState.READY
    assert gateway.sent == []
    (charge,) = charge_rows(services)
    assert charge["next_attempt_at"] > services.clock.now()


def test_a_worker_that_wakes_too_late_does_not_send(services: Services, gateway: ScriptedGateway) -> None:
    """Crash row 11: the call must be over by a time that was set before the pre-send check."""
    charge = opened(services)
    before = elapsed()
    collect(services, charge)
    (until,) = gateway.untils
    assert until is not None
    assert before < until <= elapsed() + services.settings.call_deadline


@pytest.mark.parametrize("doubt", ["sending", "unknown"])
def test_an_attempt_in_doubt_is_not_sent_again_though_its_charge_says_it_is_due(
    services: Services, gateway: ScriptedGateway, doubt: str
) -> None:
    """The guard is in the attempt's own claim: a charge may be due by a mistake, or by a person's word."""
    charge_id = opened(services)
    if doubt == "sending":
        assert attempt_charge.claim(services, charge_id) is not None
    else:
        gateway.answers.append(Unknown("ReadTimeout"))
        collect(services, charge_id)
    before = len(gateway.sent)
    with services.engine.begin() as db:
        charges.change(db, charge_id, next_attempt_at=services.clock.now())
    assert collect(services, charge_id) is None
    assert len(gateway.sent) == before


def test_a_message_that_comes_between_two_rungs_sends_nothing(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard is the claim's own look at the due time; nothing else stands there."""
    charge_id = opened(services)
    gateway.answers.append(Declined("no money"))
    collect(services, charge_id)
    move(services, hours=23)
    assert collect(services, charge_id) is None
    assert len(gateway.sent) == 1


def test_an_answer_of_an_earlier_sending_is_not_written_into_a_later_one(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The fence alone: the same uid is being sent again, in the state that the stale worker left it in."""
    charge = opened(services)
    stale = attempt_charge.claim(services, charge)
    assert stale is not None
    move(services, seconds=services.settings.lease + 1)
    resolve_unknown.sweep(services)
    while (row := attempt_rows(services)[0])["state"] == AttemptState.UNKNOWN:
        move_to(services, row["next_ask_at"])
        resolve_unknown.ask(services, row["id"])
    move_to(services, charge_rows(services)[0]["next_attempt_at"])
    again = attempt_charge.claim(services, charge)
    assert again is not None
    assert again.intent.merchant_uid == stale.intent.merchant_uid
    assert settle(services, stale.intent, AttemptState.SENDING, Declined("[CC10]통장 잔액부족")) is None
    assert attempt_rows(services)[0]["state"] == AttemptState.SENDING
