"""The database itself refuses what must never be: each guard, by its name in the schema."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from schedules.outbox.events import AccountStopped
from tests.doubles import ScriptedGateway
from tests.factories import START, charge_rows, opened
from worker.charging import attempt_charge
from worker.services import Services
from worker.store import tables
from worker.store.outbox import event_log

UID = "ag1test" + "r" + "0" * 20 + "00000" + "000{}"


@pytest.fixture
def charge_id(services: Services) -> int:
    """A charge that is due, of a customer on a plan."""
    return opened(services)


def refused(services: Services, write: Callable[[Connection], object]) -> str:
    """The database's words when it refuses to write this."""
    with pytest.raises(DBAPIError) as refusal, services.engine.begin() as db:
        write(db)
    return str(refusal.value.orig)


def attempt(charge_id: int, number: int, state: str = "sending", **changes: Any) -> dict[str, Any]:
    """A row of attempts."""
    row: dict[str, Any] = {
        "charge_id": charge_id, "number": number, "merchant_uid": UID.format(number), "state": state,
        "amount": 9900, "currency": "KRW", "fence": 1, "sends": 1, "last_sent_at": START, "created_at": START,
        "lease_until": START + timedelta(minutes=5) if state == "sending" else None,
    }  # fmt: skip
    return row | changes


def write_attempts(*rows: dict[str, Any]) -> Callable[[Connection], None]:
    """Writes these attempts, one after the other."""

    def write(db: Connection) -> None:
        for row in rows:
            db.execute(insert(tables.attempts).values(row))

    return write


def copy_charge(services: Services, **changes: Any) -> Callable[[Connection], object]:
    """Writes another charge like the first, but for these columns."""
    row = {name: value for name, value in charge_rows(services)[0].items() if name != "id"}
    return lambda db: db.execute(insert(tables.charges).values(row | changes))


def copy_subscription(**changes: Any) -> Callable[[Connection], object]:
    """Writes another subscription like the first, but for its key and these columns."""

    def write(db: Connection) -> None:
        row = dict(db.execute(select(tables.subscriptions)).mappings().one())
        del row["id"]
        db.execute(insert(tables.subscriptions).values(row | {"key": "another"} | changes))

    return write


def test_one_live_subscription_for_each_customer_and_plan(services: Services, charge_id: int) -> None:
    assert "one_live_subscription_for_each_customer_and_plan" in refused(services, copy_subscription())
    for changes in ({"another": True}, {"ends_at": START}, {"status": "canceled", "open_at": None}):
        with services.engine.connect() as db, db.begin() as undone:
            copy_subscription(**changes)(db)
            undone.rollback()


def test_one_subscription_for_each_external_ref(services: Services, charge_id: int) -> None:
    """Guard: two versions of an import that make another key of the same reference."""
    with services.engine.begin() as db:
        db.execute(update(tables.subscriptions).values(external_ref="old-1"))
    write = copy_subscription(another=True)
    assert "one_subscription_for_each_external_ref" in refused(services, write)


def test_the_plan_code_of_a_subscription_is_its_plans(services: Services, charge_id: int) -> None:
    with services.engine.begin() as db:
        db.execute(update(tables.subscriptions).values(plan_code="free"))
        assert db.execute(select(tables.subscriptions.c.plan_code)).scalar_one() == "monthly"


def test_one_charge_for_each_period(services: Services, charge_id: int) -> None:
    assert "one_charge_for_each_period" in refused(services, copy_charge(services, key="r" + "1" * 25))


def test_one_charge_for_each_key(services: Services, charge_id: int) -> None:
    assert "one_charge_for_each_key" in refused(services, copy_charge(services, period_no=7))


def test_one_charge_for_each_request_key(services: Services, charge_id: int) -> None:
    adhoc = {"kind": "adhoc", "subscription_id": None, "request_key": "order-1", "period_no": 0}
    with services.engine.begin() as db:
        copy_charge(services, key="a" + "1" * 25, **adhoc)(db)
    assert "one_charge_for_each_request_key" in refused(
        services, copy_charge(services, key="a" + "2" * 25, **adhoc)
    )


