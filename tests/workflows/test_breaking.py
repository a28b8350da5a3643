"""The breaker stops an account by itself; only a person lets it go on."""

import logging
from collections.abc import Callable

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Declined, Outcome, Paid, Refused
from schedules.operations.health import CauseCode
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, move, on_sale, subscribed, write
from worker.charging import attempt_charge
from worker.customers import adjust, cards, enrollment
from worker.operations import health, operate
from worker.renewals import open_charges
from worker.services import Services
from worker.store.charging import charges as rows
from worker.store.charging import kill_switch

# Makes the card of a charge one of the first customer's.
ONE_CUSTOMER = (
    "UPDATE billing_keys SET customer_id = (SELECT min(id) FROM customers) "
    "WHERE id = (SELECT billing_key_id FROM charges WHERE id = :charge)"
)


def many(services: Services, count: int) -> list[int]:
    """So many charges, due now; their row ids."""
    on_sale(services)
    for number in range(count):
        subscribed(services, f"customer-{number}")
    open_charges.open_due(services)
    return [row["id"] for row in charge_rows(services)]


def is_stopped(services: Services) -> bool:
    """Whether the account is stopped."""
    with services.engine.begin() as db:
        return kill_switch.stopped_by(db, "main") == "again"


def refuse(services: Services, gateway: ScriptedGateway, charges: list[int]) -> None:
    """Let the gateway refuse a call for each of these, a second apart."""
    answer(services, gateway, charges, Refused("인증에 실패하였습니다."))


def answer(services: Services, gateway: ScriptedGateway, charges: list[int], outcome: Outcome) -> None:
    """Let the gateway answer so to a call for each of these, a second apart."""
    for charge in charges:
        move(services, seconds=1)
        gateway.answers.append(outcome)
        attempt_charge.attempt(services, charge)


def test_a_burst_of_refused_charges_stops_the_account(services: Services, gateway: ScriptedGateway) -> None:
    """More calls mend nothing; the others keep their first try."""
    charges = many(services, 8)
    refuse(services, gateway, charges[:4])
    assert not is_stopped(services)
    refuse(services, gateway, charges[4:5])
    assert is_stopped(services)
    gateway.answers.clear()
    attempt_charge.attempt(services, charges[6])
    assert len(gateway.sent) == 5


def test_refusals_that_are_far_apart_are_no_burst(services: Services, gateway: ScriptedGateway) -> None:
    for charge in many(services, 8):
        refuse(services, gateway, [charge])
        move(services, minutes=4)
    assert not is_stopped(services)


def test_one_charge_that_is_refused_again_and_again_is_no_burst(
    services: Services, gateway: ScriptedGateway
) -> None:
    (charge,) = many(services, 1)
    for _ in range(8):
        refuse(services, gateway, [charge])
        with services.engine.begin() as db:
            rows.change(db, charge, next_attempt_at=services.clock.now())
    assert not is_stopped(services)


def test_what_a_person_has_looked_at_is_not_counted_again(services: Services, gateway: ScriptedGateway) -> None:
    charges = many(services, 8)
    refuse(services, gateway, charges[:5])
    operate.resume_charging(services, "kim", "the key is mended", "main")
    move(services, seconds=1)
    refuse(services, gateway, charges[5:6])
    assert not is_stopped(services)


def test_who_stopped_it_and_why_is_in_the_audit(services: Services, gateway: ScriptedGateway) -> None:
    refuse(services, gateway, many(services, 5))
    with services.engine.begin() as db:
        (stop,) = kill_switch.stopped(db)
        written = db.exec_driver_sql("SELECT actor, subject FROM audit WHERE verb = 'stop-charging'").all()
    assert stop.actor == "again"
    assert (
        "calls for 5 customers were refused since 2026-01-31 00:00:01Z, and none was paid since then" in stop.why
    )
    assert [tuple(row) for row in written] == [("again", "main")]


