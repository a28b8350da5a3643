"""Read PortOne's payment objects, one or in lists, into the values of the port."""

import logging
from collections.abc import Mapping

from schedules.charging.outcomes import GatewayPayment, PaymentState, Unknown
from worker.gateway.masking import ID_LIMIT, shortened, told, writable
from worker.gateway.port import PaymentPage
from worker.gateway.portone_v1.envelopes import MESSAGE_LIMIT, identifier, instant, minor, number
from worker.gateway.portone_v1.unclear import is_unclear

log = logging.getLogger("again.gateway")
STATES = frozenset({PaymentState.READY, PaymentState.PAID, PaymentState.CANCELLED, PaymentState.FAILED})


def read_payment(fields: Mapping[str, object]) -> GatewayPayment | None:
    """Read one payment object; None when it lacks a required field. Unknown fields are ignored."""
    imp_uid, uid = identifier(fields.get("imp_uid")), identifier(fields.get("merchant_uid"))
    status, currency = identifier(fields.get("status")), identifier(fields.get("currency"))
    if imp_uid is None or uid is None or status is None or currency is None:
        return None
    amount = minor(fields.get("amount"), currency)
    cancelled = minor(fields.get("cancel_amount") or 0, currency)
    if amount is None or cancelled is None:
        return None
    pg_provider, words = identifier(fields.get("pg_provider")), told(fields.get("fail_reason"), MESSAGE_LIMIT)
    state = PaymentState(status) if status in STATES else PaymentState.OTHER
    if state is PaymentState.OTHER:
        log.warning("payment %s has a status that Again does not know: %s", imp_uid, shortened(status, 40))
    return GatewayPayment(
        imp_uid=imp_uid,
        merchant_uid=uid,
        state=state,
        amount=amount,
        cancelled_amount=cancelled,
        currency=currency,
        started_at=instant(fields.get("started_at")),
        paid_at=instant(fields.get("paid_at")),
        failed_at=instant(fields.get("failed_at")),
        cancelled_at=instant(fields.get("cancelled_at")),
        fail_reason=None if words is None else shortened(words),
        pg_provider=pg_provider,
        pg_tid=identifier(fields.get("pg_tid")),
        receipt_url=_url(fields.get("receipt_url")),
        customer_uid=identifier(fields.get("customer_uid")),
        sandbox=fields.get("sandbox") is True,
        unclear=state is PaymentState.FAILED and is_unclear(words, pg_provider),
    )


def _url(value: object) -> str | None:
    """Return an address; None when it is too long to store, because a shortened one does not work."""
    url = writable(value) if isinstance(value, str) else ""
    return url if 0 < len(url) <= 10 * ID_LIMIT else None


def read_page(fields: Mapping[str, object]) -> PaymentPage | Unknown:
    """Read the envelope's list; None when one payment cannot be read, because that one may decide."""
    listed, total, after = fields.get("list"), number(fields.get("total")), number(fields.get("next"))
    if not isinstance(listed, list):
        return Unknown("a page without a list of payments")
    payments: list[GatewayPayment] = []
    for entry in listed:
        payment = read_payment(entry) if isinstance(entry, dict) else None
        if payment is None:
            return Unknown(f"payment {len(payments) + 1} of {len(listed)} on the page cannot be read")
        payments.append(payment)
    # The envelope's `next` is a page number, and 0 after the last page.
    cursor = str(int(after)) if after else None
    return PaymentPage(tuple(payments), len(payments) if total is None else int(total), cursor)
