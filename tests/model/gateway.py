"""A gateway on the simulated clock, with a ledger of its own; the calls to it are stops of the processes."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from schedules.charging.identity import parse_merchant_uid
from schedules.charging.outcomes import (
    Declined,
    GatewayPayment,
    NotSent,
    Outcome,
    Paid,
    PaymentState,
    Refused,
    Unknown,
)
from schedules.money.amounts import Money
from tests.doubles import OnAThread
from tests.model.stage import Stage
from worker.clock import Clock
from worker.gateway.port import (
    BillingKey,
    CancelAnswer,
    Cancellation,
    Card,
    ChargeOrder,
    Found,
    KeyAnswer,
    NoAnswer,
    PaymentPage,
    Sending,
    Timed,
)

ARRIVING = "gateway.arriving"  # the request is on its way
CHECKED = "gateway.checked"  # the uid was found unpaid; whoever else stands here with it is taken as well
TAKEN = "gateway.taken"  # the money has moved or not, nothing is answered

UNCLEAR_WORDS = "시간초과"
# What the call deadline leaves beside the read time-out: a request that leaves later is not waited for in full.
MOST_AFTER_LOOK = timedelta(seconds=15)


class Fate(StrEnum):
    """What becomes of a call; without any fault the card decides."""

    AS_CARD = "as_card"
    NOT_SENT = "not_sent"  # no connection
    REFUSED = "refused"  # our set-up is wrong
    LOST_BEFORE = "lost_before"  # the connection breaks, and the gateway never saw the request
    LOST_REPLY = "lost_reply"  # the connection breaks after the bank has answered
    SLOW = "slow"  # the call times out, and the bank answers later
    SHOWN_LATE = "shown_late"  # the reply is lost, and the records show the payment later
    UNCLEAR = "unclear"  # failed in words that name a time-out
    UNCLEAR_PAID = "unclear_paid"  # the same, though the money moved; the records show it later
    LATE_PAID = "late_paid"  # declined, and paid later all the same
    SHOWN_HOURS_LATE = "shown_hours_late"  # as shown late, and longer than any quiet time
    UNCLEAR_HOURS_LATE = "unclear_hours_late"  # the same, shown as failed in unclear words for days before
    RECORDLESS = "recordless"  # declined before the gateway looks at the uid: it keeps no record
    OTHER_AMOUNT = "other_amount"  # the bank takes another amount
    OTHER_AMOUNT_LOST = "other_amount_lost"  # the same, and the reply is lost


SHOWN_LATE = (Fate.SHOWN_LATE, Fate.SHOWN_HOURS_LATE, Fate.UNCLEAR_HOURS_LATE)
UNCLEAR_PAID = (Fate.UNCLEAR_PAID, Fate.UNCLEAR_HOURS_LATE)


@dataclass(slots=True)
class Weather:
    """A call's fate, and how long what is late takes."""

    fate: Fate = Fate.AS_CARD
    delay: timedelta = timedelta(0)


@dataclass(slots=True)
class Payment:
    """A line of the ledger."""

    imp_uid: str
    merchant_uid: str
    customer_uid: str
    money: Money
    paid: bool
    at: datetime  # when the bank answered
    shown_at: datetime
    turns_paid_at: datetime | None = None  # a failed one that the bank pays after all
    unclear: bool = False  # its call failed in words that leave open whether the money moved
    paid_shown_at: datetime | None = None  # until then the records call it failed, though the money has moved
    left_stale: bool = False  # its call left after its worker's lease had lapsed (crash row 11)

    def is_paid(self, now: datetime) -> bool:
        """Whether the money has moved by now."""
        return (self.paid and self.at <= now) or self.has_turned(now)

    def has_turned(self, now: datetime) -> bool:
        """Whether it failed first and was paid after all (crash row 16)."""
        return self.turns_paid_at is not None and self.turns_paid_at <= now

    def shown(self, now: datetime) -> GatewayPayment:
        """The payment as the gateway's records tell it."""
        paid = self.is_paid(now) and (self.paid_shown_at is None or self.paid_shown_at <= now)
        paid_at = (self.turns_paid_at if self.has_turned(now) else self.at) if paid else None
        return GatewayPayment(
            imp_uid=self.imp_uid, merchant_uid=self.merchant_uid,
            state=PaymentState.PAID if paid else PaymentState.FAILED,
            amount=self.money.amount, cancelled_amount=0, currency=self.money.currency, started_at=self.at,
            paid_at=paid_at, failed_at=None if paid else self.at, cancelled_at=None,
            fail_reason=None if paid else UNCLEAR_WORDS if self.unclear else "[CC10]통장 잔액부족",
            pg_provider="kcp", pg_tid=None, receipt_url=None,
            customer_uid=self.customer_uid, unclear=self.unclear and not paid,
        )  # fmt: skip


