"""Returning: what is asked back is given back once, never more than is left, whatever dies or is lost."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from schedules.charging.outcomes import PaymentState, Refused, Unknown
from schedules.errors import BadRequest
from schedules.money.amounts import Money
from schedules.requests.refunds import Fate, RefundRequest, RefundState
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, on_sale, subscribed
from tests.scenarios.living import notices
from tests.workflows.test_reconciling import found, reconciled
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.refunds import refund_payment
from worker.services import DryRunChanges, Services
from worker.store import refunds
from worker.store.refunds import Refund


@pytest.fixture
def charge(services: Services) -> str:
    """The key of a renewal of 9,900 won that is paid."""
    on_sale(services)
    subscribed(services)
    collect_due(services)
    return str(charge_rows(services)[0]["key"])


def wanted(charge: str, key: str = "back-1", amount: int | None = None, fate: Fate = Fate.KEEP) -> RefundRequest:
    """A request for a refund."""
    money = Money(amount, "KRW") if amount else None
    return RefundRequest(charge=charge, money=money, request_key=key, reason="he sent it back", fate=fate)


def state(services: Services, key: str = "back-1") -> RefundState:
    """Where a refund stands."""
    return refund_payment.status(services, key).state


def books(services: Services) -> tuple[str, int]:
    """The charge's status, and how much of it was given back."""
    row = charge_rows(services)[0]
    return row["status"], row["refunded"]


