"""Every path to a gateway refuses, or waits, while the account's credentials are not those it is bound to."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, time, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState, KeyedIn
from schedules.charging.outcomes import Declined, Unknown
from schedules.money.amounts import Money
from schedules.operations.findings import FindingKind, FindingState
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.batches import Line
from schedules.requests.imports import COLUMNS, Mapped
from schedules.requests.refunds import Fate, RefundRequest, RefundState
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, heard, move, on_sale
from worker.batches.drafts import BadLines
from worker.charging import attempt_charge, match_payments, prior_attempts, resolve_unknown
from worker.charging.executor import Executor
from worker.customers import card_entry, cards, enrollment, issued_keys, signup
from worker.customers.card_entry import Holder
from worker.customers.signup import NotSignedUp
from worker.gateway.port import Card, Gateway
from worker.onboarding import import_file
from worker.onboarding import takeover as takeovers
from worker.operations import operate
from worker.reconciliation import reconciler, resolve_finding, restore
from worker.reconciliation.resolve_finding import Verdict
from worker.refunds import duplicates, refund_payment
from worker.renewals import open_charges
from worker.reporting import history
from worker.services import OtherCredentials, Services, UnknownAccount
from worker.store.charging import kill_switch
from worker.store.customers.takeovers import Takeover
from worker.store.reconciliation import findings, reconciliations
from worker.store.reconciliation.reconciliations import RunKind
from worker.store.tables import charges

CALLS = frozenset(name for name in vars(Gateway) if not name.startswith("_")) - {"wrong_with_card", "close"}
CARD = Card("4000000000001091", "2030-12", "900101", "12")
WHY = ("kim", "a test")
REFUSED = "run `again adopt --account second`"


class WatchedGateway(ScriptedGateway):
    """A gateway that remembers every call of the port."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in CALLS:
            self.calls.append(name)
        return super().__getattribute__(name)


@pytest.fixture
def second() -> WatchedGateway:
    """The gateway of the further account."""
    return WatchedGateway()


@pytest.fixture
def bound(services: Services, gateway: ScriptedGateway, second: WatchedGateway) -> Services:
    """Services with a further account that is bound, a customer of it, and his charge that is due."""
    main = services.settings.main_account
    made = replace(
        services,
        gateways={"main": gateway, "second": second},
        accounts={"main": main, "second": replace(main, name="second")},
        account_fingerprints={"second": "fingerprint of the first credentials"},
    )
    operate.bind_new_accounts(made, "test")
    on_sale(made)
    enrollment.add_customer(made, "ben", None, None, None, "test", account="second")
    enrollment.subscribe(made, "ben", "monthly", "test")
    open_charges.open_due(made)
    return made


def swapped(services: Services, second: WatchedGateway) -> Services:
    """The same process after another merchant's credentials were given to the further account."""
    second.calls.clear()
    return replace(services, account_fingerprints={"second": "fingerprint of another merchant's credentials"})


def the_charge(services: Services) -> int:
    """The row id of ben's charge."""
    (found,) = [row["id"] for row in charge_rows(services) if row[charges.c.account.name] == "second"]
    assert isinstance(found, int)
    return found


def tried(services: Services, second: WatchedGateway, outcome: Declined | Unknown | None = None) -> str:
    """Try ben's charge once; the attempt's uid."""
    if outcome is not None:
        second.answers.append(lambda order: outcome)
    attempt_charge.attempt(services, the_charge(services))
    return str(attempt_rows(services)[-1]["merchant_uid"])


def twice_paid(services: Services, second: WatchedGateway) -> int:
    """A declined attempt of ben's turns paid after its successor was paid; the finding's number."""
    first = tried(services, second, Declined("은행 점검 중입니다"))
    move(services, days=1)
    tried(services, second)
    second.remember(second.sent[0], "paid", "imps_late")
    match_payments.compare(services, "second", second.records[first])
    with services.engine.begin() as db:
        (finding,) = findings.listed(db)
    assert finding.kind is FindingKind.DOUBLE
    return finding.id


# Each path: what is arranged while the credentials are right, and then done with the others.
Path = Callable[[Services, Callable[[], Services], WatchedGateway], object]


def unknown(services: Services, second: WatchedGateway) -> str:
    """An attempt of ben's whose outcome is unknown, an hour ago; its uid."""
    uid = tried(services, second, Unknown("timeout"))
    move(services, hours=1)
    return uid