class ModelGateway:
    """Refuses a uid that is paid, takes a failed one again, and takes both of two calls at once."""

    def __init__(self, clock: Clock, stage: Stage, last_look_covers: timedelta) -> None:
        self.ledger: dict[str, list[Payment]] = defaultdict(list)
        self.by_debt: dict[str, list[Payment]] = defaultdict(list)  # the same, by the charge key in the uid
        self.declining: set[str] = set()  # customers whose card is declined for now
        self.weather: Callable[[], Weather] = Weather
        self.answers_asks: Callable[[], bool] = lambda: True
        self.calls = 0
        self.keeps_until = True  # the guard `until` of the port
        self.broken_rules: list[str] = []  # what no worker may do, seen from here
        self._clock = clock
        self._stage = stage
        self._pre_send_check_covers = last_look_covers

    def prepare(self) -> None:
        pass

    def sending(self, order: ChargeOrder) -> Sending:
        return OnAThread(self, order)

    def charge(self, order: ChargeOrder, until: float | None = None) -> Outcome:
        uid = order.merchant_uid
        if self._woke_too_late():
            return NotSent("there is too little time left for this call")
        if self._stage.current is not None:
            self._stage.current.called_at = self._clock.now()
        self._stage.stop(ARRIVING, uid)
        weather = self.weather()
        match weather.fate:
            case Fate.NOT_SENT:
                return NotSent("ConnectError")
            case Fate.REFUSED:
                return Refused("인증에 실패하였습니다.")
            case Fate.LOST_BEFORE:
                return Unknown("ReadError")
            case Fate.RECORDLESS:
                return Declined("[CC10]통장 잔액부족", "CC10")
        if any(payment.is_paid(self._clock.now()) for payment in self.ledger[uid]):
            return Unknown("uid already used: 이미 결제된 주문번호입니다.")
        self._stage.stop(CHECKED, uid)
        payment = self._take(order, weather)
        self._stage.stop(TAKEN, uid)
        return self._answer(order, payment, weather.fate)

    def _woke_too_late(self) -> bool:
        """What `until` keeps from leaving, on this clock: the caller was frozen after its pre-send check."""
        caller = self._stage.current
        if caller is None or caller.looked_at is None or not self.keeps_until:
            return False
        return self._clock.now() > caller.looked_at + MOST_AFTER_LOOK

    def _take(self, order: ChargeOrder, weather: Weather) -> Payment:
        now = self._clock.now()
        self.calls += 1
        declined = order.customer_uid in self.declining or weather.fate in (Fate.LATE_PAID, Fate.UNCLEAR)
        other = weather.fate in (Fate.OTHER_AMOUNT, Fate.OTHER_AMOUNT_LOST)
        money = Money(order.money.amount + 1, order.money.currency) if other else order.money
        answered_at = now + weather.delay if weather.fate is Fate.SLOW else now
        payment = Payment(
            imp_uid=f"imps_{self.calls:012d}",
            merchant_uid=order.merchant_uid,
            customer_uid=order.customer_uid,
            money=money,
            paid=not declined,
            at=answered_at,
            shown_at=answered_at + weather.delay if weather.fate in SHOWN_LATE else answered_at,
            turns_paid_at=now + weather.delay if weather.fate is Fate.LATE_PAID else None,
            unclear=weather.fate in (Fate.UNCLEAR, *UNCLEAR_PAID),
            paid_shown_at=self._paid_shown_at(weather, now) if not declined else None,
            left_stale=self._left_stale(order, now),
        )
        self.ledger[order.merchant_uid].append(payment)
        self.by_debt[parse_merchant_uid(order.merchant_uid).charge_key].append(payment)
        return payment

    def _paid_shown_at(self, weather: Weather, now: datetime) -> datetime | None:
        times = 20 if weather.fate is Fate.UNCLEAR_HOURS_LATE else 1
        return now + times * weather.delay if weather.fate in UNCLEAR_PAID else None

    def _left_stale(self, order: ChargeOrder, now: datetime) -> bool:
        """Whether the caller's lease is over; a pre-send check must have covered the call when it was made."""
        caller = self._stage.current
        if caller is None or caller.lease_until is None:
            return False
        if caller.looked_at is None:
            self.broken_rules.append(f"{order.merchant_uid} was sent without a pre-send check")
        elif caller.called_at is not None and caller.called_at > caller.looked_at + MOST_AFTER_LOOK:
            self.broken_rules.append(f"{order.merchant_uid} was sent long after its pre-send check")
        elif caller.looked_at + self._pre_send_check_covers > caller.lease_until:
            self.broken_rules.append(f"{order.merchant_uid} was sent though its lease could not outlast the call")
        return now > caller.lease_until

    def _answer(self, order: ChargeOrder, payment: Payment, fate: Fate) -> Outcome:
        if fate in (Fate.LOST_REPLY, Fate.SLOW, *SHOWN_LATE, Fate.OTHER_AMOUNT_LOST):
            return Unknown("ReadTimeout")
        if fate in (Fate.UNCLEAR, Fate.UNCLEAR_PAID):
            return Unknown(f"unclear failure: {UNCLEAR_WORDS}")
        if not payment.paid:
            return Declined("[CC10]통장 잔액부족", "CC10", payment.imp_uid, "kcp")
        if payment.money != order.money:
            return Unknown(f"amount: asked {order.money}, answered {payment.money}", mismatch=True)
        return Paid(payment.imp_uid, payment.at, "kcp")

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        if not self.answers_asks():
            return Unknown("503")
        now = self._clock.now()
        shown = [payment.shown(now) for payment in self.ledger.get(merchant_uid, ()) if payment.shown_at <= now]
        return Found(tuple(shown))

    def list_payments(
        self,
        state: PaymentState,
        since: datetime,
        until: datetime,
        *,
        cursor: str | None = None,
        limit: int = 1000,
    ) -> PaymentPage | NoAnswer:
        if not self.answers_asks():
            return Unknown("503")
        now = self._clock.now()
        listed = sorted(
            (
                payment.shown(now)
                for payments in self.ledger.values()
                for payment in payments
                if since <= payment.at <= until and payment.shown_at <= now
            ),
            key=lambda payment: payment.imp_uid,
        )
        wanted = [payment for payment in listed if payment.state is state]
        page = int(cursor or 1)
        part = wanted[(page - 1) * limit : page * limit]
        return PaymentPage(tuple(part), len(wanted), str(page + 1) if len(wanted) > page * limit else None)

    def read_key(self, customer_uid: str) -> KeyAnswer:
        return BillingKey(customer_uid, "kcp", "A52LD", "BC카드", "53331234****1234", None, None)

    def issue_key(self, customer_uid: str, card: Card) -> KeyAnswer:
        return self.read_key(customer_uid)

    def delete_key(self, customer_uid: str) -> KeyAnswer:
        return self.read_key(customer_uid)

    def timed(self, customer_uid: str, since: datetime, until: datetime) -> Timed | NoAnswer:
        return Timed(())

    def unschedule(self, customer_uid: str, merchant_uids: Sequence[str]) -> NoAnswer | None:
        return None

    def wrong_with_card(self, card: Card) -> str | None:
        return None

    def charge_card(self, order: ChargeOrder, card: Card, *, keep: bool, until: float | None = None) -> Outcome:
        return Refused("the model keys no card in")

    def cancel(self, cancellation: Cancellation) -> CancelAnswer:
        return Refused("the model gives no money back")

    def close(self) -> None:
        pass