def test_an_adhoc_charge_has_a_request_key_and_a_renewal_a_subscription(
    services: Services, charge_id: int
) -> None:
    words = refused(services, copy_charge(services, key="a" + "1" * 25, kind="adhoc", period_no=9))
    assert "adhoc_has_a_request_key" in words or "renewal_has_a_subscription" in words


def test_a_closed_charge_has_no_next_attempt(services: Services, charge_id: int) -> None:
    words = refused(
        services,
        lambda db: db.execute(
            update(tables.charges).values(status="paid", closed_at=START, next_attempt_at=START)
        ),
    )
    assert "closed_has_no_next_attempt" in words


@pytest.mark.parametrize(
    ("values", "guard"),
    [
        ({"waits": "card", "look_at": START}, "waiting_has_no_next_attempt"),
        ({"waits": "card", "next_attempt_at": None}, "waiting_is_looked_at"),
        ({"waits": "rain", "next_attempt_at": None, "look_at": START}, "known_wait"),
        (
            {"status": "paid", "closed_at": START, "next_attempt_at": None, "look_at": START},
            "closed_waits_for_nothing",
        ),
        ({"given_up": "hope"}, "known_final_action"),
        ({"tried_by": "nobody"}, "known_trier"),
    ],
)
def test_a_debt_that_waits_is_whole(
    services: Services, charge_id: int, values: dict[str, object], guard: str
) -> None:
    """One that waits without a time to look would wait for ever."""
    assert guard in refused(services, lambda db: db.execute(update(tables.charges).values(**values)))


def test_a_policy_s_version_is_written_once_and_never_changed(services: Services, charge_id: int) -> None:
    again = insert(tables.policies).from_select(
        ["code", "version", "document", "created_at"],
        select(*(tables.policies.c[name] for name in ("code", "version", "document", "created_at"))),
    )
    assert "one_policy_for_each_code_and_version" in refused(services, lambda db: db.execute(again))
    assert "append only" in refused(
        services, lambda db: db.execute(update(tables.policies).values(document={"ladder": []}))
    )


def test_a_charge_is_of_a_positive_amount(services: Services, charge_id: int) -> None:
    assert "amount_is_positive" in refused(
        services, lambda db: db.execute(update(tables.charges).values(amount=0))
    )


def test_a_charge_has_a_status_that_we_know(services: Services, charge_id: int) -> None:
    assert "known_status" in refused(
        services,
        lambda db: db.execute(update(tables.charges).values(status="lost", next_attempt_at=None, closed_at=START)),
    )


@pytest.mark.parametrize("state", ["ready", "sending", "unknown", "not_sent"])
def test_one_unresolved_attempt_for_each_charge(services: Services, charge_id: int, state: str) -> None:
    asked = {"next_ask_at": START} if state == "unknown" else {}
    second = attempt(charge_id, 2, state, **asked)
    words = refused(services, write_attempts(attempt(charge_id, 1), second))
    assert "one_unresolved_attempt_for_each_charge" in words


def test_one_paid_attempt_for_each_charge(services: Services, charge_id: int) -> None:
    words = refused(services, write_attempts(attempt(charge_id, 1, "paid"), attempt(charge_id, 2, "paid")))
    assert "one_paid_attempt_for_each_charge" in words


def test_one_attempt_for_each_merchant_uid(services: Services, charge_id: int) -> None:
    same = attempt(charge_id, 2, "declined", merchant_uid=UID.format(1))
    words = refused(services, write_attempts(attempt(charge_id, 1, "declined"), same))
    assert "one_attempt_for_each_merchant_uid" in words


def test_one_attempt_for_each_number(services: Services, charge_id: int) -> None:
    same = attempt(charge_id, 1, "declined", merchant_uid=UID.format(2))
    words = refused(services, write_attempts(attempt(charge_id, 1, "declined"), same))
    assert "one_attempt_for_each_number" in words


