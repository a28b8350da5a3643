"""No charge waits in silence, whatever people, workers, cards and the gateway do, in any order."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from schedules.charging.identity import parse_merchant_uid
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, PaymentState, Refused, Unknown
from schedules.dunning.policies import FinalAction
from schedules.errors import UserError
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.batches import Line, Terms
from schedules.requests.refunds import RefundRequest
from tests.doubles import ScriptedGateway
from tests.factories import LADDER, START, charge_rows, move, on_sale
from tests.model.postgres import PostgresBooks
from worker.batches import drafts, run_batch
from worker.charging import adhoc, attempt_charge, match_payments, overdue, resolve_unknown
from worker.charging.unsendable import set_aside_unsendable
from worker.clock import FixedClock
from worker.customers import adjust, cards, enrollment, issued_keys
from worker.gateway.port import BillingKey, ChargeOrder
from worker.operations import operate
from worker.reconciliation import resolve_finding, restore
from worker.reconciliation.resolve_finding import Verdict
from worker.refunds import duplicates, refund_payment
from worker.renewals import open_charges
from worker.services import Services
from worker.store.charging import next_actions, waits
from worker.store.reconciliation import findings

CUSTOMERS = ("ann", "ann-2", "bob", "eve")  # eve's card is at the second account
WHO = ("kim", "asked for it")
LEAPS = tuple(timedelta(seconds=s) for s in (1, 31, 301, 901, 3700, 7200, 86400, 4 * 86400, 30 * 86400))
DECLINES = (
    "[CC10]통장 잔액부족",
    "분실 카드",
    "유효기간 만료 카드",
    "이미 처리중인 거래입니다",
    "은행 점검 중입니다",
)
ANSWERS: tuple[Outcome, ...] = (
    *(Declined(reason, None, None, "kcp") for reason in DECLINES), Unknown("ReadTimeout"), NotSent("ConnectError"),
    Refused("no such channel"),
)  # fmt: skip
AT = st.integers(0, 9)  # one of those that there are


class Shop(RuleBasedStateMachine):
    """Each rule is a whole verb of a person, a whole chore, or something that happens outside."""

    services: Services  # of the one database that all runs use, one after the other
    empty: object  # what it held at first

    def __init__(self) -> None:
        super().__init__()
        PostgresBooks(self.services).restore(self.empty)
        self.gateways = {"main": ScriptedGateway(), "second": ScriptedGateway()}
        main = self.services.settings.main_account
        self.configured = replace(
            self.services,
            clock=FixedClock(START),
            gateways=self.gateways,
            accounts={"main": main, "second": replace(main, name="second")},
        )
        self.shop = self.configured

    @initialize(final=st.sampled_from(tuple(FinalAction)))
    def a_shop_opens(self, final: FinalAction) -> None:
        on_sale(self.shop, policy=replace(LADDER, final=final))
        on_sale(self.shop, code="dear", price=Money(29900, "KRW"), policy=replace(LADDER, final=final))
        for name, of, account in (("ann", None, "main"), ("ann-2", "ann", "main"), ("bob", None, "main"),
                                  ("eve", None, "second")):  # fmt: skip
            enrollment.add_customer(self.shop, name, None, None, None, "kim", of, account)
        for name in ("ann", "bob", "eve"):
            enrollment.subscribe(self.shop, name, "monthly", "kim")

    # ── what happens outside ──────────────────────────────────────────────────────────────────────────────────

    @rule(customer=st.sampled_from(CUSTOMERS), answer=st.sampled_from(ANSWERS), shows=st.booleans())
    def a_card_or_line_fails(self, customer: str, answer: Outcome, shows: bool) -> None:
        for gateway in self.gateways.values():
            gateway.cards[customer] = failing(gateway, answer, self.shop, shows=shows)

    @rule(customer=st.sampled_from(CUSTOMERS))
    def a_card_pays_again(self, customer: str) -> None:
        for gateway in self.gateways.values():
            gateway.cards.pop(customer, None)

    @rule(answers=st.booleans())
    def the_gateway_answers_questions_or_not(self, answers: bool) -> None:
        for gateway in self.gateways.values():
            gateway.ask_answer = None if answers else NotSent("ConnectError")

    @rule(at=AT, other=st.sampled_from((None, Money(990, "KRW"))), stranger=st.booleans())
    def a_payment_shows_late(self, at: int, other: Money | None, stranger: bool) -> None:
        for gateway in self.gateways.values():
            if gateway.sent:
                order = gateway.sent[at % len(gateway.sent)]
                order = replace(order, customer_uid="zoe") if stranger else order
                if not any(found.state == "paid" for found in gateway.records.get(order.merchant_uid, ())):
                    gateway.remember(order, "paid", f"imps_late{at}", at=self.shop.clock.now(), money=other)

    @rule(at=AT, part=st.sampled_from((None, 900)))
    def somebody_gives_money_back_in_the_console(self, at: int, part: int | None) -> None:
        for gateway in self.gateways.values():
            paid = [(uid, n) for uid, found in gateway.records.items() for n, p in enumerate(found)
                    if p.state == "paid"]  # fmt: skip
            if paid:
                uid, place = paid[at % len(paid)]
                payment = gateway.records[uid][place]
                back = min(part or payment.amount, payment.amount)
                gateway.records[uid][place] = replace(payment, state=PaymentState.CANCELLED, cancelled_amount=back)

    @rule(is_there=st.booleans())
    def the_second_account_is_configured_or_not(self, is_there: bool) -> None:
        few = {"main": self.gateways["main"]}
        self.shop = self.configured if is_there else replace(self.configured, gateways=few)

    @rule(customer=st.sampled_from(CUSTOMERS))
    def another_card_is_put_behind_a_key(self, customer: str) -> None:
        number = f"9433{self.shop.clock.now():%H%M}****1234"
        key = BillingKey(customer, "kcp", "A52LD", "KB카드", number, None, None)
        for gateway in self.gateways.values():
            gateway.keys[customer] = key

    @rule(leap=st.sampled_from(LEAPS))
    def time_passes(self, leap: timedelta) -> None:
        move(self.shop, seconds=leap.total_seconds())

    # ── workers and chores ────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def what_is_due_is_opened_and_collected(self) -> None:
        open_charges.open_due(self.shop)
        for charge in self._due():
            attempt_charge.attempt(self.shop, charge)

    @rule(at=AT)
    def a_worker_dies_with_a_claim(self, at: int) -> None:
        if due := self._due():
            with suppress(UserError):  # its row breaks a rule
                attempt_charge.claim(self.shop, due[at % len(due)])

    @rule()
    def unknown_attempts_are_asked_about(self) -> None:
        resolve_unknown.sweep(self.shop)
        for attempt in resolve_unknown.due_asks(self.shop):
            resolve_unknown.ask(self.shop, attempt)

    @rule()
    def the_chores_run(self) -> None:
        set_aside_unsendable(self.shop)
        overdue.look_due(self.shop)
        cards.look_due(self.shop, "main")
        with suppress(UserError):  # an account is not configured
            duplicates.refund_due(self.shop)
            refund_payment.make_due(self.shop)
        run_batch.go_on(self.shop)
        restore.lift_when_known(self.shop)

    @rule()
    def the_reconciler_compares(self) -> None:
        for account, gateway in self.shop.gateways.items():
            assert isinstance(gateway, ScriptedGateway)
            for found in list(gateway.records.values()):
                match_payments.compare(self.shop, account, found)

    @rule(at=AT, broken=st.booleans())
    def a_row_breaks_a_rule_or_is_mended(self, at: int, broken: bool) -> None:
        if keys := self._charges():
            which = {"currency": "XXX" if broken else "KRW", "key": keys[at % len(keys)]}
            with self.shop.engine.begin() as db:
                db.execute(text("UPDATE charges SET currency = :currency WHERE key = :key"), which)

    # ── people ────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(at=AT, verb=st.sampled_from((operate.try_now, operate.release, operate.waive,
                                       operate.cancel_charge, operate.paid_elsewhere)))  # fmt: skip
    def a_person_decides_about_a_charge(self, at: int, verb: Callable[..., None]) -> None:
        if keys := self._charges():
            with suppress(UserError):
                verb(self.shop, keys[at % len(keys)], *WHO)

    @rule(at=AT, verb=st.integers(0, 8))
    def a_person_changes_a_subscription(self, at: int, verb: int) -> None:
        key = self._subscriptions()[at % len(self._subscriptions())]
        verbs: tuple[Callable[[], object], ...] = (
            lambda: adjust.pause(self.shop, key, *WHO),
            lambda: adjust.resume(self.shop, key, *WHO),
            lambda: adjust.skip(self.shop, key, *WHO),
            lambda: adjust.undo(self.shop, key, *WHO),
            lambda: adjust.change_card(self.shop, key, "ann-2", *WHO),
            lambda: adjust.change_card(self.shop, key, "ann", *WHO),
            lambda: adjust.change_plan(self.shop, key, "dear", *WHO),
            lambda: enrollment.unsubscribe(self.shop, key, *WHO, at_period_end=True),
            lambda: enrollment.unsubscribe(self.shop, key, *WHO, at_period_end=False),
        )
        with suppress(UserError):
            verbs[verb]()

    @rule(
        customer=st.sampled_from(CUSTOMERS), number=st.integers(0, 3), policy=st.sampled_from(("once", "standard"))
    )
    def a_charge_is_asked_for(self, customer: str, number: int, policy: str) -> None:
        request = ChargeRequest(
            customer_uid=customer, money=Money(3000, "KRW"), name="Fee", request_key=f"fee-{customer}-{number}",
            reason="late", policy=policy,
        )  # fmt: skip
        with suppress(UserError):
            adhoc.charge(self.shop, request, "kim")

    @rule(stops=st.booleans())
    def a_batch_is_begun_and_stopped_or_goes_on(self, stops: bool) -> None:
        lines = [Line(n + 2, {"customer_uid": uid, "amount": "3000"}) for n, uid in enumerate(CUSTOMERS)]
        terms = Terms(key="fees", name="Late fee", reason="returned late", policy="once")
        with suppress(UserError):
            drafts.draft(self.shop, terms, lines, "kim")
            run_batch.begin(self.shop, "fees", "kim")
        run_batch.go_on(self.shop)
        with suppress(UserError):
            (run_batch.stop if stops else run_batch.resume)(self.shop, "fees", *WHO)

    @rule(at=AT, verdict=st.sampled_from(Verdict))
    def a_person_ends_a_finding(self, at: int, verdict: Verdict) -> None:
        with self.shop.engine.begin() as db:
            found = findings.listed(db)
        if found:
            with suppress(UserError):
                resolve_finding.resolve(self.shop, found[at % len(found)].id, verdict, *WHO)

    @rule(at=AT)
    def a_person_gives_money_back(self, at: int) -> None:
        if keys := self._charges():
            key = keys[at % len(keys)]
            request = RefundRequest(charge=key, money=None, request_key=f"back-{key}", reason="he sent it back")
            with suppress(UserError):
                refund_payment.ask(self.shop, request, "kim")

    @rule(customer=st.sampled_from(CUSTOMERS), deletes=st.booleans())
    def a_card_is_said_to_be_changed_or_deleted(self, customer: str, deletes: bool) -> None:
        with suppress(UserError):
            if deletes:
                issued_keys.delete(self.shop, customer, *WHO, end_subscriptions=True)
            else:
                cards.changed(self.shop, customer, *WHO)

    @rule(stops=st.booleans())
    def charging_is_stopped_or_goes_on(self, stops: bool) -> None:
        self._stop_or_resume(stops=stops)

    @rule()
    def a_hold_begins(self) -> None:
        restore.begin_hold(self.shop, *WHO)

    # ── what must be true ─────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def no_charge_waits_in_silence(self) -> None:
        """No verb and no chore leaves one; the sweep's own repair is not needed."""
        with self.services.engine.begin() as db:
            assert next_actions.stranded(db, 10) == []
            assert next_actions.untold(db, 10) == []

    def teardown(self) -> None:
        """When all works again and time passes, what still waits is what `again held` or `again unknown` lists."""
        for gateway in self.gateways.values():
            gateway.ask_answer = None
            gateway.cards.clear()
        self._stop_or_resume(stops=False)
        for _ in range(9):
            move(self.shop, days=8)
            for chore in (self.the_chores_run, self.what_is_due_is_opened_and_collected,
                          self.unknown_attempts_are_asked_about):  # fmt: skip
                chore()
            self.no_charge_waits_in_silence()
            self._stop_or_resume(stops=False)  # the breaker may have stopped it
        with self.services.engine.begin() as db:
            listed = {row.key for row in waits.held(db, 1000)} | {row.key for row in waits.for_card(db, 1000)}
            listed |= {parse_merchant_uid(row.merchant_uid).charge_key for row in waits.unknown(db, 1000)}
        recent = self.shop.clock.now() - timedelta(days=20)
        late = [row for row in charge_rows(self.shop) if row["closed_at"] is None and row["due_at"] < recent]
        assert [row["key"] for row in late if row["key"] not in listed] == []

    def _due(self) -> list[int]:
        now = self.shop.clock.now()
        rows = charge_rows(self.shop)
        return [row["id"] for row in rows if row["next_attempt_at"] is not None and row["next_attempt_at"] <= now]

    def _charges(self) -> list[str]:
        return [row["key"] for row in charge_rows(self.shop)]

    def _subscriptions(self) -> list[str]:
        with self.services.engine.begin() as db:
            return list(db.exec_driver_sql("SELECT key FROM subscriptions ORDER BY id").scalars())

    def _stop_or_resume(self, *, stops: bool) -> None:
        for account in ("*", "main", "second"):
            with suppress(UserError):
                (operate.stop_charging if stops else operate.resume_charging)(self.shop, *WHO, account)


def failing(
    gateway: ScriptedGateway, answer: Outcome, shop: Services, *, shows: bool
) -> Callable[[ChargeOrder], Outcome]:
    """A card whose calls end so; the gateway shows a record of a decline, or of a payment that nobody heard of."""

    def answers(order: ChargeOrder) -> Outcome:
        if any(found.state == "paid" for found in gateway.records.get(order.merchant_uid, ())):
            return Refused("이미 결제된 주문번호입니다")
        if isinstance(answer, Declined):
            gateway.remember(order, "failed", at=shop.clock.now(), reason=answer.reason)
        elif isinstance(answer, Unknown) and shows:
            assert isinstance(gateway.approve(order), Paid)
        return answer

    return answers


@pytest.fixture
def machine(services: Services) -> Iterator[type[Shop]]:
    """The state machine on this test's own database."""
    Shop.services = services
    Shop.empty = PostgresBooks(services).backup()
    yield Shop
    del Shop.services, Shop.empty


def test_no_charge_waits_in_silence_whatever_happens(machine: type[Shop]) -> None:
    """Guard: the rule of worker/store/charging/next_actions.py, which the sweep asks too."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=30,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=tuple(HealthCheck),
        ),
    )
