"""The state of the simulated gateway: billing keys, payments, and movements of money."""

import bisect
import heapq
from collections.abc import Callable
from typing import Any

from simulator.cards import BadCard, SimulatedCard, card_from_number
from simulator.clock import Clock
from simulator.faults import Fault, Faults, Rule
from simulator.kept import Kind
from simulator.ledger import Ledger, Movement
from simulator.payments import Key, Order, Payment
from simulator.traffic import Traffic
from simulator.words import Scenario

UNKNOWN_BUYER = "등록되지 않은 구매자입니다."
UID_IS_USED = "이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)"
CHECKING = "카드정보 인증에 실패하였습니다."
ISSUING = "카드정보 인증 및 빌키 발급에 실패하였습니다."
BAD_NUMBER = "[F112]유효하지않은 카드번호를 입력하셨습니다. (card_bin 없음)"
LATE_WORDS = "카드사 점검중입니다. 잠시 후 다시 시도하십시오"  # a definite decline; the payment turns paid later
ALL = "all"


class Refusal(Exception):
    """A refusal of PortOne or of the gateway: a code other than 0 and a message."""

    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Shop:
    """One merchant's account at the simulated gateway."""

    def __init__(self, faults: Faults, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.faults = faults
        self.announce: Callable[[Payment], None] = lambda _: None  # set by Webhooks
        self.save: Callable[[], None] = lambda: None  # set by Keeping when the shop is stored in a file
        self.changed: set[tuple[Kind, str]] | None = None  # since the last save; None without a file
        self.forget()

    def forget(self) -> None:
        """Reset everything but the faults and the clock."""
        self.keys: dict[str, Key] = {}
        self.payments: dict[str, Payment] = {}
        self.by_uid: dict[str, list[Payment]] = {}
        self.by_customer: dict[str, list[Payment]] = {}
        self.prepared: dict[str, dict[str, Any]] = {}
        self.ledger = Ledger()
        self.traffic = Traffic()
        self._by_time: dict[str, list[tuple[int, str]]] = {}  # by status: time of the change, and imp_uid
        self._late: list[tuple[float, str]] = []  # a heap of payments that turn paid later
        self._hidden_until = 0.0  # from then on every payment is shown
        self._number = 0
        self.is_forgotten = True

    def note(self, kind: Kind, name: str) -> None:
        """Record that a record has changed, for the next save."""
        if self.changed is not None:
            self.changed.add((kind, name))

    def take_back(self, payment: Payment) -> None:
        """Add a payment from the file; call it in the order of their creation."""
        self._number = int(payment.imp_uid.rpartition("_")[2])
        self._add(payment)
        self._list(payment)
        self._hidden_until = max(self._hidden_until, payment.shown_from)
        if payment.turns_paid_at and not payment.paid_at:
            heapq.heappush(self._late, (payment.turns_paid_at, payment.imp_uid))

    def card_of(self, number: str, pg: str | None) -> SimulatedCard:
        """The card of a number; an invalid number is refused with the gateway's text."""
        try:
            return card_from_number(number, pg)
        except BadCard:
            raise Refusal(-1, f"{CHECKING} {BAD_NUMBER}") from None

    def put_key(self, customer_uid: str, card: SimulatedCard, buyer: dict[str, str | None] | None = None) -> Key:
        """Store a card under a customer_uid; it replaces an earlier one."""
        now = int(self.clock.now())
        older = self.keys.get(customer_uid)
        inserted = older.inserted if older else now
        key = Key(customer_uid, card, inserted, now, self.faults.sandbox, buyer or {})
        self.keys[customer_uid] = key
        self.note(Kind.KEY, customer_uid)
        return key

    def drop_key(self, customer_uid: str) -> None:
        """Delete a billing key."""
        del self.keys[customer_uid]
        self.note(Kind.KEY, customer_uid)

    def issue(self, customer_uid: str, card: SimulatedCard, buyer: dict[str, str | None]) -> Key:
        """Issue a billing key, unless the scenario of the card refuses it."""
        if card.scenario is Scenario.REFUSE_ISSUE:
            raise Refusal(-1, f"{ISSUING} {BAD_NUMBER}")
        return self.put_key(customer_uid, card, buyer)

    def key_of(self, customer_uid: str) -> Key:
        """The key of a customer_uid; raises Refusal when there is none."""
        try:
            return self.keys[customer_uid]
        except KeyError:
            words = f"요청하신 customer_uid({customer_uid})로 등록된 정보를 찾을 수 없습니다."
            raise Refusal(1, words, self.faults.unknown_key) from None

    def refuse_used_uid(self, uid: str) -> None:
        """Refuse a uid that was paid, also one that was refunded since.

        The payment of a call under way does not count, unless `concurrent_same_uid` is `reject`: then a second
        concurrent call is refused too.
        """
        self.turn_late_paid()
        strict = self.faults.concurrent_same_uid == "reject"
        payments = self.by_uid.get(uid, ())
        if any(payment.paid_at and (strict or not payment.call_is_open) for payment in payments):
            raise Refusal(-1, UID_IS_USED)
        if strict and self.traffic.in_flight(uid) > 1:
            raise Refusal(-1, UID_IS_USED)

    def charge(
        self, order: Order, card: SimulatedCard, rule: Rule | None = None
    ) -> tuple[Payment, Movement | None]:
        """Charge a card without further checks; the movement is None when the card declines."""
        now = self.clock.now()
        fault = rule.fault if rule else None
        amount = order.amount + 100 if fault is Fault.WRONG_AMOUNT else order.amount
        payment = self._payment(order, card, amount, now)
        if rule:
            self._hide(payment, now + (rule.seconds if fault is Fault.LATE_SHOWN else rule.shown_after), now)
        refusal = card.refusal(now)
        self.note(Kind.KEY, order.customer_uid or "")  # its card counts the tries
        if refusal is None:
            if not rule or fault is not Fault.LATE_PAID:
                return payment, self._pay(payment, now, late=False)
            refusal = LATE_WORDS
            self._turn_paid_at(payment, now + rule.seconds)
        elif card.scenario is Scenario.LINE_FAULT_PAID:
            self._turn_paid_at(payment, now + card.k)
        payment.failed_at, payment.fail_reason = int(now), refusal
        self._become(payment, "failed", now)
        return payment, None

    def cancel(self, payment: Payment, amount: float, checksum: float | None, reason: str | None) -> Movement:
        """Refund a part of a payment; 0 means all of it."""
        if not payment.paid_at:
            raise Refusal(1, "취소할 결제건이 존재하지 않습니다.")
        if payment.balance <= 0:
            raise Refusal(1, "이미 전액취소된 주문입니다.")
        if checksum is not None and checksum != payment.balance:
            raise Refusal(
                1, f"취소 가능 금액이 일치하지 않습니다. (checksum {checksum:g}, 잔액 {payment.balance:g})"
            )
        back = amount or payment.balance
        if back > payment.balance:
            raise Refusal(1, f"취소 요청 금액이 취소 가능 금액을 초과합니다. (잔액 {payment.balance:g})")
        now = self.clock.now()
        payment.cancelled_at, payment.cancel_reason = int(now), reason
        payment.add_cancel(back, int(now), reason)
        self._become(payment, "cancelled", now)
        return self._noted(self.ledger.cancel(payment, back, now))

    def shown(self, payments: list[Payment]) -> list[Payment]:
        """The payments that are visible now."""
        self.turn_late_paid()
        now = self.clock.now()
        if now >= self._hidden_until:
            return list(payments)
        return [payment for payment in payments if payment.shown_from <= now]

    def between(self, status: str, since: int, until: int) -> list[Payment]:
        """The payments that reached a status within a span of time, ends included, oldest first."""
        self.turn_late_paid()
        times = self._by_time.get(status, [])
        first = bisect.bisect_left(times, (since, ""))
        last = bisect.bisect_right(times, (until, "\uffff"))
        return self.shown([self.payments[imp_uid] for _, imp_uid in times[first:last]])

    def turn_late_paid(self) -> None:
        """Turn the payments paid that were reported as failed and whose time has come."""
        while self._late and self._late[0][0] <= self.clock.now():
            _, imp_uid = heapq.heappop(self._late)
            payment = self.payments[imp_uid]
            payment.fail_reason, payment.failed_at = None, 0
            self._pay(payment, self.clock.now(), late=True)
            self.announce(payment)

    def _payment(self, order: Order, card: SimulatedCard, amount: float, now: float) -> Payment:
        self._number += 1
        payment = Payment(
            imp_uid=f"imps_{self._number:012d}", order=order, amount=amount, status="ready", started_at=int(now),
            card=card, sandbox=self.faults.sandbox,
        )  # fmt: skip
        self._add(payment)
        return payment

    def _add(self, payment: Payment) -> None:
        self.payments[payment.imp_uid] = payment
        self.by_uid.setdefault(payment.merchant_uid, []).append(payment)
        if payment.customer_uid:
            self.by_customer.setdefault(payment.customer_uid, []).append(payment)

    def _turn_paid_at(self, payment: Payment, at: float) -> None:
        payment.turns_paid_at = at
        heapq.heappush(self._late, (at, payment.imp_uid))

    def _pay(self, payment: Payment, now: float, *, late: bool) -> Movement:
        payment.paid_at = int(now)
        self._become(payment, "paid", now)
        return self._noted(self.ledger.charge(payment, now, late=late))

    def _noted(self, movement: Movement) -> Movement:
        self.note(Kind.MOVEMENT, movement.name)
        return movement

    def _become(self, payment: Payment, status: str, now: float) -> None:
        """Change the status of a payment, and its place in the lists by time."""
        for name in (payment.status, ALL):
            times = self._by_time.get(name, [])
            place = bisect.bisect_left(times, (payment.updated_at, payment.imp_uid))
            if place < len(times) and times[place][1] == payment.imp_uid:
                del times[place]
        payment.status, payment.updated_at = status, int(now)
        self._list(payment)
        self.note(Kind.PAYMENT, payment.imp_uid)

    def _list(self, payment: Payment) -> None:
        for name in (payment.status, ALL):
            bisect.insort(self._by_time.setdefault(name, []), (payment.updated_at, payment.imp_uid))

    def _hide(self, payment: Payment, until: float, now: float) -> None:
        if until > now:
            payment.shown_from = until
            self._hidden_until = max(self._hidden_until, until)