def test_a_stop_by_the_breaker_is_an_event_and_an_error_line(
    services: Services, gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(services, gateway, many(services, 5))
    with services.engine.begin() as db:
        query = "SELECT payload ->> 'account' FROM outbox WHERE kind = 'account.stopped'"
        events = db.exec_driver_sql(query).all()
    lines = "\n".join(record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert [tuple(row) for row in events] == [("main",)]
    assert "charging is stopped for account main: calls for 5 customers were refused" in lines


def test_refusals_do_not_stop_the_account_while_others_pay(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: the breaker never stops an account whose other customers pay."""
    charges = many(services, 24)
    for number in range(0, 24, 4):
        refuse(services, gateway, charges[number : number + 3])
        answer(services, gateway, charges[number + 3 : number + 4], Paid("imp_1"))
    assert not is_stopped(services)


def test_a_payment_before_the_refusals_does_not_keep_the_breaker_from_stopping(
    services: Services, gateway: ScriptedGateway
) -> None:
    charges = many(services, 8)
    answer(services, gateway, charges[:2], Paid("imp_1"))
    move(services, seconds=5)
    refuse(services, gateway, charges[2:7])
    assert is_stopped(services)


def test_calls_that_are_sent_with_the_refused_ones_and_answered_later_count_as_paid(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: refusals are answered sooner than payments, so the last payments known were sent a little earlier."""
    charges = many(services, 8)
    answer(services, gateway, charges[:2], Paid("imp_1"))
    refuse(services, gateway, charges[2:7])
    assert not is_stopped(services)


def test_one_customer_with_many_charges_does_not_stop_the_account(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the breaker counts customers, not charges."""
    charges = many(services, 8)
    for charge in charges:
        write(services, ONE_CUSTOMER, charge)
    refuse(services, gateway, charges)
    assert not is_stopped(services)


def test_refusals_that_are_fewer_than_declines_do_not_stop_the_account(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a card that is declined shows that the set-up works; refusals count as a share of the answers."""
    charges = many(services, 20)
    for number in range(0, 20, 5):
        refuse(services, gateway, charges[number : number + 2])
        answer(services, gateway, charges[number + 2 : number + 5], Declined("[CC10]통장 잔액부족"))
    assert not is_stopped(services)


def test_cards_that_are_restricted_to_some_trades_do_not_stop_the_account(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a fault of the card is no fault of our set-up."""
    answer(services, gateway, many(services, 8), Declined("[CC40]승인거래 제한 업종", pg_provider="kcp"))
    assert not is_stopped(services)


def on_channel(services: Services, charges: list[int], pg_provider: str, pg_id: str) -> None:
    """Put the cards of these charges on a channel."""
    with services.engine.begin() as db:
        for charge in charges:
            db.execute(
                text(
                    "UPDATE billing_keys SET pg_provider = :provider, pg_id = :pg_id "
                    "WHERE id = (SELECT billing_key_id FROM charges WHERE id = :charge)"
                ),
                {"provider": pg_provider, "pg_id": pg_id, "charge": charge},
            )


def told_of_channels(services: Services) -> list[str]:
    """The channels of all events that say that a channel refuses everything."""
    with services.engine.begin() as db:
        query = "SELECT payload ->> 'channel' FROM outbox WHERE kind = 'channel.refused' ORDER BY id"
        return [str(row[0]) for row in db.exec_driver_sql(query)]


def refusing_channels(services: Services) -> list[str]:
    """The channels that the status names."""
    found = health.examine(services, {})
    named = [cause for cause in found.causes if cause.code is CauseCode.CHANNEL_REFUSED]
    assert all(cause.code.is_failure for cause in named)
    return [cause.sentence.split()[1] for cause in named]


def two_channels(services: Services) -> tuple[list[int], list[int]]:
    """Charges on a channel that will refuse, and on one that pays."""
    charges = many(services, 24)
    on_channel(services, charges[:12], "kcp", "OFF")
    on_channel(services, charges[12:], "kcp", "ON")
    return charges[:12], charges[12:]


def test_a_channel_that_refuses_everything_is_told_of_while_others_are_paid(
    services: Services, gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Guard: an event, an ERROR line and the status name it, once; nothing is stopped."""
    off, on = two_channels(services)
    for number in range(4):
        refuse(services, gateway, off[number : number + 1])
        answer(services, gateway, on[number : number + 1], Paid("imp_1"))
    assert told_of_channels(services) == refusing_channels(services) == []
    refuse(services, gateway, off[4:8])
    assert told_of_channels(services) == refusing_channels(services) == ["kcp.OFF"]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    (line,) = [line for line in lines if "channel kcp.OFF of account main refuses all calls" in line]
    with services.engine.begin() as db:
        query = "SELECT payload ->> 'why' FROM outbox WHERE kind = 'channel.refused'"
        (why,) = db.exec_driver_sql(query).scalars()
    (cause,) = [each for each in health.examine(services, {}).causes if each.code is CauseCode.CHANNEL_REFUSED]
    assert all("`again release --refused`" in words for words in (line, why, cause.sentence))
    assert not is_stopped(services)


def test_a_channel_that_is_paid_now_and_then_is_not_told_of(services: Services, gateway: ScriptedGateway) -> None:
    off, on = two_channels(services)
    for number in range(0, 12, 3):
        refuse(services, gateway, off[number : number + 2])
        answer(services, gateway, [off[number + 2], on[number]], Paid("imp_1"))
    assert told_of_channels(services) == refusing_channels(services) == []


def test_a_channel_is_named_until_it_is_paid_and_told_of_once_a_day(
    services: Services, gateway: ScriptedGateway
) -> None:
    off, on = two_channels(services)
    answer(services, gateway, on[:1], Paid("imp_1"))
    refuse(services, gateway, off[:6])
    assert refusing_channels(services) == ["kcp.OFF"]
    answer(services, gateway, off[11:], Paid("imp_2"))
    assert refusing_channels(services) == []
    move(services, days=1)
    answer(services, gateway, on[1:2], Paid("imp_3"))
    refuse(services, gateway, off[6:11])
    assert refusing_channels(services) == ["kcp.OFF"]
    assert told_of_channels(services) == ["kcp.OFF"] * 2


def by_another_key(services: Services, customer: str) -> None:
    """Move a customer's debt to another billing key."""
    enrollment.add_customer(services, f"{customer}-2", None, None, None, "test", of=customer)
    with services.engine.begin() as db:
        query = text(
            "SELECT s.key FROM subscriptions s JOIN billing_keys k ON k.id = s.billing_key_id "
            "WHERE k.customer_uid = :customer"
        )
        key = db.execute(query, {"customer": customer}).scalar_one()
    adjust.change_card(services, key, f"{customer}-2", "kim", "the channel is off")


def behind_the_same_key(services: Services, customer: str) -> None:
    """Put another card behind a customer's billing key."""
    cards.changed(services, customer, "kim", "the channel is off")


@pytest.mark.parametrize("change", [by_another_key, behind_the_same_key])
def test_a_channel_is_not_told_of_for_what_was_refused_on_the_cards_before(
    services: Services, gateway: ScriptedGateway, change: Callable[[Services, str], None]
) -> None:
    """Guard: a refused call counts for the channel that it was sent on, not for that of the charge's card now."""
    off, on = two_channels(services)
    answer(services, gateway, on[:1], Paid("imp_1"))
    refuse(services, gateway, off[:5])
    assert told_of_channels(services) == refusing_channels(services) == ["kcp.OFF"]
    move(services, seconds=1)
    for number in range(5):
        change(services, f"customer-{number}")
    on_channel(services, off[:5], "kcp", "NEW")
    assert refusing_channels(services) == []
    refuse(services, gateway, off[:1])
    assert told_of_channels(services) == ["kcp.OFF"]
    assert refusing_channels(services) == []
