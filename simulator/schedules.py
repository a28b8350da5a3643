"""PortOne's own schedules: they charge a billing key when the simulated clock reaches their time."""

import heapq
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simulator import card_forms, requests
from simulator.answers import envelope
from simulator.calls import Call, Row
from simulator.kept import Kind
from simulator.lookups import paged
from simulator.payments import Order, plain
from simulator.shop import ISSUING, UNKNOWN_BUYER, Refusal, Shop

MOST_DAYS = 92  # span of one list
DAY = 86_400


@dataclass(slots=True)
class Entry:
    """One scheduled charge."""

    order: Order
    schedule_at: int
    executed_at: int = 0
    revoked_at: int = 0
    imp_uid: str | None = None
    payment_status: str | None = None
    fail_reason: str | None = None

    @property
    def status(self) -> str:
        """The status of the entry."""
        return "revoked" if self.revoked_at else "executed" if self.executed_at else "scheduled"

    def as_json(self) -> dict[str, Any]:
        """The entry as PortOne returns it."""
        order = self.order
        return {
            "customer_uid": order.customer_uid, "merchant_uid": order.merchant_uid, "imp_uid": self.imp_uid,
            "customer_id": None, "schedule_at": self.schedule_at, "executed_at": self.executed_at,
            "revoked_at": self.revoked_at, "amount": plain(order.amount), "name": order.name,
            "buyer_name": order.buyer.get("name"), "buyer_tel": order.buyer.get("tel"),
            "buyer_email": order.buyer.get("email"), "buyer_addr": order.buyer.get("addr"),
            "buyer_postcode": order.buyer.get("postcode"), "schedule_status": self.status,
            "payment_status": self.payment_status, "fail_reason": self.fail_reason,
            "custom_data": order.custom_data, "currency": order.currency,
        }  # fmt: skip