def ask(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    unknown(services, second)
    (row,) = attempt_rows(services)
    assert resolve_unknown.ask(swap(), row["id"]) is None
    assert attempt_rows(services)[0]["state"] == AttemptState.UNKNOWN


def hear(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    uid = tried(services, second, Declined("한도초과"))
    heard(swap(), uid)


def reconcile(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    other = swap()
    reconciler.begin_due(other, "second")
    reconciler.go_on(other, "second")
    with services.engine.begin() as db:
        run = reconciliations.newest(db, "second", RunKind.HOURLY)
    assert run is not None
    assert run.ended_at is None
    assert REFUSED in (run.words or "")


def reconcile_as_asked(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    now = services.clock.now()
    reconciler.begin_asked(swap(), "second", now - timedelta(days=2), now)


def lift_a_hold(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    restore.begin_hold(services, *WHY)
    move(services, hours=1)
    assert REFUSED in (restore.lift_when_known(swap()) or "")
    with services.engine.begin() as db:
        assert kill_switch.hold(db) is not None


def ask_for_prior_attempts(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    assert not prior_attempts.ask(swap(), the_charge(services))


def look_at_schedules(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    takeovers.look(swap(), "ben", "monthly")


def finish_takeover(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    mapped = Mapped(time(9), (("uid", date(2026, 3, 1)),))
    takeover = Takeover(1, 1, 1, "ben", "second", 1, "monthly", "s", mapped, *WHY, another=False, taken_at=None)
    takeovers.finish(swap(), takeover)


def read_changed_card(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    cards.changed(swap(), "ben", *WHY)


def repair_a_finding(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    uid = tried(services, second, Declined("은행 점검 중입니다"))
    second.remember(second.sent[0], "paid", "imps_late")
    match_payments.compare(swap(), "second", second.records[uid])
    assert attempt_rows(services)[0]["state"] == AttemptState.DECLINED


def call_unpaid(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    number = twice_paid(services, second)
    resolve_finding.resolve(swap(), number, Verdict.UNPAID, *WHY)


def refund_a_double(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    number = twice_paid(services, second)
    duplicates.approve(services, number, *WHY)
    duplicates.refund_due(swap())
    with services.engine.begin() as db:
        (finding,) = findings.listed(db)
    assert finding.state is FindingState.APPROVED


def refund(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    tried(services, second)
    request = RefundRequest(
        charge=charge_rows(services)[0]["key"], money=None, request_key="back", reason="sent back", fate=Fate.KEEP
    )
    before, _ = refund_payment.ask(services, request, "kim")
    refund_payment.make_due(swap())
    assert refund_payment.status(services, "back").state is before.state is not RefundState.MADE


def issue_card(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    issued_keys.issue(swap(), "zoe", CARD, *WHY, Holder(account="second"))


def delete_card(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    enrollment.add_customer(services, "zoe", None, None, None, "test", account="second")
    try:
        issued_keys.delete(swap(), "zoe", *WHY, end_subscriptions=False)
    finally:
        with services.engine.begin() as db:
            query = text("SELECT deleted_at FROM billing_keys WHERE customer_uid = 'zoe'")
            assert db.execute(query).scalar_one() is None


def show_card(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    shown = issued_keys.show(swap(), "ben")
    assert REFUSED in str(shown.at_gateway["none"])
    assert shown.key.account == "second"


def show_and_ask(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    uid = tried(services, second, Unknown("timeout"))
    assert REFUSED in str(history.show(swap(), uid, ask_gateway=True))


def add_customer(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    enrollment.add_customer(swap(), "zoe", None, None, None, "test", account="second")


def import_a_line(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    columns = {"customer_uid": "zoe", "plan": "monthly", "next_date": "2026-02-28", "anchor": "2025-12-31",
               "account": "second", "external_ref": "1"}  # fmt: skip
    other = swap()
    with pytest.raises(BadLines, match="again adopt --account second"):
        import_file.check(other, [Line(2, {name: columns.get(name, "") for name in COLUMNS})])


def charge_typed_card(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    card_entry.pay(swap(), request_of("zoe"), CARD, "kim", KeyedIn.ONCE, Holder(account="second"))


def sign_up_again(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    second.missing_keys.add("zoe")
    again = "the first payment failed"
    second.answers.append(Declined("한도초과"))
    with pytest.raises(NotSignedUp, match=again):
        signup.sign_up(services, "zoe", "monthly", CARD, *WHY, Holder(account="second"), request_key="zoe-1")
    with pytest.raises(NotSignedUp, match=again):
        signup.sign_up(swap(), "zoe", "monthly", CARD, *WHY, Holder(account="second"), request_key="zoe-1")


def begin_an_envelope(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    Executor(swap()).begin_many([the_charge(services)], "second").wait()


def carry_out_what_was_claimed(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    claimed = attempt_charge.claim(services, the_charge(services))
    assert claimed is not None
    assert attempt_charge.carry_out(swap(), claimed) is AttemptState.READY


def charge_in_an_executor(services: Services, swap: Callable[[], Services], second: WatchedGateway) -> None:
    assert Executor(swap()).attempt(the_charge(services)) is None


def request_of(customer_uid: str) -> ChargeRequest:
    """An ad-hoc charge of a customer's."""
    return ChargeRequest(customer_uid=customer_uid, money=Money(5000, "KRW"), name="At the desk",
                         request_key="desk-1", reason="bought", policy="once")  # fmt: skip


# By the function that takes the gateway: tests/architecture/test_gateway_paths.py compares it with the code.
REFUSE: dict[str, Path] = {
    "reconciler.begin_asked": reconcile_as_asked,
    "takeover._entries": look_at_schedules,
    "takeover.finish": finish_takeover,
    "cards.changed": read_changed_card,
    "resolve_finding._call_unpaid": call_unpaid,
    "issued_keys._issue": issue_card,
    "issued_keys.delete": delete_card,
    "issued_keys._delete_there": delete_card,
    "enrollment.add_customer": add_customer,
    "card_entry.pay": charge_typed_card,
}
WAIT_OR_SAY_SO: dict[str, Path] = {
    "resolve_unknown.ask": ask,
    "payment_webhooks._look": hear,
    "payment_lists._gateway": reconcile,
    "restore._go_on": lift_a_hold,
    "prior_attempts._found": ask_for_prior_attempts,
    "match_payments._mend": repair_a_finding,
    "duplicates.refund": refund_a_double,
    "refund_payment.make": refund,
    "issued_keys._at_gateway": show_card,
    "history._at_gateway": show_and_ask,
    "import_file._key_of": import_a_line,
    "signup._why_not": sign_up_again,
    "executor._prepare": begin_an_envelope,
}
# Those that send what was claimed: the pre-send check compares the credentials.
SEND: dict[str, Path] = {
    "attempt_charge.send": carry_out_what_was_claimed,
    "executor.send": charge_in_an_executor,
}
NOTHING_YET = frozenset(
    {"sending", "prepare"}
)  # they send no payment; a claimed attempt takes them before the look


@pytest.mark.parametrize("path", REFUSE.values(), ids=REFUSE)
def test_what_a_person_asks_for_is_refused_before_the_other_merchant_hears_of_it(
    bound: Services, second: WatchedGateway, path: Path
) -> None:
    """Guard: the account's credentials are compared where a path takes its gateway."""
    with pytest.raises(OtherCredentials, match=REFUSED):
        path(bound, lambda: swapped(bound, second), second)
    assert second.calls == []


@pytest.mark.parametrize("path", WAIT_OR_SAY_SO.values(), ids=WAIT_OR_SAY_SO)
def test_what_runs_by_itself_waits_and_does_not_ask_the_other_merchant(
    bound: Services, second: WatchedGateway, path: Path
) -> None:
    path(bound, lambda: swapped(bound, second), second)
    assert second.calls == []


@pytest.mark.parametrize("path", SEND.values(), ids=SEND)
def test_what_is_claimed_is_not_sent_to_the_other_merchant(
    bound: Services, second: WatchedGateway, path: Path
) -> None:
    path(bound, lambda: swapped(bound, second), second)
    assert set(second.calls) <= NOTHING_YET
    assert second.sent == []


def test_the_main_account_is_not_asked_with_another_merchants_key_either(
    bound: Services, gateway: ScriptedGateway
) -> None:
    """Guard: it would answer that there is no such payment, and the charge would be sent again."""
    enrollment.add_customer(bound, "ann", None, None, None, "test")
    enrollment.subscribe(bound, "ann", "monthly", "test")
    open_charges.open_due(bound)
    gateway.answers.append(lambda order: Unknown("timeout"))
    (charge,) = [row["id"] for row in charge_rows(bound) if row["account"] == "main"]
    attempt_charge.attempt(bound, charge)
    move(bound, hours=1)
    other = replace(bound, fingerprint_in=lambda _: "with another key")
    (row,) = attempt_rows(bound)
    assert resolve_unknown.ask(other, row["id"]) is None
    assert gateway.asked == []
    assert attempt_rows(bound)[0]["state"] == AttemptState.UNKNOWN
    with pytest.raises(OtherCredentials, match="belongs to another environment"):
        other.gateway("main")
    move(bound, hours=1)
    assert resolve_unknown.ask(bound, row["id"]) is not None


def test_a_refund_of_an_account_that_was_removed_waits_and_keeps_no_other_waiting(
    bound: Services, gateway: ScriptedGateway, second: WatchedGateway
) -> None:
    tried(bound, second)
    enrollment.add_customer(bound, "ann", None, None, None, "test")
    enrollment.subscribe(bound, "ann", "monthly", "test")
    open_charges.open_due(bound)
    for row in charge_rows(bound):
        attempt_charge.attempt(bound, row["id"])
        request = RefundRequest(
            charge=row["key"], money=None, request_key=row["account"], reason="sent back", fate=Fate.KEEP
        )
        refund_payment.ask(bound, request, "kim")
    removed = replace(bound, gateways={"main": gateway}, account_fingerprints={})
    with pytest.raises(UnknownAccount):
        removed.gateway("second")
    refund_payment.make_due(removed)
    assert refund_payment.status(bound, "main").state is RefundState.MADE
    assert refund_payment.status(bound, "second").state is not RefundState.MADE
