"""A gateway in memory, at the seam that we own: it answers what it is told to, and remembers what it was sent."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from schedules.charging.outcomes import GatewayPayment, NotSent, Outcome, Paid, PaymentState, Refused, Unknown
from schedules.money.amounts import Money
from schedules.requests.imports import TimerEntry
from worker.clock import elapsed, wait
from worker.gateway.port import (
    BillingKey,
    CancelAnswer,
    Cancellation,
    Cancelled,
    Card,
    ChargeOrder,
    Found,
    Gateway,
    KeyAnswer,
    KeyDeclined,
    KeyMissing,
    Missed,
    NoAnswer,
    PaymentPage,
    Sending,
    Slot,
    Timed,
)

Answer = Outcome | Callable[[ChargeOrder], Outcome]


class OnAThread:
    """A charge that is begun within its slot, on a thread of its own, and told of once, as the port says."""

    def __init__(self, gateway: Gateway, order: ChargeOrder) -> None:
        self._gateway = gateway
        self._order = order

    def begin(self, until: float, slot: Slot, then: Callable[[Outcome | Missed], None]) -> None:
        threading.Thread(target=lambda: then(self._came(until, slot))).start()

    def _came(self, until: float, slot: Slot) -> Outcome | Missed:
        wait(max(0.0, slot.earliest - elapsed()))
        if elapsed() > slot.latest:
            return Missed()
        try:
            return self._gateway.charge(self._order, until)
        except Exception as error:  # noqa: BLE001 # whoever waits is told, as the port says
            return Unknown(f"a fault of ours: {error!r}")


class ScriptedGateway:
    """Approves everything unless told otherwise; its records are what a test puts there, and what it approved."""

    def __init__(self) -> None:
        self.sent: list[ChargeOrder] = []
        self.untils: list[float | None] = []
        self.answers: deque[Answer] = deque()
        self.records: dict[str, list[GatewayPayment]] = {}
        self.asked: list[str] = []
        self.ask_answer: NoAnswer | None = None
        self.unanswered: set[str] = set()  # merchant_uids about which it does not answer
        self.missing_keys: set[str] = set()
        self.keys: dict[str, BillingKey] = {}
        self.key_answers: deque[KeyAnswer] = deque()
        self.cards: dict[str, Callable[[ChargeOrder], Outcome]] = {}  # how a customer's card behaves
        self.listed: list[tuple[str, datetime, datetime, int]] = []
        self.list_answer: NoAnswer | None = None
        self.cancellations: list[Cancellation] = []
        self.typed: list[tuple[str, bool]] = []  # attempts with a card that was typed in, and whether it is kept
        self.cancel_answers: deque[CancelAnswer] = deque()
        self.schedules: list[TimerEntry] = []  # of the gateway's own timer, for whoever is asked about
        self.keeps_schedules = False  # whether it revokes nothing

    def prepare(self) -> None:
        pass

    def charge(self, order: ChargeOrder, until: float | None = None) -> Outcome:
        self.sent.append(order)
        self.untils.append(until)
        if not self.answers and order.customer_uid in self.cards:
            return self.cards[order.customer_uid](order)
        if not self.answers:
            return self.approve(order)
        answer = self.answers.popleft()
        return answer(order) if callable(answer) else answer

    def sending(self, order: ChargeOrder) -> Sending:
        return OnAThread(self, order)

    def approve(self, order: ChargeOrder) -> Paid:
        imp_uid = f"imps_{len(self.sent):012d}"
        self.remember(order, "paid", imp_uid)
        return Paid(imp_uid)

    def remember(
        self,
        order: ChargeOrder,
        status: str,
        imp_uid: str = "imps_1",
        *,
        at: datetime | None = None,
        money: Money | None = None,
        unclear: bool = False,
        reason: str = "[CC10]통장 잔액부족",
        pg_provider: str | None = "kcp",
    ) -> None:
        paid = money or order.money
        payment = GatewayPayment(
            imp_uid=imp_uid, merchant_uid=order.merchant_uid, state=PaymentState(status), amount=paid.amount,
            cancelled_amount=0, currency=paid.currency, started_at=at, paid_at=at if status == "paid" else None,
            failed_at=at if status == "failed" else None, cancelled_at=None,
            fail_reason=reason if status == "failed" else None, pg_provider=pg_provider, pg_tid=None,
            receipt_url=None, customer_uid=order.customer_uid, unclear=unclear,
        )  # fmt: skip
        self.records.setdefault(order.merchant_uid, []).append(payment)

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        self.asked.append(merchant_uid)
        if merchant_uid in self.unanswered:
            return NotSent("ConnectError")
        return self.ask_answer or Found(tuple(self.records.get(merchant_uid, ())))

    def read_key(self, customer_uid: str) -> KeyAnswer:
        if customer_uid in self.missing_keys:
            return KeyMissing(customer_uid)
        return self.keys.get(customer_uid) or BillingKey(
            customer_uid, "kcp", "A52LD", "BC카드", "53331234****1234", None, None
        )

    def wrong_with_card(self, card: Card) -> str | None:
        return None if card.number.isdecimal() else "card number is not digits"

    def charge_card(self, order: ChargeOrder, card: Card, *, keep: bool, until: float | None = None) -> Outcome:
        """As `charge`; when it is paid and kept, the key is there, in the end."""
        outcome = self.charge(order, until)
        self.typed.append((order.merchant_uid, keep))
        if keep and isinstance(outcome, Paid):
            self.missing_keys.discard(order.customer_uid)
        return outcome

    def issue_key(self, customer_uid: str, card: Card) -> KeyAnswer:
        """Store the card, unless the next answer is a refusal; then lose the answer if told to."""
        answer = self.key_answers.popleft() if self.key_answers else None
        if not isinstance(answer, KeyDeclined | Refused):
            self.missing_keys.discard(customer_uid)
            masked = f"{card.number[:8]}****{card.number[-4:]}"
            self.keys[customer_uid] = BillingKey(customer_uid, "kcp", "A52LD", "BC카드", masked, None, None)
        return answer or self.read_key(customer_uid)

    def delete_key(self, customer_uid: str) -> KeyAnswer:
        """Forget the card; then lose the answer if told to."""
        answer = self.key_answers.popleft() if self.key_answers else None
        before = self.read_key(customer_uid)
        if not isinstance(answer, Refused):
            self.missing_keys.add(customer_uid)
        return answer or before

    def timed(self, customer_uid: str, since: datetime, until: datetime) -> Timed | NoAnswer:
        return Timed(tuple(entry for entry in self.schedules if since <= entry.at <= until))

    def unschedule(self, customer_uid: str, merchant_uids: Sequence[str]) -> NoAnswer | None:
        """Revoke these schedules, unless it revokes nothing."""
        if not self.keeps_schedules:
            revoked = set(merchant_uids)
            self.schedules = [
                replace(entry, status="revoked") if entry.merchant_uid in revoked else entry
                for entry in self.schedules
            ]
        return None

    def list_payments(
        self,
        state: PaymentState,
        since: datetime,
        until: datetime,
        *,
        cursor: str | None = None,
        limit: int = 1000,
    ) -> PaymentPage | NoAnswer:
        """The payments that came to the state in the window; those without a time are in every window."""
        found = [
            payment
            for payments in self.records.values()
            for payment in payments
            if payment.state is state
            and ((at := payment.cancelled_at or payment.paid_at) is None or since <= at <= until)
        ]
        page = int(cursor or 1)
        self.listed.append((state, since, until, page))
        if self.list_answer is not None:
            return self.list_answer
        last = page * limit >= len(found)
        return PaymentPage(found[(page - 1) * limit : page * limit], len(found), None if last else str(page + 1))

    def cancel(self, cancellation: Cancellation) -> CancelAnswer:
        """Give back what is asked for, if the balance is as believed; then lose the answer if told to."""
        self.cancellations.append(cancellation)
        for payments in self.records.values():
            for place, payment in enumerate(payments):
                if payment.imp_uid == cancellation.imp_uid:
                    if payment.balance != cancellation.balance or not payment.balance:
                        return Refused("취소 가능 금액이 일치하지 않습니다.")
                    given_back = payment.cancelled_amount + cancellation.money.amount
                    payments[place] = replace(payment, state=PaymentState.CANCELLED, cancelled_amount=given_back)
                    return self.cancel_answers.popleft() if self.cancel_answers else Cancelled(payments[place])
        return Refused("취소할 결제건이 존재하지 않습니다.")

    def close(self) -> None:
        pass


class SlowToTell(ScriptedGateway):
    """Does not tell what it knows of a uid before it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.tells = threading.Event()

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        answer = super().find_all(merchant_uid)
        assert self.tells.wait(120)
        return answer
