"""PortOne's REST API V1 (api.iamport.kr) as a Gateway: what is sent when; `answers` reads what comes back."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar
from urllib.parse import quote, urlencode

from schedules.outcomes import Declined, GatewayPayment, NotSent, Outcome, Refused, Unknown
from worker.clock import elapsed
from worker.gateway import answers, orders
from worker.gateway.envelopes import Reply
from worker.gateway.masking import shortened, without
from worker.gateway.port import (
    BillingKey,
    CancelAnswer,
    Cancellation,
    Card,
    ChargeOrder,
    Found,
    KeyAnswer,
    KeyDeclined,
    NoAnswer,
    PaymentPage,
    TokenStore,
)
from worker.gateway.settings import PortOneSettings, Timeouts
from worker.gateway.tokens import AccessToken, Issued, MemoryTokens
from worker.gateway.transport import Call, Lines

__all__ = ["MemoryTokens", "PortOneSettings", "PortOneV1", "Timeouts"]

log = logging.getLogger("again.gateway")
MOST_REPEATS = 2  # with the token that others share, and then with a fresh one
MOST_PAGES = 100  # of one uid's payments; 100,000 payments of one debt are a broken answer, not a list
A = TypeVar("A")


class PortOneV1:
    """A Gateway; safe to use from many threads."""

    def __init__(self, settings: PortOneSettings, tokens: TokenStore) -> None:
        self._settings = settings
        self._address = settings.base_url.rstrip("/")
        self._lines = Lines(settings.timeouts)
        self._token = AccessToken(tokens, self._fetch_token)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # so that the bound on a body's length is one on what we read
            "Content-Type": "application/json",
            "User-Agent": f"again/{_version()}",
        }
        if settings.tier is not None:
            self._headers["Tier"] = settings.tier

    def __repr__(self) -> str:
        return f"PortOneV1({self._address!r})"

    def prepare(self) -> None:
        """Have a token at hand; that there is none is told by the call that needs it."""
        self._token.get(elapsed() + self._settings.timeouts.deadline)

    def charge(self, order: ChargeOrder, until: float | None = None) -> Outcome:
        """Charge a stored card, once, under the order's merchant_uid; over at `until` at the latest."""
        if wrong := orders.wrong_with_order(order):
            return _noted(order.merchant_uid, Refused(wrong))
        fields = {"customer_uid": order.customer_uid, **orders.charge_fields(order)}
        sandbox = self._settings.include_sandbox
        outcome = self._call(
            "POST", "/subscribe/payments/again", fields,
            lambda status, body: answers.read_charge(status, body, order, sandbox=sandbox), until,
        )  # fmt: skip
        return _noted(order.merchant_uid, outcome)

    def wrong_with_card(self, card: Card) -> str | None:
        """What PortOne would not take in this card, without saying any of it."""
        return orders.wrong_with_card(card)

    def charge_card(self, order: ChargeOrder, card: Card, *, keep: bool, until: float | None = None) -> Outcome:
        """Charge keyed-in card data once; with `keep`, store the card under the order's customer_uid too."""
        if wrong := orders.wrong_with_order(order) or orders.wrong_with_card(card):
            return _noted(order.merchant_uid, Refused(wrong))
        fields = {**orders.charge_fields(order), **orders.card_fields(card)}
        if keep:
            fields["customer_uid"] = order.customer_uid
        sandbox = self._settings.include_sandbox
        outcome = self._call(
            "POST", "/subscribe/payments/onetime", fields,
            lambda status, body: answers.read_charge(status, body, order, sandbox=sandbox), until,
        )  # fmt: skip
        return _noted(order.merchant_uid, _without_card(outcome, card))

    def issue_key(self, customer_uid: str, card: Card) -> KeyAnswer:
        """Store a card; an older card under the same customer_uid is replaced in silence."""
        if wrong := orders.wrong_with_path_id("customer_uid", customer_uid) or orders.wrong_with_card(card):
            return _noted(customer_uid, Refused(wrong))
        answer = self._post(
            _key_path(customer_uid),
            orders.card_fields(card),
            lambda status, body: answers.read_issued(status, body, customer_uid),
        )
        if isinstance(answer, BillingKey):
            answer = answers.on_channel(answer, card.pg)
        return _noted(customer_uid, _without_card(answer, card))

    def read_key(self, customer_uid: str) -> KeyAnswer:
        """Read the masked facts of a stored card."""
        return self._ask_about_key("GET", customer_uid)

    def delete_key(self, customer_uid: str) -> KeyAnswer:
        """Forget a stored card, for good; the facts are those of the card that is gone."""
        return _noted(customer_uid, self._ask_about_key("DELETE", customer_uid))

    def find(self, merchant_uid: str) -> GatewayPayment | NoAnswer | None:
        """The newest payment of a uid, for showing; never decide on it: another one may be paid."""
        if wrong := orders.wrong_with_path_id("merchant_uid", merchant_uid):
            return Refused(wrong)
        path = f"/payments/find/{quote(merchant_uid, safe='')}?sorting=-started"
        found = self._call("GET", path, None, answers.read_found_one)
        if isinstance(found, GatewayPayment):
            return answers.others_than(merchant_uid, [found]) or found
        return found

    def find_all(self, merchant_uid: str) -> Found | NoAnswer:
        """Every payment of a uid, all pages; less than the gateway says it has is no answer."""
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
            total, following = max(total, listed.total), listed.next_page or 0
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
        self, status: str, since: datetime, until: datetime, *, page: int = 1, limit: int = orders.PAGE_LIMIT
    ) -> PaymentPage | NoAnswer:
        """One page of the payments of a window of at most 90 days, both ends included, oldest first."""
        if wrong := orders.wrong_with_window(status, since, until, page, limit):
            return Refused(wrong)
        query = {
            "page": page,
            "limit": limit,
            "from": int(since.timestamp()),
            "to": int(until.timestamp()),
            "sorting": "started",
        }
        path = f"/payments/status/{status}?{urlencode(query)}"
        return self._call("GET", path, None, lambda status, body: answers.read_list(status, body, page))

    def cancel(self, cancellation: Cancellation) -> CancelAnswer:
        """Give money back, guarded by the balance."""
        if wrong := orders.wrong_with_cancellation(cancellation):
            return _noted(cancellation.imp_uid, Refused(wrong))
        answer = self._post(
            "/payments/cancel",
            orders.cancel_fields(cancellation),
            lambda status, body: answers.read_cancel(status, body, cancellation),
        )
        return _noted(cancellation.imp_uid, answer)

    def close(self) -> None:
        """Let go of connections."""
        self._lines.close()

    def _find_page(self, merchant_uid: str, page: int) -> PaymentPage | NoAnswer:
        query = urlencode({"page": page, "limit": orders.PAGE_LIMIT, "sorting": "started"})
        path = f"/payments/findAll/{quote(merchant_uid, safe='')}?{query}"
        return self._call("GET", path, None, lambda status, body: answers.read_found_page(status, body, page))

    def _ask_about_key(self, method: str, customer_uid: str) -> KeyAnswer:
        if wrong := orders.wrong_with_path_id("customer_uid", customer_uid):
            return Refused(wrong)
        path = _key_path(customer_uid)
        return self._call(method, path, None, lambda status, body: answers.read_key(status, body, customer_uid))

    def _post(self, path: str, fields: orders.Fields, read: Callable[[int, bytes], A]) -> A | NoAnswer:
        return self._call("POST", path, fields, read)

    def _call(
        self,
        method: str,
        path: str,
        fields: orders.Fields | None,
        read: Callable[[int, bytes], A],
        until: float | None = None,
    ) -> A | NoAnswer:
        """Send one request under the shared token, and read its answer; over at the deadline, all in all."""
        body = None if fields is None else json.dumps(fields).encode("ascii")
        began = elapsed()
        latest = began + self._settings.timeouts.deadline
        until = latest if until is None else min(until, latest)
        reply = self._send(method, path, body, until)
        for _ in range(MOST_REPEATS):
            # Refused before it was looked at: the one answer after which the same request may be repeated.
            if not (isinstance(reply, Reply) and reply.status == 401):
                break
            reply = self._send(method, path, body, until)
            if self._token.issued_at >= began:
                break  # a fresh token says it for good; one that another process shared may have been dead too
        return read(reply.status, reply.body) if isinstance(reply, Reply) else reply

    def _send(self, method: str, path: str, body: bytes | None, until: float) -> Reply | NoAnswer:
        # What is sent is waited for in full, so a token that comes later than this is too late.
        latest = until - self._settings.timeouts.read
        token = self._token.get(latest)
        if not isinstance(token, str):
            return token
        if elapsed() > latest:
            return NotSent("too little time left to wait for an answer")
        headers = {**self._headers, "Authorization": f"Bearer {token}"}
        reply = self._lines.send(Call(method, self._address + path, headers, body), until)
        if isinstance(reply, Reply) and reply.status == 401:
            self._token.drop(token)
        return reply

    def _fetch_token(self, until: float) -> Issued | NotSent | Refused:
        """Ask for a token. Whatever goes wrong here, the request that needs it was surely not sent."""
        account = {"imp_key": self._settings.imp_key, "imp_secret": self._settings.imp_secret}
        body = json.dumps(account).encode("ascii")
        reply = self._lines.send(Call("POST", f"{self._address}/users/getToken", self._headers, body), until)
        if not isinstance(reply, Reply):
            return NotSent(f"no access token: {reply.reason}")
        secrets = (self._settings.imp_secret, self._settings.imp_key)
        return answers.read_token(reply.status, reply.body, secrets)


def _key_path(customer_uid: str) -> str:
    return f"/subscribe/customers/{quote(customer_uid, safe='')}"


def _noted(uid: str, answer: A) -> A:
    """The answer, after a line in the log with its kind and nothing of its content."""
    log.debug("%s: %s", shortened(uid, 80), type(answer).__name__)
    return answer


def _without_card(answer: A, card: Card) -> A:
    """The answer, with what we sent of the card taken out of its words."""
    if isinstance(answer, Declined | Refused | NotSent | Unknown | KeyDeclined):
        return replace(answer, reason=without(answer.reason, orders.card_secrets(card)))
    return answer


def _version() -> str:
    try:
        return version("again")
    except PackageNotFoundError:
        return "unknown"
