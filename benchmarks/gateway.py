"""The lightest gateway that answers as PortOne does: so that what is measured is not the simulator.

`python -m benchmarks.gateway --latency 0.05` prints its address, and ends with its standard input. It keeps when
each payment arrived, and knows a merchant_uid that came twice. `GET /witness` tells all of it.
"""

import argparse
import asyncio
import json
import sys
import time

NOT_FOUND = b'{"code":1,"message":"not found","response":null}'


class Books:
    """What was paid: each uid with when it arrived."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.arrivals: list[tuple[float, str, str]] = []  # seconds, customer_uid, merchant_uid
        self.paid: set[str] = set()
        self.doubles = 0

    def pay(self, body: bytes) -> bytes:
        """Take a payment's request; answers what is sent after the latency."""
        asked = json.loads(body)
        uid = asked["merchant_uid"]
        self.arrivals.append((time.monotonic(), asked["customer_uid"], uid))
        self.doubles += uid in self.paid
        self.paid.add(uid)
        now = int(time.time())
        payment = {
            "imp_uid": f"imps_{len(self.arrivals):012d}", "merchant_uid": uid, "status": "paid",
            "amount": asked["amount"], "cancel_amount": 0, "currency": asked.get("currency", "KRW"),
            "pg_provider": "kcp", "pg_tid": uid, "started_at": now, "paid_at": now, "failed_at": 0,
            "cancelled_at": 0, "customer_uid": asked["customer_uid"], "fail_reason": None, "receipt_url": None,
        }  # fmt: skip
        return json.dumps({"code": 0, "message": None, "response": payment}).encode()

    def told(self) -> bytes:
        """What was seen, as JSON."""
        return json.dumps({"arrivals": self.arrivals, "doubles": self.doubles}).encode()


class Connection(asyncio.Protocol):
    """One kept connection: requests in, answers out, no more of HTTP than that takes."""

    def __init__(self, books: Books, loop: asyncio.AbstractEventLoop) -> None:
        self.books = books
        self.loop = loop
        self.seen = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
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
                self.loop.call_later(self.books.latency, self.answer, self.books.pay(body))
            elif path == b"/users/gettoken":
                now = int(time.time())
                token = {"access_token": "t" * 40, "now": now, "expired_at": now + 1800}
                self.answer(json.dumps({"code": 0, "message": None, "response": token}).encode())
            elif path == b"/witness":
                self.answer(self.books.told())
            else:
                self.answer(NOT_FOUND, b"404 Not Found")

    def answer(self, body: bytes, status: bytes = b"200 OK") -> None:
        """Send an answer, unless whoever asked has gone."""
        if self.transport is not None and not self.transport.is_closing():
            head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: "
            self.transport.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)


async def serve(latency: float) -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    books = Books(latency)
    server = await loop.create_server(lambda: Connection(books, loop), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds until a payment is answered")
    asyncio.run(serve(parser.parse_args().latency))


if __name__ == "__main__":
    main()