def test_all_of_it_is_given_back_guarded_by_the_balance(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    refund_payment.ask(services, wanted(charge), "kim")
    refund_payment.make_due(services)
    (order,) = gateway.cancellations
    assert (order.money, order.balance, order.reason) == (Money(9900, "KRW"), 9900, "he sent it back")
    assert books(services) == ("refunded", 9900)
    assert state(services) is RefundState.MADE
    assert "charge.refunded" in notices(services)


def test_parts_are_given_back_until_nothing_is_left(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    for number, amount in enumerate((900, 3000)):
        refund_payment.ask(services, wanted(charge, f"part-{number}", amount), "kim")
        refund_payment.make_due(services)
    assert books(services) == ("paid", 3900)
    with pytest.raises(BadRequest, match="more than the balance 6,000 KRW"):
        refund_payment.ask(services, wanted(charge, "part-2", 6001), "kim")
    refund_payment.ask(services, wanted(charge, "part-3"), "kim")
    refund_payment.make_due(services)
    assert books(services) == ("refunded", 9900)
    assert [(c.money.amount, c.balance) for c in gateway.cancellations] == [
        (900, 9900),
        (3000, 9000),
        (6000, 6000),
    ]
    with pytest.raises(BadRequest, match="given back already"):
        refund_payment.ask(services, wanted(charge, "part-4"), "kim")


def test_the_same_asked_again_is_the_same_refund(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    """The guard: one_refund_for_each_request_key."""
    assert refund_payment.ask(services, wanted(charge, amount=900), "kim")[1]
    assert not refund_payment.ask(services, wanted(charge, amount=900), "lee")[1]
    refund_payment.make_due(services)
    assert not refund_payment.ask(services, wanted(charge, amount=900), "kim")[1]
    refund_payment.make_due(services)
    assert len(gateway.cancellations) == 1


@pytest.mark.parametrize("other", [{"amount": 901}, {"fate": Fate.END_NOW}, {}])
def test_another_refund_under_one_key_is_refused(
    services: Services, charge: str, other: dict[str, object]
) -> None:
    refund_payment.ask(services, wanted(charge, amount=900), "kim")
    with pytest.raises(BadRequest, match="other arguments"):
        refund_payment.ask(services, wanted(charge, **other), "kim")  # type: ignore[arg-type]  # keywords by name


def test_two_refunds_of_a_charge_are_not_under_way_at_once(services: Services, charge: str) -> None:
    """The guard: one_refund_at_a_time; both would be measured by the same balance."""
    refund_payment.ask(services, wanted(charge, "one", 900), "kim")
    with pytest.raises(CannotOperate, match="is under way"):
        refund_payment.ask(services, wanted(charge, "two", 900), "kim")


def test_a_refund_whose_answer_was_lost_is_looked_at_and_not_made_again(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    refund_payment.ask(services, wanted(charge, amount=900), "kim")
    gateway.cancel_answers.append(Unknown("ReadTimeout"))
    refund_payment.make_due(services)
    assert (state(services), books(services)) == (RefundState.SENDING, ("paid", 0))
    refund_payment.make_due(services)  # its lease lives
    move(services, minutes=11)
    refund_payment.make_due(services)
    assert (state(services), books(services)) == (RefundState.MADE, ("paid", 900))
    assert len(gateway.cancellations) == 1


def test_a_call_that_never_arrived_is_made_again(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    refund_payment.ask(services, wanted(charge, amount=900), "kim")
    (uid,) = gateway.records
    before = list(gateway.records[uid])
    gateway.cancel_answers.append(Unknown("ReadTimeout"))
    refund_payment.make_due(services)
    gateway.records[uid] = before
    move(services, minutes=11)
    refund_payment.make_due(services)
    assert books(services) == ("paid", 900)
    assert len(gateway.cancellations) == 2


def test_one_that_went_through_while_we_looked_is_not_called_refused(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    """The guard: after a refusal the balance is looked at again. An earlier call may have gone through late."""
    refund_payment.ask(services, wanted(charge, amount=900), "kim")
    (uid,) = gateway.records
    before = list(gateway.records[uid])
    gateway.cancel_answers.append(Unknown("ReadTimeout"))
    refund_payment.make_due(services)
    late = list(gateway.records[uid])
    gateway.records[uid] = before
    gateway.cancel_answers.append(Refused("the balance is another"))
    move(services, minutes=11)
    gateway.asked.clear()
    refund_payment.make(services, latest(services))
    assert late
    assert state(services) is RefundState.MADE


def latest(services: Services) -> Refund:
    """The refund as it stands."""
    with services.engine.begin() as db:
        return refunds.due(db, services.clock.now(), 1)[0]


def test_what_the_gateway_refuses_ends_and_is_told(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    refund_payment.ask(services, wanted(charge, amount=900), "kim")
    (uid,) = gateway.records
    before = list(gateway.records[uid])
    refusing = replace(services, gateways={"main": RefusingGateway(gateway)})
    refund_payment.make_due(refusing)
    assert gateway.records[uid] == before
    assert (state(services), books(services)) == (RefundState.REFUSED, ("paid", 0))
    assert "charge.refund_refused" in notices(services)
    assert refund_payment.ask(services, wanted(charge, "another", 900), "kim")[1]


def test_a_refund_in_an_account_that_is_not_configured_is_refused(services: Services, charge: str) -> None:
    """Guard: it would wait without a word, for no worker can make it."""
    removed = replace(services, gateways={"other": services.gateways["main"]})
    with pytest.raises(CannotOperate, match="gateway account 'main', which is not configured; there are: other"):
        refund_payment.ask(removed, wanted(charge), "kim")
    assert refund_payment.ask(services, wanted(charge), "kim")[1]


class RefusingGateway(ScriptedGateway):
    """Has the payments of another, and gives nothing back."""

    def __init__(self, other: ScriptedGateway) -> None:
        super().__init__()
        self.records = other.records

    def cancel(self, cancellation: object) -> Refused:
        return Refused("no contract for refunds")


def test_what_somebody_gave_back_elsewhere_is_not_taken_for_ours(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    """The guard: an amount that is back before we sent anything is another's refund."""
    refund_payment.ask(services, wanted(charge, amount=900), "kim")
    (uid,) = gateway.records
    gateway.records[uid] = [replace(gateway.records[uid][0], state=PaymentState.CANCELLED, cancelled_amount=900)]
    refund_payment.make_due(services)
    assert not gateway.cancellations
    assert state(services) is RefundState.REFUSED
    assert "9,000 KRW are left at the gateway, not 9,900 KRW" in str(
        refund_payment.status(services, "back-1").words
    )


def test_two_processes_make_one_refund(services: Services, gateway: ScriptedGateway, charge: str) -> None:
    """The guard: the fence; both have read it as asked for, one claims it."""
    asked, _ = refund_payment.ask(services, wanted(charge), "kim")
    refund_payment.make(services, asked)
    assert refund_payment.make(services, asked) is None
    assert len(gateway.cancellations) == 1


def test_one_that_another_process_is_at_is_left_to_it(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    """The guard: the lease."""
    refund_payment.ask(services, wanted(charge), "kim")
    gateway.cancel_answers.append(Unknown("ReadTimeout"))
    refund_payment.make_due(services)
    assert refund_payment.make(services, refund_payment.status(services, "back-1")) is None
    assert len(gateway.cancellations) == 1


def test_a_copy_of_the_database_gives_nothing_back(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    asked, _ = refund_payment.ask(services, wanted(charge), "kim")
    assert refund_payment.make(replace(services, fingerprint_in=lambda _: "of a copy"), asked) is None
    assert not gateway.cancellations


def test_the_reconciler_agrees_with_a_refund_and_waits_for_one_under_way(
    services: Services, gateway: ScriptedGateway, charge: str
) -> None:
    """The guard: a refund under way is no drift."""
    refund_payment.ask(services, wanted(charge, amount=900), "kim")
    gateway.cancel_answers.append(Unknown("ReadTimeout"))
    refund_payment.make_due(services)
    reconciled(services)
    assert found(services) == []
    move(services, minutes=11)
    refund_payment.make_due(services)
    reconciled(services)
    assert found(services) == []


@pytest.mark.parametrize(
    ("fate", "status"), [(Fate.KEEP, "active"), (Fate.END_NOW, "canceled"), (Fate.END_AT_PERIOD, "active")]
)
def test_the_fate_of_the_subscription_is_a_choice(
    services: Services, charge: str, fate: Fate, status: str
) -> None:
    refund_payment.ask(services, wanted(charge, fate=fate), "kim")
    with services.engine.begin() as db:
        row = db.execute(text("SELECT status, ends_at FROM subscriptions")).one()
    assert row.status == status
    assert (row.ends_at is None) is (fate is Fate.KEEP)


def test_what_was_not_paid_by_card_is_not_given_back(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Unknown("time-out"))
    collect_due(services)
    key = str(charge_rows(services)[0]["key"])
    with pytest.raises(BadRequest, match="is open, and not by a payment"):
        refund_payment.ask(services, wanted(key), "kim")
    with pytest.raises(BadRequest, match="is not known"):
        refund_payment.ask(services, wanted("r1"), "kim")


def test_what_was_paid_elsewhere_has_no_payment_to_give_back(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Refused("no such channel"))
    collect_due(services)
    key = str(charge_rows(services)[0]["key"])
    operate.paid_elsewhere(services, key, "kim", "cash")
    with pytest.raises(BadRequest, match="not by a payment at the gateway"):
        refund_payment.ask(services, wanted(key), "kim")


def test_the_database_lets_no_more_be_given_back_than_was_paid(services: Services, charge: str) -> None:
    with pytest.raises(IntegrityError, match="never_more_than_was_paid"), services.engine.begin() as db:
        db.execute(text("UPDATE charges SET refunded = 9901"))


def test_the_database_lets_no_request_key_be_two_refunds(services: Services, charge: str) -> None:
    refund_payment.ask(services, wanted(charge), "kim")
    refund_payment.make_due(services)
    copied = "request_fingerprint, charge_id, account, merchant_uid, imp_uid, amount, currency, balance, reason"
    columns = f"request_key, {copied}, actor, state, created_at, ended_at"
    with pytest.raises(IntegrityError, match="one_refund_for_each_request_key"), services.engine.begin() as db:
        db.execute(text(f"INSERT INTO refunds ({columns}) SELECT {columns} FROM refunds"))


def test_a_rehearsal_gives_nothing_back(services: Services, gateway: ScriptedGateway, charge: str) -> None:
    refund_payment.ask(replace(services, dry_run=DryRunChanges()), wanted(charge, fate=Fate.END_NOW), "kim")
    move(services, seconds=timedelta(hours=1).total_seconds())
    refund_payment.make_due(services)
    assert not gateway.cancellations
