"""The test interface of the simulator: ledger, faults, cards, clock, webhooks, rate, reset."""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.answers import JsonAnswer
from simulator.api import Api
from simulator.cards import card_from_words
from simulator.faults import Faults
from simulator.faults_file import read_faults
from simulator.kept import FAULTS, WEBHOOKS, Kind
from simulator.requests import read_json
from simulator.shop import Refusal, Shop
from simulator.webhooks import FORM, JSON

YEAR_9999 = 253_370_764_800  # Unix seconds at its start
MOST_MOVEMENTS = 10_000  # in one answer; the rest by ?after=


class BadRequest(ValueError):
    """A request of a tester that cannot be read."""


class Witness:
    """The paths under /_simulator, for tests."""

    def __init__(self, shop: Shop, api: Api, seed: int) -> None:
        self._shop, self._api, self._seed = shop, api, seed

    def routes(self) -> list[Route]:
        """The paths under /_simulator."""
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("ledger", "GET", self.ledger),
            ("ledger/summary", "GET", self.summary),
            ("faults", "GET", self.show_faults),
            ("faults", "POST", self.set_faults),
            ("cards", "GET", self.list_cards),
            ("cards", "POST", self.put_cards),
            ("clock", "GET", self.show_clock),
            ("clock", "POST", self.set_clock),
            ("webhooks", "GET", self.show_webhooks),
            ("webhooks", "POST", self.set_webhooks),
            ("rate", "GET", self.rate),
            ("reset", "POST", self.reset),
        ]
        return [
            Route(f"/_simulator/{path}", _with_errors(handler), methods=[method])
            for path, method, handler in table
        ]

    def settle(self) -> None:
        """Run what is due by the clock."""
        self._shop.turn_late_paid()
        self._api.schedules.run_due()
        self._shop.save()

    async def ledger(self, request: Request) -> Response:
        """Return movements of money from the number `after` on, at most `limit`."""
        self.settle()
        after = _count(request, "after", 0)
        limit = min(MOST_MOVEMENTS, _count(request, "limit", MOST_MOVEMENTS))
        movements = self._shop.ledger.movements
        return JsonAnswer({
            "movements": [movement.as_json() for movement in movements[after : after + limit]],
            "total": len(movements), "calls": dict(self._shop.traffic.calls),
        })  # fmt: skip

    async def summary(self, request: Request) -> Response:
        """Return counts and sums of the ledger."""
        self.settle()
        return JsonAnswer({
            **self._shop.ledger.summary(), "payments": len(self._shop.payments),
            "max_in_flight_same_uid": self._shop.traffic.most_in_flight, "calls": dict(self._shop.traffic.calls),
        })  # fmt: skip

    async def show_faults(self, request: Request) -> Response:
        """Return the faults and switches in force."""
        return JsonAnswer(self._shop.faults.as_json())

    async def set_faults(self, request: Request) -> Response:
        """Replace the faults and switches."""
        self._shop.faults = read_faults(await _document(request), self._seed)
        self._shop.note(Kind.SETTING, FAULTS)
        self._shop.save()
        return JsonAnswer(self._shop.faults.as_json())

    async def list_cards(self, request: Request) -> Response:
        """Return every billing key with the behaviour of its card."""
        return JsonAnswer({"cards": [
            {"customer_uid": key.customer_uid, "card": key.card.scenario, "pg": key.card.provider,
             "shape": key.card.shape, "k": key.card.k, "card_number": key.card.masked, "tries": key.card.tries,
             "approvals": key.card.approvals}
            for key in self._shop.keys.values()
        ]})  # fmt: skip

    async def put_cards(self, request: Request) -> Response:
        """Store cards under customer_uids; all of them, or none if one cannot be read."""
        document = await _document(request)
        cards = []
        for wish in document if isinstance(document, list) else [document]:
            if not isinstance(wish, dict) or not wish.get("customer_uid"):
                raise BadRequest("customer_uid: must be there")
            cards.append((str(wish["customer_uid"]), card_from_words(wish)))
        for customer_uid, card in cards:
            self._shop.put_key(customer_uid, card)
        self._shop.save()
        return JsonAnswer({"cards": len(cards)})

    async def show_clock(self, request: Request) -> Response:
        """Return the simulated time."""
        return JsonAnswer({"now": self._shop.clock.now()})

    async def set_clock(self, request: Request) -> Response:
        """Set the clock, and run what is due by then."""
        wish = await _object(request)
        if "now" in wish:
            self._shop.clock.set(_in_range(_instant(wish["now"])))
        elif "advance" in wish:
            self._shop.clock.set(_in_range(self._shop.clock.now() + _seconds(wish["advance"], "advance")))
        elif wish.get("reset"):
            self._shop.clock.reset()
        else:
            raise BadRequest("give now (Unix seconds or ISO 8601), advance (seconds) or reset (true)")
        self.settle()
        return await self.show_clock(request)

    async def show_webhooks(self, request: Request) -> Response:
        """Return the address and format of webhooks."""
        return JsonAnswer({"url": self._api.webhooks.url, "content_type": self._api.webhooks.content_type})

    async def set_webhooks(self, request: Request) -> Response:
        """Set the address of webhooks; null for none. A payment's own address takes precedence."""
        wish = await _object(request)
        kind = {"json": JSON, "form": FORM}.get(str(wish.get("content_type", "json")), wish.get("content_type"))
        if kind not in (JSON, FORM):
            raise BadRequest(f"content_type: {kind!r} is neither json nor form")
        self._api.webhooks.url = str(wish["url"]) if wish.get("url") else None
        self._api.webhooks.content_type = kind
        self._shop.note(Kind.SETTING, WEBHOOKS)
        self._shop.save()
        return await self.show_webhooks(request)

    async def rate(self, request: Request) -> Response:
        """Return the charges by second of real time."""
        return JsonAnswer(self._shop.traffic.as_json())

    async def reset(self, request: Request) -> Response:
        """Reset money, keys, schedules, faults and webhooks; a clock without a file returns to real time."""
        self._shop.faults = Faults(self._seed)
        self._shop.clock.reset()
        self._shop.forget()
        self._api.schedules.forget()
        self._api.webhooks.forget()
        self._api.tokens.expire()
        self._shop.save()
        return JsonAnswer({})


def _with_errors(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: its ValueErrors become an answer with status 400."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ValueError as error:  # includes BadRequest, BadFaults and BadCard
            return JsonAnswer({"error": str(error)}, 400)

    return answer


async def _document(request: Request) -> Any:
    try:
        return read_json(await request.body() or b"{}")
    except Refusal:
        raise BadRequest("the body is not JSON") from None


async def _object(request: Request) -> dict[str, Any]:
    document = await _document(request)
    if not isinstance(document, dict):
        raise BadRequest("the body is not a JSON object")
    return document


def _count(request: Request, name: str, default: int) -> int:
    words = request.query_params.get(name, str(default))
    if not (words.isascii() and words.isdigit()):
        raise BadRequest(f"{name}: {words!r} is not a whole number of 0 or more")
    return int(words)


def _instant(value: object) -> float:
    """Unix seconds from Unix seconds or ISO 8601; UTC without an offset."""
    if not isinstance(value, str):
        return _seconds(value, "now")
    instant = datetime.fromisoformat(value)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _in_range(now: float) -> float:
    if not 0 <= now < YEAR_9999:
        raise BadRequest(f"the clock would show {now:g}; it shows times from 1970 to 9998")
    return now


def _seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRequest(f"{name}: {value!r} is not a number of seconds")
    return float(value)
