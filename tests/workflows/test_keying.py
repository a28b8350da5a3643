"""Keying: a typed card is charged once and never by a worker; signing up begins once, or not at all."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from schedules.charging.charges import ChargeStatus, KeyedIn
from schedules.charging.outcomes import Declined, NotSent, Refused, Unknown
from schedules.errors import BadRequest
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move, on_sale, subscribed
from tests.scenarios.living import live_until, notices
from worker import failpoints
from worker.charging import attempt_charge, resolve_unknown
from worker.charging.adhoc import CannotRequest
from worker.charging.close import collected
from worker.customers import adjust, card_entry, enrollment, issued_keys, signup
from worker.customers.card_entry import Keyed
from worker.customers.enrollment import CannotEnroll
from worker.customers.issued_keys import CannotIssue
from worker.customers.signup import NotSignedUp
from worker.failpoints import Failpoint
from worker.gateway.port import Card, ChargeOrder, KeyDeclined
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.services import OtherCredentials, Services
from worker.store.charging import charges
from worker.store.tables import billing_keys

CARD = Card("4000000000001091", "2030-12", "900101", "12")
SALE = ChargeRequest(
    customer_uid="ann",
    money=Money(5000, "KRW"),
    name="At the desk",
    request_key="desk-1",
    reason="bought",
    policy="once",
)


@pytest.fixture(autouse=True)
def nothing_stored(gateway: ScriptedGateway) -> None:
    """The gateway stores no card of ann's to begin with."""
    gateway.missing_keys.add("ann")


def paid(services: Services, keep: KeyedIn = KeyedIn.ONCE, request: ChargeRequest = SALE) -> Keyed:
    """What becomes of a card that is typed in."""
    return card_entry.pay(services, request, CARD, "kim", keep)


def key_deleted(services: Services) -> bool:
    """Whether our books have no card of ann's."""
    with services.engine.begin() as db:
        return bool(
            db.execute(text("SELECT deleted_at IS NOT NULL FROM billing_keys WHERE customer_uid = 'ann'")).scalar()
        )


def ask(services: Services, minutes: float) -> None:
    """Let time pass, and ask about what is unclear."""
    move(services, minutes=minutes)
    resolve_unknown.sweep(services)
    for attempt_id in resolve_unknown.due_asks(services):
        resolve_unknown.ask(services, attempt_id)


def all_rows(services: Services) -> str:
    """Every row of every table, as text."""
    with services.engine.begin() as db:
        names = list(db.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars())
        return "\n".join(str(row) for name in names for row in db.execute(text(f'SELECT * FROM "{name}"')))


def test_a_typed_card_pays_once_and_is_forgotten(services: Services, gateway: ScriptedGateway) -> None:
    assert paid(services).status is ChargeStatus.PAID
    assert paid(services) == Keyed(charge_rows(services)[0]["key"], ChargeStatus.PAID, False, None)
    assert [keep for _, keep in gateway.typed] == [False]
    assert key_deleted(services)


