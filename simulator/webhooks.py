"""Webhooks as V1 sends them: unsigned, once, in the background; clients must treat them as hints."""

import asyncio
import json
import ssl
from contextlib import suppress
from urllib.parse import SplitResult, urlencode, urlsplit

from simulator.faults import WEBHOOK, Fault
from simulator.payments import Payment
from simulator.shop import Shop

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0  # as PortOne documents them
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


class Webhooks:
    """Sends webhooks once; a failed delivery is not repeated."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._sending: set[asyncio.Task[None]] = set()
        shop.announce = self.send
        self.forget()

    def forget(self) -> None:
        """Reset to no address; webhooks of payments with their own address are still sent."""
        self.url: str | None = None
        self.content_type = JSON

    def send(self, payment: Payment) -> None:
        """Send the status of a payment to the payment's own address or the account's."""
        url = payment.order.notice_url or self.url
        if url is None:
            return
        rule = self._shop.faults.pick(WEBHOOK, "", payment.merchant_uid, payment.customer_uid or "")
        if rule and rule.fault is Fault.WEBHOOK_MISSING:
            return
        copies = 2 if rule and rule.fault is Fault.WEBHOOK_DUPLICATED else 1
        document = {"imp_uid": payment.imp_uid, "merchant_uid": payment.merchant_uid, "status": payment.status}
        if payment.cancels:
            document["cancellation_id"] = str(payment.cancels[-1]["cancellation_id"])
        body = urlencode(document) if self.content_type == FORM else json.dumps(document)
        for _ in range(copies):
            task = asyncio.ensure_future(_post(url, body.encode(), self.content_type))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def stop(self) -> None:
        """Cancel the deliveries under way."""
        for task in self._sending:
            task.cancel()


async def _post(url: str, body: bytes, content_type: str) -> None:
    with suppress(OSError, ValueError, asyncio.IncompleteReadError):  # a failed delivery is not repeated
        address = urlsplit(url)
        reader, writer = await asyncio.wait_for(_connect(address), CONNECT_SECONDS)
        try:
            target = (address.path or "/") + (f"?{address.query}" if address.query else "")
            head = (
                f"POST {target} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {content_type}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
            await asyncio.wait_for(reader.readline(), READ_SECONDS)
        finally:
            writer.close()


async def _connect(address: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    secure = address.scheme == "https"
    return await asyncio.open_connection(
        address.hostname,
        address.port or (443 if secure else 80),
        ssl=ssl.create_default_context() if secure else None,
    )