class Schedules:
    """The entries of one account. Due entries run before a call about them is answered."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.forget()

    def forget(self) -> None:
        """Remove every entry."""
        self.entries: dict[str, Entry] = {}
        self._by_customer: dict[str, list[Entry]] = {}
        self._due: list[tuple[int, str]] = []  # a heap of times and merchant_uids, with outdated entries

    def table(self) -> list[Row]:
        """Path, method, name and handler of each call."""
        base = "/subscribe/payments"
        return [
            (f"{base}/schedule", "POST", "schedule", self.book),
            (f"{base}/schedule", "GET", "schedule", self.between),
            (f"{base}/unschedule", "POST", "schedule", self.revoke),
            (f"{base}/schedule/customers/{{customer_uid}}", "GET", "schedule", self.of_customer),
            ("/subscribe/customers/{customer_uid}/schedules", "GET", "schedule", self.of_customer),
            (f"{base}/schedule/{{uid}}", "GET", "schedule", self.read),
            (f"{base}/schedule/{{uid}}", "PUT", "schedule", self.move),
            (f"{base}/schedule/{{uid}}/reschedule", "POST", "schedule", self.rebook),
            (f"{base}/schedule/{{uid}}/retry", "POST", "schedule", self.retry),
        ]

    def run_due(self) -> None:
        """Charge every due entry, in order of time."""
        now = self._shop.clock.now()
        while self._due and self._due[0][0] <= now:
            at, uid = heapq.heappop(self._due)
            entry = self.entries[uid]
            if entry.status == "scheduled" and entry.schedule_at == at:
                self._run(entry)

    def take_back(self, entry: Entry) -> None:
        """Add an entry, a new one or one from the file."""
        self.entries[entry.order.merchant_uid] = entry
        self._by_customer.setdefault(entry.order.customer_uid or "", []).append(entry)
        self._await(entry)

    def _run(self, entry: Entry) -> None:
        self._note(entry)
        entry.executed_at = int(self._shop.clock.now())
        try:
            key = self._shop.key_of(entry.order.customer_uid or "")
            self._shop.refuse_used_uid(entry.order.merchant_uid)
        except Refusal as refused:
            entry.payment_status, entry.fail_reason = "failed", refused.message
            return
        payment, movement = self._shop.charge(entry.order, key.card)
        if movement is not None:
            movement.answered = True  # there is no call that could get a wrong answer
        entry.imp_uid, entry.payment_status = payment.imp_uid, payment.status
        entry.fail_reason = payment.fail_reason
        self._shop.announce(payment)

    async def book(self, call: Call) -> Response:
        """Schedule charges; a card in the request is stored first."""
        fields = call.fields
        requests.required(fields, "customer_uid", "schedules")
        booked, uid = fields["schedules"], call.customer_uid
        if not isinstance(booked, list) or not all(isinstance(each, dict) for each in booked):
            raise Refusal(-1, "schedules 형식이 올바르지 않습니다.", 400)
        if uid not in self._shop.keys and not fields.get("card_number"):
            raise Refusal(1, "등록된 고객정보가 없습니다.")
        entries = [self._entry(uid, each) for each in booked]
        if len({entry.order.merchant_uid for entry in entries}) < len(entries):
            raise Refusal(1, "동일한 merchant_uid가 존재합니다.")
        if uid not in self._shop.keys:
            card_forms.check(fields, self._shop, ISSUING)
            card = self._shop.card_of(str(fields["card_number"]), requests.text(fields, "pg"))
            self._shop.issue(uid, card, {})
        for entry in entries:
            self.take_back(entry)
        return envelope([entry.as_json() for entry in entries])

    def _entry(self, customer_uid: str, fields: dict[str, Any]) -> Entry:
        requests.required(fields, "merchant_uid", "schedule_at", "amount")
        order = requests.order_of({**fields, "customer_uid": customer_uid}, self._shop.faults)
        order.usage = "payment.scheduled"
        if order.merchant_uid in self.entries:
            raise Refusal(1, f"이미 등록된 merchant_uid입니다. ({order.merchant_uid})")
        return Entry(order, self._future(fields))

    def _future(self, fields: dict[str, Any]) -> int:
        requests.required(fields, "schedule_at")
        at = int(requests.number(fields, "schedule_at"))
        if at < self._shop.clock.now():
            raise Refusal(-1, "과거 시각으로 예약할 수 없습니다.", 400)
        return at

    def _await(self, entry: Entry) -> None:
        self._note(entry)
        heapq.heappush(self._due, (entry.schedule_at, entry.order.merchant_uid))

    def _note(self, entry: Entry) -> None:
        self._shop.note(Kind.ENTRY, entry.order.merchant_uid)

    async def revoke(self, call: Call) -> Response:
        """Revoke the named entries that have not run, or all of the customer when none is named."""
        self.run_due()
        wanted = call.fields.get("merchant_uid")
        uids = wanted if isinstance(wanted, list) else [wanted] if wanted not in (None, "") else []
        customer_uid = requests.text(call.fields, "customer_uid")
        if uids:
            named = [self.entries[str(uid)] for uid in uids if str(uid) in self.entries]
        else:
            named = self._by_customer.get(customer_uid or "", [])
        revoked = [
            entry for entry in named
            if entry.status == "scheduled" and customer_uid in (None, entry.order.customer_uid)
        ]  # fmt: skip
        if not revoked:
            raise Refusal(1, "취소할 예약결제 기록이 존재하지 않습니다.")
        for entry in revoked:
            entry.revoked_at = int(self._shop.clock.now())
            self._note(entry)
        return envelope([entry.as_json() for entry in revoked])

    async def read(self, call: Call) -> Response:
        """Return one entry."""
        return envelope(self._known(call).as_json())

    async def move(self, call: Call) -> Response:
        """Change the time of an entry that has not run."""
        entry = self._known(call)
        if entry.status != "scheduled":
            raise Refusal(-1, "이미 실행되었거나 취소된 예약입니다.", 400)
        entry.schedule_at = self._future(call.fields)
        self._await(entry)
        return envelope(entry.as_json())

    async def rebook(self, call: Call) -> Response:
        """Give an entry that failed or was revoked a new time."""
        entry = self._known(call)
        self._refuse_unless_failed(entry, or_revoked=True)
        entry.schedule_at = self._future(call.fields)
        entry.executed_at = entry.revoked_at = 0
        entry.imp_uid = entry.payment_status = entry.fail_reason = None
        self._await(entry)
        return envelope(entry.as_json())

    async def retry(self, call: Call) -> Response:
        """Run a failed entry again, now."""
        entry = self._known(call)
        self._refuse_unless_failed(entry, or_revoked=False)
        if entry.order.customer_uid not in self._shop.keys:
            raise Refusal(-1, UNKNOWN_BUYER, 404)
        before = entry.imp_uid
        self._run(entry)
        if entry.imp_uid is None or entry.imp_uid == before:
            raise Refusal(-1, entry.fail_reason or "", 400)
        return envelope(self._shop.payments[entry.imp_uid].as_json())

    async def between(self, call: Call) -> Response:
        """Return the entries within a span of time."""
        query = call.request.query_params
        return envelope(
            self._listed(call.request, list(self.entries.values()), "schedule_", query.get("schedule_status"))
        )

    async def of_customer(self, call: Call) -> Response:
        """Return the entries of a billing key within a span of time."""
        entries = self._by_customer.get(call.customer_uid, [])
        return envelope(self._listed(call.request, entries, "", call.request.query_params.get("schedule-status")))

    def _listed(
        self, request: Request, entries: list[Entry], prefix: str, status: str | None
    ) -> dict[str, object]:
        self.run_due()
        since, until = requests.whole(request, f"{prefix}from"), requests.whole(request, f"{prefix}to")
        if until - since > MOST_DAYS * DAY:
            raise Refusal(-1, "조회기간은 최대 3개월입니다.", 400)
        found = [
            entry for entry in entries
            if since <= entry.schedule_at < until and status in (None, "", entry.status)
        ]  # fmt: skip
        newest_first = request.query_params.get("sorting") != "scheduled"
        found.sort(key=lambda entry: entry.schedule_at, reverse=newest_first)
        return paged(request, found)

    def _known(self, call: Call) -> Entry:
        self.run_due()
        entry = self.entries.get(call.merchant_uid)
        if entry is None:
            raise Refusal(-1, "존재하지 않는 예약결제입니다.", 404)
        return entry

    def _refuse_unless_failed(self, entry: Entry, *, or_revoked: bool) -> None:
        failed = entry.status == "executed" and entry.payment_status == "failed"
        if not (failed or (or_revoked and entry.status == "revoked")):
            raise Refusal(-1, "실패한 예약결제가 아닙니다.", 400)