def test_two_who_type_the_same_at_once_pay_once(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: one_charge_for_each_request_key, and a customer who is new to both."""
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda _: paid(services), range(6)))
    assert len({one.key for one in told}) == 1
    assert sum(one.is_new for one in told) == 1
    assert len(gateway.sent) == 1


def test_nothing_of_the_card_is_in_any_row(services: Services, gateway: ScriptedGateway) -> None:
    gateway.answers.append(Unknown("time-out"))
    paid(services)
    rows = all_rows(services)
    assert "desk-1" in rows
    for secret in (CARD.number, CARD.expiry, str(CARD.birth)):
        assert secret not in rows


def test_a_card_that_is_kept_can_be_charged_afterwards(services: Services) -> None:
    assert paid(services, KeyedIn.KEEP).status is ChargeStatus.PAID
    assert not key_deleted(services)
    assert issued_keys.show(services, "ann").facts.card_number == "53331234****1234"
    on_sale(services)
    enrollment.subscribe(services, "ann", "monthly", "kim")
    collect_due(services)
    assert [row["status"] for row in charge_rows(services)] == ["paid", "paid"]


def test_a_key_that_the_payment_window_makes_later_is_taken_like_any_other(
    services: Services, gateway: ScriptedGateway
) -> None:
    paid(services)
    gateway.missing_keys.clear()
    enrollment.add_customer(services, "ann", None, None, None, "kim")
    assert not key_deleted(services)
    with pytest.raises(CannotEnroll, match="known already"):
        enrollment.add_customer(services, "ann", None, None, None, "kim")


def test_a_decline_is_the_end_and_says_why(services: Services, gateway: ScriptedGateway) -> None:
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    told = paid(services, KeyedIn.KEEP)
    assert (told.status, told.reason) == (ChargeStatus.UNCOLLECTIBLE, "[CC10]통장 잔액부족")
    assert key_deleted(services)
    assert {"charge.failed", "charge.uncollectible"} <= set(notices(services))


def test_an_unclear_answer_is_asked_about_and_never_sent_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: no worker sends a charge whose card was typed in; the stored card is another one."""
    gateway.missing_keys.clear()
    enrollment.add_customer(services, "ann", None, None, None, "kim")
    gateway.answers.append(Unknown("time-out"))
    assert paid(services).status is ChargeStatus.OPEN
    assert not paid(services).is_new
    for minutes in (1, 20, 60, 60):
        ask(services, minutes)
        collect_due(services)
    assert len(gateway.sent) == 1
    row = charge_rows(services)[0]
    assert (row["status"], "no card is kept" in row["closed_why"]) == ("canceled", True)


def test_one_that_is_found_paid_keeps_its_card(services: Services, gateway: ScriptedGateway) -> None:
    gateway.answers.append(lambda order: arrived(gateway, order))
    paid(services, KeyedIn.KEEP)
    ask(services, 1)
    assert charge_rows(services)[0]["status"] == "paid"
    assert not key_deleted(services)


def arrived(gateway: ScriptedGateway, order: ChargeOrder) -> Unknown:
    """The payment is made, and its answer is lost."""
    gateway.approve(order)
    return Unknown("ReadTimeout")


@pytest.mark.parametrize("answer", [NotSent("no line"), Refused("no contract for keyed-in payments")])
def test_what_was_not_charged_ends_at_once(services: Services, gateway: ScriptedGateway, answer: Any) -> None:
    gateway.answers.append(answer)
    told = paid(services)
    assert told.status is ChargeStatus.CANCELED
    assert answer.reason in str(told.reason)


def test_a_stopped_account_and_a_copy_of_the_database_send_nothing_and_keep_nothing(
    services: Services, gateway: ScriptedGateway
) -> None:
    with pytest.raises(OtherCredentials):
        paid(replace(services, fingerprint_in=lambda _: "of a copy"))
    operate.stop_charging(services, "kim", "look first")
    with pytest.raises(CannotRequest, match="stopped"):
        paid(services)
    assert not gateway.sent
    assert not charge_rows(services)


def test_a_card_that_cannot_be_is_refused_before_anything_is_kept(services: Services) -> None:
    with pytest.raises(BadRequest, match=r"^card: "):
        card_entry.pay(services, SALE, replace(CARD, number="x"), "kim", KeyedIn.ONCE)
    assert not charge_rows(services)


def test_another_request_under_its_key_is_refused(services: Services) -> None:
    paid(services)
    for request, keep in ((replace(SALE, name="Else"), KeyedIn.ONCE), (SALE, KeyedIn.KEEP)):
        with pytest.raises(BadRequest):
            paid(services, keep, request)


def test_nobody_tries_or_releases_it(services: Services, gateway: ScriptedGateway) -> None:
    gateway.answers.append(Unknown("asked 5000, answered 1", mismatch=True))
    key = paid(services).key
    with pytest.raises(CannotOperate):
        operate.try_now(services, key, "kim", "x")
    with services.engine.begin() as db:
        db.execute(text("UPDATE attempts SET state = 'not_sent', next_ask_at = NULL"))
        db.execute(text("UPDATE charges SET next_attempt_at = now() - interval '1 year', held_why = NULL"))
    attempt_charge.attempt(services, charge_rows(services)[0]["id"])
    assert len(gateway.sent) == 1
    assert "typed in" in charge_rows(services)[0]["held_why"]


def test_a_decline_of_a_typed_card_says_nothing_about_the_stored_one(
    services: Services, gateway: ScriptedGateway
) -> None:
    gateway.missing_keys.clear()
    enrollment.add_customer(services, "ann", None, None, None, "kim")
    gateway.answers.append(Declined("[CC04]분실 혹은 거래불가 카드"))
    paid(services)
    with services.engine.begin() as db:
        assert db.execute(text("SELECT stopped_as FROM billing_keys")).scalar() is None


class Killed(BaseException):
    """The process is gone."""


def killed_at(point: Failpoint) -> Callable[[Failpoint, str], None]:
    """Somebody who kills the process at this point."""

    def visit(reached: Failpoint, subject: str) -> None:
        if reached is point:
            raise Killed

    return visit


@pytest.mark.parametrize(
    ("point", "sent", "status"),
    [
        (Failpoint.CHARGING_CLAIMED, 0, "canceled"),
        (Failpoint.CHARGING_LOOKED, 0, "canceled"),
        (Failpoint.CHARGING_ANSWERED, 1, "paid"),
        (Failpoint.SETTLING_WRITTEN, 1, "paid"),
        (Failpoint.SETTLING_COMMITTED, 1, "paid"),
    ],
)
def test_a_signup_that_is_killed_begins_once_if_its_payment_was_made_and_not_at_all_otherwise(
    services: Services,
    gateway: ScriptedGateway,
    monkeypatch: pytest.MonkeyPatch,
    point: Failpoint,
    sent: int,
    status: str,
) -> None:
    """The guard: charge, attempt and signup are one transaction; so are the payment and the beginning."""
    on_sale(services)
    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "_action", killed_at(point))
        with pytest.raises(Killed):
            signup.sign_up(services, "ann", "monthly", CARD, "kim", "x")
    for minutes in (10, 20, 60, 60):
        ask(services, minutes)
    assert len(gateway.sent) == sent
    assert [row["status"] for row in charge_rows(services)] == [status]
    assert subscriptions(services) == (1 if status == "paid" else 0)
    live_until(services, datetime(2026, 3, 2, tzinfo=UTC))
    assert len(gateway.sent) == (2 if status == "paid" else 0)


