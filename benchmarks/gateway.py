"""A minimal gateway that answers as PortOne does, so that the cost of the simulator is not measured.

`python -m benchmarks.gateway --latency 0.05` prints its address, and ends with its standard input. It records when
each payment arrived, and which merchant_uids came twice. `GET /witness` returns the records.
"""

import argparse
import asyncio
import json
import sys
import time

NOT_FOUND = b'{"code":1,"message":"not found","response":null}'


class Payments:
    """The payments: when each uid arrived."""

    def __init__(self, latency: float, look_up: float) -> None:
        self.latency = latency
        self.look_up = look_up  # seconds until a look-up is answered
        self.arrivals: list[tuple[float, str, str]] = []  # seconds, customer_uid, merchant_uid
        self.paid: set[str] = set()
        self.doubles = 0

    def pay(self, body: bytes) -> bytes:
        """Record a payment; return the answer, which is sent after the latency."""
        order = json.loads(body)
        uid = order["merchant_uid"]
        self.arrivals.append((time.monotonic(), order["customer_uid"], uid))
        self.doubles += uid in self.paid
        self.paid.add(uid)
        now = int(time.time())
        payment = {
            "imp_uid": f"imps_{len(self.arrivals):012d}", "merchant_uid": uid, "status": "paid",
            "amount": order["amount"], "cancel_amount": 0, "currency": order.get("currency", "KRW"),
            "pg_provider": "kcp", "pg_tid": uid, "started_at": now, "paid_at": now, "failed_at": 0,
            "cancelled_at": 0, "customer_uid": order["customer_uid"], "fail_reason": None, "receipt_url": None,
        }  # fmt: skip
        return json.dumps({"code": 0, "message": None, "response": payment}).encode()

    def as_json(self) -> bytes:
        """The records as JSON."""
        return json.dumps({"arrivals": self.arrivals, "doubles": self.doubles}).encode()


class Connection(asyncio.Protocol):
    """One persistent connection, with the least HTTP that the benchmarks need."""

    def __init__(self, payments: Payments, loop: asyncio.AbstractEventLoop) -> None:
        self.payments = payments
        self.loop = loop
        self.seen = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self.seen += data
        while (end := self.seen.find(b"\r\n\r\n")) >= 0:
            head = self.seen[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 : (head + b"\r\n").find(b"\r\n", at)]) if at >= 0 else 0
            if len(self.seen) < end + 4 + length:
                return
            body, self.seen = self.seen[end + 4 : end + 4 + length], self.seen[end + 4 + length :]
            path = head.split(b" ", 2)[1]
            if path == b"/subscribe/payments/again":
                self.loop.call_later(self.payments.latency, self.answer, self.payments.pay(body))
            elif path == b"/users/gettoken":
                now = int(time.time())
                token = {"access_token": "t" * 40, "now": now, "expired_at": now + 1800}
                self.answer(json.dumps({"code": 0, "message": None, "response": token}).encode())
            elif path == b"/witness":
                self.answer(self.payments.as_json())
            else:
                self.loop.call_later(self.payments.look_up, self.answer, NOT_FOUND, b"404 Not Found")

    def answer(self, body: bytes, status: bytes = b"200 OK") -> None:
        """Send an answer, unless the client has disconnected."""
        if self.transport is not None and not self.transport.is_closing():
            head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: "
            self.transport.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)


async def serve(latency: float, look_up: float) -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    payments = Payments(latency, look_up)
    server = await loop.create_server(lambda: Connection(payments, loop), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds until a payment is answered")
    parser.add_argument("--look-up", type=float, default=0.0, help="seconds until a look-up is answered")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.latency, arguments.look_up))


if __name__ == "__main__":
    main()
