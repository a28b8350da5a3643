"""PortOne's REST API V1 (api.iamport.kr) as a Gateway: what is sent when; `answers` reads what comes back."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import quote, urlencode

from schedules.charging.outcomes import (
    Declined,
    GatewayPayment,
    NotSent,
    Outcome,
    PaymentState,
    Refused,
    Unknown,
)
from schedules.requests.imports import TimerEntry
from worker.gateway.masking import shortened, without
from worker.gateway.port import (
    CancelAnswer,
    Cancellation,
    Card,
    ChargeOrder,
    Found,
    KeyAnswer,
    KeyDeclined,
    Missed,
    NoAnswer,
    PaymentPage,
    Sending,
    Slot,
    Timed,
)
from worker.gateway.portone_v1 import answers, orders, timers
from worker.gateway.portone_v1.calls import Calls, LaterCall, Request, request
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.portone_v1.tokens import TokenStore

log = logging.getLogger("again.gateway")
MOST_PAGES = 100  # of one uid's payments; 100,000 payments of one debt are a broken answer, not a list
AGAIN, ONETIME = "/subscribe/payments/again", "/subscribe/payments/onetime"
A = TypeVar("A")


class PortOneV1:
    """A Gateway; safe to use from many threads."""

    def __init__(self, settings: PortOneSettings, tokens: TokenStore) -> None:
        self._settings = settings
        self._calls = Calls(settings, tokens)

    def __repr__(self) -> str:
        return f"PortOneV1({self._calls.address!r})"

    def prepare(self) -> None:
        """Have a token at hand; that there is none is told by the call that needs it."""
        self._calls.prepare()

    def charge(self, order: ChargeOrder, until: float | None = None) -> Outcome:
        """Charge a stored card, once, under the order's merchant_uid; over at `until` at the latest."""
        if wrong := orders.wrong_with_order(order):
            return _noted(order.merchant_uid, Refused(wrong))
        return _noted(order.merchant_uid, self._calls.call(_again(order), self._read_charge(order), until))

    def sending(self, order: ChargeOrder) -> Sending:
        """The same charge for a caller that does not wait for the answer."""
        return _Sending(order, self._calls.call_later(_again(order), self._read_charge(order)))

    def wrong_with_card(self, card: Card) -> str | None:
        """What PortOne would refuse in this card, without any of its digits."""
        return orders.wrong_with_card(card)

    def charge_card(self, order: ChargeOrder, card: Card, *, keep: bool, until: float | None = None) -> Outcome:
        """Charge keyed-in card data once; with `keep`, store the card under the order's customer_uid too."""
        if wrong := orders.wrong_with_order(order) or orders.wrong_with_card(card):
            return _noted(order.merchant_uid, Refused(wrong))
        fields = {**orders.charge_fields(order), **orders.card_fields(card)}
        if keep:
            fields["customer_uid"] = order.customer_uid
        outcome = self._call("POST", ONETIME, fields, self._read_charge(order), until)
        return _noted(order.merchant_uid, _without_card(outcome, card))

    def issue_key(self, customer_uid: str, card: Card) -> KeyAnswer:
        """Store a card; an older card under the same customer_uid is replaced in silence."""
        if wrong := orders.wrong_with_path_id("customer_uid", customer_uid) or orders.wrong_with_card(card):
            return _noted(customer_uid, Refused(wrong))
        answer = self._call(
            "POST",
            _key_path(customer_uid),
            orders.card_fields(card),
            lambda status, body: answers.read_issued(status, body, customer_uid),
        )
        return _noted(customer_uid, _without_card(answer, card))

    def read_key(self, customer_uid: str) -> KeyAnswer:
        """Read the masked facts of a stored card."""
        return self._ask_about_key("GET", customer_uid)

    def delete_key(self, customer_uid: str) -> KeyAnswer:
        """Delete a stored card for ever; the facts are those of the deleted card."""
        return _noted(customer_uid, self._ask_about_key("DELETE", customer_uid))

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        """Every payment of a uid, all pages; fewer than the gateway counts are no answer."""
        if wrong := orders.wrong_with_path_id("merchant_uid", merchant_uid):
            return Refused(wrong)
        payments: list[GatewayPayment] = []
        total, page = 0, 1
        while page:
            listed = self._find_page(merchant_uid, page)
            if not isinstance(listed, PaymentPage):
                return listed
            # An account for tests takes its payments for what they say.
            payments += [replace(payment, sandbox=payment.sandbox and not self._settings.include_sandbox)
                         for payment in listed.payments]  # fmt: skip
            total, following = max(total, listed.total), int(listed.next_cursor or 0)
            if following and not page < following <= MOST_PAGES:
                return Unknown(f"page {page} of the payments of a uid leads to page {following}")
            page = following
        if len(payments) < total:
            return Unknown(f"only {len(payments)} of {total} payments of a uid were listed")
        return answers.others_than(merchant_uid, payments) or Found(tuple(payments))

    def find_payment(self, imp_uid: str) -> GatewayPayment | NoAnswer | None:
        """The payment with PortOne's own id, as a webhook names it; None when there is none."""
        if wrong := orders.wrong_with_path_id("imp_uid", imp_uid):
            return Refused(wrong)
        sandbox = "?include_sandbox=true" if self._settings.include_sandbox else ""
        return self._call("GET", f"/payments/{quote(imp_uid, safe='')}{sandbox}", None, answers.read_found_one)

    def list_payments(
        self,
        state: PaymentState,
        since: datetime,
        until: datetime,
        *,
        cursor: str | None = None,
        limit: int = orders.PAGE_LIMIT,
    ) -> PaymentPage | NoAnswer:
        """One page of the payments of a window of at most 90 days, both ends included, oldest first.

        The cursor is the number of the page.
        """
        if wrong := orders.wrong_with_window(state, since, until, cursor, limit):
            return Refused(wrong)
        page = int(cursor or 1)
        query = {
            "page": page,
            "limit": limit,
            "from": int(since.timestamp()),
            "to": int(until.timestamp()),
            "sorting": "started",
        }
        path = f"/payments/status/{state}?{urlencode(query)}"
        return self._call("GET", path, None, lambda status, body: answers.read_list(status, body, page))

    def timed(self, customer_uid: str, since: datetime, until: datetime) -> Timed | NoAnswer:
        """What PortOne's schedules charge a customer in a span of time, in windows of at most three months."""
        if wrong := orders.wrong_with_path_id("customer_uid", customer_uid):
            return Refused(wrong)
        found: dict[str, TimerEntry] = {}
        while since < until:
            window_ends = min(until, since + orders.LONGEST_WINDOW)
            listed = self._timed_window(customer_uid, since, window_ends)
            if not isinstance(listed, dict):
                return listed
            found |= listed
            since = window_ends
        return Timed(tuple(found.values()))

    def unschedule(self, customer_uid: str, merchant_uids: Sequence[str]) -> NoAnswer | None:
        """Revoke these schedules; without any uid PortOne would revoke them all, so none is refused."""
        if not merchant_uids:
            return Refused("no merchant_uid to unschedule; without one all of the customer's would be")
        fields: orders.Fields = {"customer_uid": customer_uid, "merchant_uid": list(merchant_uids)}
        return self._call("POST", "/subscribe/payments/unschedule", fields, timers.read_revoked)

    def cancel(self, cancellation: Cancellation) -> CancelAnswer:
        """Refund a payment, guarded by the balance."""
        if wrong := orders.wrong_with_cancellation(cancellation):
            return _noted(cancellation.imp_uid, Refused(wrong))
        answer = self._call(
            "POST",
            "/payments/cancel",
            orders.cancel_fields(cancellation),
            lambda status, body: answers.read_cancel(status, body, cancellation),
        )
        return _noted(cancellation.imp_uid, answer)

    def close(self) -> None:
        """Close all connections."""
        self._calls.close()

    def _timed_window(
        self, customer_uid: str, since: datetime, until: datetime
    ) -> dict[str, TimerEntry] | NoAnswer:
        """The schedules of one window, all pages, by merchant_uid; fewer than the gateway counts are no answer."""
        found: dict[str, TimerEntry] = {}
        total, page = 0, 1
        while page:
            query = {"page": page, "from": int(since.timestamp()), "to": int(until.timestamp())}
            path = f"/subscribe/payments/schedule/customers/{quote(customer_uid, safe='')}?{urlencode(query)}"
            listed = self._call("GET", path, None, partial(timers.read_entries, page=page))
            if not isinstance(listed, timers.TimerPage):
                return listed
            found |= {entry.merchant_uid: entry for entry in listed.entries}
            total, following = max(total, listed.total or 0), listed.next_page or 0
            if following and not page < following <= MOST_PAGES:
                return Unknown(f"page {page} of the schedules of a customer leads to page {following}")
            page = following
        if len(found) < total:
            return Unknown(f"only {len(found)} of {total} schedules of a customer were listed")
        return found

    def _find_page(self, merchant_uid: str, page: int) -> PaymentPage | NoAnswer:
        query = urlencode({"page": page, "limit": orders.PAGE_LIMIT, "sorting": "started"})
        path = f"/payments/findAll/{quote(merchant_uid, safe='')}?{query}"
        return self._call("GET", path, None, lambda status, body: answers.read_found_page(status, body, page))

    def _ask_about_key(self, method: str, customer_uid: str) -> KeyAnswer:
        if wrong := orders.wrong_with_path_id("customer_uid", customer_uid):
            return Refused(wrong)
        path = _key_path(customer_uid)
        return self._call(method, path, None, lambda status, body: answers.read_key(status, body, customer_uid))

    def _call(
        self,
        method: str,
        path: str,
        fields: orders.Fields | None,
        read: Callable[[int, bytes], A],
        until: float | None = None,
    ) -> A | NoAnswer:
        return self._calls.call(request(method, path, fields), read, until)

    def _read_charge(self, order: ChargeOrder) -> Callable[[int, bytes], Outcome]:
        sandbox = self._settings.include_sandbox
        return lambda status, body: answers.read_charge(status, body, order, sandbox=sandbox)