def subscriptions(services: Services) -> int:
    """How many subscriptions there are."""
    with services.engine.begin() as db:
        return int(db.execute(text("SELECT count(*) FROM subscriptions")).scalar_one())


def test_signing_up_pays_the_first_period_and_the_second_comes_by_itself(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    begun = signup.sign_up(services, "ann", "monthly", CARD, "kim", "at the desk")
    assert begun.next_due_at == datetime(2026, 2, 28, tzinfo=UTC)
    assert "subscription.began" in notices(services)
    live_until(services, datetime(2026, 3, 1, tzinfo=UTC))
    assert [(row["kind"], row["period_no"], row["status"]) for row in charge_rows(services)] == [
        ("adhoc", 0, "paid"), ("renewal", 1, "paid"),
    ]  # fmt: skip
    with pytest.raises(NotSignedUp, match="is on plan 'monthly' already"):
        signup.sign_up(services, "ann", "monthly", CARD, "kim", "again")
    adjust.skip(services, begun.subscription, "kim", "x")


def test_a_first_payment_that_fails_leaves_nothing_that_charges_and_says_why(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    gateway.answers.append(lambda order: stored_and_declined(gateway, order))
    with pytest.raises(NotSignedUp, match=r"no subscription: \[CC10\]통장 잔액부족; the card .* is deleted"):
        signup.sign_up(services, "ann", "monthly", CARD, "kim", "at the desk")
    assert "ann" in gateway.missing_keys
    assert subscriptions(services) == 0
    assert signup.sign_up(services, "ann", "monthly", CARD, "kim", "another card").charge
    assert len({row["request_key"] for row in charge_rows(services)}) == 2


def stored_and_declined(gateway: ScriptedGateway, order: ChargeOrder) -> Declined:
    """A PG that stores the card though the payment fails."""
    gateway.missing_keys.discard(order.customer_uid)
    return Declined("[CC10]통장 잔액부족")


def test_an_unclear_first_payment_begins_when_it_is_found_paid_and_is_not_typed_twice(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: a signup that is under way; a second one would be a second payment."""
    on_sale(services)
    gateway.answers.append(lambda order: arrived(gateway, order))
    for words in ("not clear whether", "under way"):
        with pytest.raises(NotSignedUp, match=words):
            signup.sign_up(services, "ann", "monthly", CARD, "kim", "at the desk")
    ask(services, 1)
    assert subscriptions(services) == 1
    assert len(gateway.sent) == 1


def test_money_that_comes_after_it_was_called_failed_begins_nothing(
    services: Services, gateway: ScriptedGateway
) -> None:
    on_sale(services)
    gateway.answers.append(Unknown("time-out"))
    with pytest.raises(NotSignedUp):
        signup.sign_up(services, "ann", "monthly", CARD, "kim", "at the desk")
    for minutes in (20, 60, 60):
        ask(services, minutes)
    assert charge_rows(services)[0]["status"] == "canceled"
    with services.engine.begin() as db:
        charge = charges.locked(db, charge_rows(services)[0]["id"])
        assert charge is not None
        collected(db, charge, attempt_rows(services)[0]["merchant_uid"], services.clock.now())
    assert "charge.paid_after_end" in notices(services)
    assert subscriptions(services) == 0


def test_a_trial_stores_the_card_and_charges_when_it_ends(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services, trial_days=14)
    begun = signup.sign_up(services, "ann", "monthly", CARD, "kim", "at the desk")
    assert begun.charge is None
    assert not gateway.sent
    live_until(services, begun.next_due_at + timedelta(hours=1))
    assert [row["status"] for row in charge_rows(services)] == ["paid"]


def test_a_card_over_a_known_key_keeps_its_history_and_pays_what_is_open(
    services: Services, gateway: ScriptedGateway
) -> None:
    gateway.missing_keys.clear()
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    issued_keys.issue(services, "ann", CARD, "kim", "he brought another card")
    collect_due(services)
    assert charge_rows(services)[0]["status"] == "paid"
    told = issued_keys.show(services, "ann")
    changed: list[Any] = [act.details for act in told.history if act.verb == "card.changed"]
    assert changed[0]["before"]["card_number"] == "53331234****1234"
    assert changed[0]["after"]["card_number"] == "40000000****1091"


def test_a_new_card_is_stored_and_known(services: Services) -> None:
    key = issued_keys.issue(services, "ann", CARD, "kim", "at the desk")
    assert key.card_number == "40000000****1091"
    assert not key_deleted(services)
    assert CARD.number not in all_rows(services)


def test_a_new_card_that_is_declined_counts_as_deleted_and_is_not_asked_about(
    services: Services, gateway: ScriptedGateway
) -> None:
    gateway.key_answers.append(KeyDeclined("[8321]유효하지 않은 카드"))
    with pytest.raises(CannotIssue, match="유효하지 않은"):
        issued_keys.issue(services, "ann", CARD, "kim", "at the desk")
    assert key_deleted(services)
    with services.engine.begin() as db:
        key = db.execute(select(billing_keys.c.ask_at, billing_keys.c.unclear_since)).one()
    assert tuple(key) == (None, None)
    on_sale(services)
    with pytest.raises(CannotEnroll, match="deleted"):
        enrollment.subscribe(services, "ann", "monthly", "kim")


def test_an_unclear_issue_is_what_the_gateway_has_then(services: Services, gateway: ScriptedGateway) -> None:
    gateway.key_answers.append(Unknown("time-out"))
    assert issued_keys.issue(services, "ann", CARD, "kim", "at the desk").card_number == "40000000****1091"
    gateway.key_answers.append(Unknown("asked ann, answered ben", mismatch=True))
    assert issued_keys.issue(services, "ann", CARD, "kim", "at the desk").card_number == "40000000****1091"


def test_a_card_that_is_needed_is_not_deleted_and_one_that_is_not_is(
    services: Services, gateway: ScriptedGateway
) -> None:
    gateway.missing_keys.clear()
    on_sale(services)
    subscribed(services)
    collect_due(services)
    with pytest.raises(CannotIssue, match="change-card"):
        issued_keys.delete(services, "ann", "kim", "he asked", end_subscriptions=False)
    assert not key_deleted(services)
    assert issued_keys.delete(services, "ann", "kim", "he asked", end_subscriptions=True).subscriptions_ended == 1
    assert key_deleted(services)
    assert "ann" in gateway.missing_keys


def test_a_deletion_that_did_not_arrive_is_said_and_can_be_said_again(
    services: Services, gateway: ScriptedGateway
) -> None:
    issued_keys.issue(services, "ann", CARD, "kim", "at the desk")
    gateway.key_answers.append(Refused("not today"))
    first = issued_keys.delete(services, "ann", "kim", "he asked", end_subscriptions=False)
    assert (first.is_over, first.at_gateway) == (False, "not today")
    assert key_deleted(services)
    issued_keys.delete(services, "ann", "kim", "he asked", end_subscriptions=False)
    assert "ann" in gateway.missing_keys