def test_sending_has_a_lease(services: Services, charge_id: int) -> None:
    words = refused(services, write_attempts(attempt(charge_id, 1, lease_until=None)))
    assert "sending_has_a_lease" in words


def test_an_unknown_attempt_is_asked_about(services: Services, charge_id: int) -> None:
    assert "unknown_is_asked_about" in refused(services, write_attempts(attempt(charge_id, 1, "unknown")))


def test_a_plan_version_is_immutable(services: Services, charge_id: int) -> None:
    words = refused(services, lambda db: db.execute(update(tables.plans).values(price=1)))
    assert "immutable" in words


def test_one_plan_for_each_code_and_version(services: Services, charge_id: int) -> None:
    copy = text(
        "INSERT INTO plans (code, version, price, currency, every, unit, zone, billing_time, trial_days, "
        "statement_name, catch_up, catch_up_cap, shift, allow_short_months, policy, created_at) "
        "SELECT code, version, price, currency, every, unit, zone, billing_time, trial_days, statement_name, "
        "catch_up, catch_up_cap, shift, allow_short_months, policy, created_at FROM plans"
    )
    assert "one_plan_for_each_code_and_version" in refused(services, lambda db: db.execute(copy))


def test_a_plan_has_one_cadence(services: Services, charge_id: int) -> None:
    copy = text(
        "INSERT INTO plans (code, version, price, currency, every, unit, cron, zone, billing_time, trial_days, "
        "statement_name, catch_up, catch_up_cap, shift, allow_short_months, policy, created_at) "
        "SELECT 'both', version, price, currency, every, unit, '0 9 1 * *', zone, billing_time, trial_days, "
        "statement_name, catch_up, catch_up_cap, shift, allow_short_months, policy, created_at FROM plans"
    )
    assert "one_cadence" in refused(services, lambda db: db.execute(copy))


def test_one_billing_key_for_each_customer_uid(services: Services, charge_id: int) -> None:
    copy = text(
        "INSERT INTO billing_keys (customer_id, customer_uid, account, created_at) "
        "SELECT customer_id, customer_uid, account, created_at FROM billing_keys"
    )
    assert "one_billing_key_for_each_customer_uid" in refused(services, lambda db: db.execute(copy))


def test_a_whole_card_number_is_not_taken(services: Services, charge_id: int) -> None:
    words = refused(
        services, lambda db: db.execute(update(tables.billing_keys).values(card_number="4111111111111111"))
    )
    assert "card_number_is_masked" in words


@pytest.mark.parametrize("table", ["audit", "attempt_events"])
@pytest.mark.parametrize("verb", ["UPDATE {} SET at = now()", "DELETE FROM {}", "TRUNCATE {}"])
def test_history_is_append_only(
    services: Services, gateway: ScriptedGateway, charge_id: int, table: str, verb: str
) -> None:
    attempt_charge.attempt(services, charge_id)
    assert "append only" in refused(services, lambda db: db.execute(text(verb.format(table))))


@pytest.mark.parametrize("verb", ["UPDATE outbox SET payload = '{}'", "DELETE FROM outbox", "TRUNCATE outbox"])
def test_what_an_event_says_is_append_only(services: Services, verb: str) -> None:
    with services.engine.begin() as db:
        event_log.enqueue_event(db, AccountStopped(account="main", why="a double"), "main/stopped", START)
        db.execute(update(tables.outbox).values(next_try_at=None, delivered_at=START))
    assert "append only" in refused(services, lambda db: db.execute(text(verb)))


def test_one_notice_for_each_change(services: Services, charge_id: int) -> None:
    row = {"dedupe_key": "x/paid", "kind": "charge.paid", "subject": "x", "payload": {}, "created_at": START}

    def twice(db: Connection) -> None:
        for _ in range(2):
            db.execute(insert(tables.outbox).values(row))

    assert "one_notice_for_each_change" in refused(services, twice)
