"""The calls that look up payments."""

from collections.abc import Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from simulator import requests
from simulator.answers import envelope
from simulator.calls import Call, Row
from simulator.payments import Payment
from simulator.shop import ALL, Refusal, Shop

NO_SUCH_PAYMENT = "존재하지 않는 결제정보입니다."
NO_BALANCE = (
    "(현재는 PAYCO, KCP만 지원됩니다) 결제건에 대한 금액상세정보가 확인되지 않습니다. "
    "결제 상태가 paid 또는 cancelled가 아닌 경우 확인되지 않습니다."
)
WITH_BALANCE = ("kcp", "kcp_billing", "payco")
DAY = 86_400
MOST_DAYS = 90  # span of one list by status
MOST_AT_ONCE = 100  # payments in one request
SORTINGS = {"started": "started_at", "paid": "paid_at", "updated": "updated_at"}
STATUSES = (ALL, "ready", "paid", "cancelled", "failed")


class Lookups:
    """Finds payments by uid and by time."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def table(self) -> list[Row]:
        """Path, method, name and handler of each call."""
        return [
            ("/payments", "GET", "find", self.several),
            ("/payments/find/{uid}", "GET", "find", self.find),
            ("/payments/find/{uid}/{status}", "GET", "find", self.find),
            ("/payments/findAll/{uid}", "GET", "find", self.find_all),
            ("/payments/findAll/{uid}/{status}", "GET", "find", self.find_all),
            ("/payments/status/{status}", "GET", "list", self.by_status),
            ("/payments/{imp_uid}/balance", "GET", "find", self.balance),
            ("/payments/{imp_uid}", "GET", "find", self.read),
        ]

    async def several(self, call: Call) -> Response:
        """Return payments by imp_uid and merchant_uid; status 207 when some do not exist."""
        imp_uids = requests.listed(call.request, "imp_uid")[:MOST_AT_ONCE]
        uids = requests.listed(call.request, "merchant_uid")[:MOST_AT_ONCE]
        self._shop.turn_late_paid()
        found = [self._shop.payments[imp_uid] for imp_uid in imp_uids if imp_uid in self._shop.payments]
        found += [shown[-1] for uid in uids if (shown := self._shown(uid, ALL))]
        if not found:
            raise Refusal(-1, NO_SUCH_PAYMENT, 404)
        status = 200 if len(found) == len(imp_uids) + len(uids) else 207
        return envelope([payment.as_json() for payment in found], status)

    async def read(self, call: Call) -> Response:
        """Return a payment by imp_uid. Only here, one of a test channel must be requested explicitly."""
        self._shop.turn_late_paid()
        payment = self._shop.payments.get(call.request.path_params["imp_uid"])
        with_sandbox = call.request.query_params.get("include_sandbox", "").lower() in ("true", "1")
        if payment is None or (payment.sandbox and not with_sandbox):
            raise Refusal(-1, NO_SUCH_PAYMENT, 404)
        return envelope(payment.as_json())

    async def balance(self, call: Call) -> Response:
        """Return the balance of a payment by kind of tax, for the gateways that PortOne supports in this call."""
        self._shop.turn_late_paid()
        payment = self._shop.payments.get(call.request.path_params["imp_uid"])
        if payment is None:
            raise Refusal(-1, NO_SUCH_PAYMENT, 404)
        if not payment.paid_at or payment.card.provider not in WITH_BALANCE:
            raise Refusal(-1, NO_BALANCE, 404)
        return envelope(payment.balance_as_json())

    async def find(self, call: Call) -> Response:
        """Return the first payment of a uid in the requested order."""
        return envelope(_sorted(call.request, self._found(call))[0].as_json())

    async def find_all(self, call: Call) -> Response:
        """Return every payment of a uid."""
        return envelope(page_of(call.request, self._found(call)))

    async def by_status(self, call: Call) -> Response:
        """Return the payments that reached a status within a span of at most 90 days."""
        status = _status(call.request.path_params["status"])
        until = requests.whole(call.request, "to", int(self._shop.clock.now()))
        since = requests.whole(call.request, "from", max(0, until - MOST_DAYS * DAY))
        if until - since > MOST_DAYS * DAY:
            raise Refusal(-1, f"조회기간은 최대 {MOST_DAYS}일입니다.", 400)
        return envelope(page_of(call.request, self._shop.between(status, since, until)))

    def _found(self, call: Call) -> list[Payment]:
        found = self._shown(call.merchant_uid, _status(call.request.path_params.get("status", ALL)))
        if not found:
            raise Refusal(-1, NO_SUCH_PAYMENT, 404)
        return found

    def _shown(self, uid: str, status: str) -> list[Payment]:
        shown = self._shop.shown(self._shop.by_uid.get(uid, []))
        return [payment for payment in shown if status in (ALL, payment.status)]


class Shown(Protocol):
    """An entry of a list."""

    def as_json(self) -> dict[str, Any]:
        """The entry as PortOne returns it."""


def page_of(request: Request, found: list[Payment]) -> dict[str, object]:
    """One page of payments in the requested order."""
    return paged(request, _sorted(request, found))


def paged(request: Request, found: Sequence[Shown]) -> dict[str, object]:
    """One page of an ordered list. A page past the end is refused, except the first page of an empty list."""
    page, limit = requests.whole(request, "page", 1), requests.whole(request, "limit", 20)
    if not 1 <= limit <= 1000 or page < 1:
        raise Refusal(-1, "page 또는 limit 값이 올바르지 않습니다.", 400)
    last = max(1, -(-len(found) // limit))
    if page > last:
        raise Refusal(-1, "존재하지 않는 페이지입니다.", 400)
    rows = found[(page - 1) * limit : page * limit]
    return {
        "total": len(found), "previous": page - 1, "next": page + 1 if page < last else 0,
        "list": [row.as_json() for row in rows],
    }  # fmt: skip


def _status(status: str) -> str:
    if status not in STATUSES:
        raise Refusal(-1, "지원되지 않는 상태값입니다.", 400)
    return status


def _sorted(request: Request, found: list[Payment]) -> list[Payment]:
    sorting = request.query_params.get("sorting", "-started")
    name = SORTINGS.get(sorting.removeprefix("-"))
    if name is None:
        raise Refusal(-1, "지원되지 않는 정렬값입니다.", 400)
    # Payments of the same second keep their order of creation.
    return sorted(
        found, key=lambda payment: (getattr(payment, name), payment.imp_uid), reverse=sorting.startswith("-")
    )