class _Sending:
    """A charge that is begun within a slot."""

    def __init__(self, order: ChargeOrder, call: LaterCall[Outcome]) -> None:
        self._order = order
        self._call = call

    def begin(self, until: float, slot: Slot, then: Callable[[Outcome | Missed], None]) -> None:
        """Send it within its slot, and call `then` with the outcome."""
        if wrong := orders.wrong_with_order(self._order):
            then(_noted(self._order.merchant_uid, Refused(wrong)))
        else:
            self._call.begin(until, slot, lambda came: then(_noted(self._order.merchant_uid, came)))


def _key_path(customer_uid: str) -> str:
    return f"/subscribe/customers/{quote(customer_uid, safe='')}"


def _again(order: ChargeOrder) -> Request:
    return request("POST", AGAIN, {"customer_uid": order.customer_uid, **orders.charge_fields(order)})


def _noted(uid: str, answer: A) -> A:
    """The answer, after a line in the log with its kind and nothing of its content."""
    log.debug("%s: %s", shortened(uid, 80), type(answer).__name__)
    return answer


def _without_card(answer: A, card: Card) -> A:
    """The answer, with the card's digits removed from its text."""
    if isinstance(answer, Declined | Refused | NotSent | Unknown | KeyDeclined):
        return replace(answer, reason=without(answer.reason, orders.card_secrets(card)))
    return answer
