"""The HTTP API of PortOne V1, with authentication, refusals and faults."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from urllib.parse import unquote

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator import requests
from simulator.answers import JsonAnswer, envelope, refusal, spoiled_after, spoiled_before
from simulator.calls import Answer, Call
from simulator.charging import Charging
from simulator.faults import CHARGES, Fault
from simulator.kept import FAULTS, Kind
from simulator.keys import Keys
from simulator.lookups import Lookups
from simulator.prepares import Prepares
from simulator.schedules import Schedules
from simulator.shop import Refusal, Shop
from simulator.tokens import Tokens
from simulator.webhooks import Webhooks


class Api:
    """The API of one account."""

    def __init__(self, shop: Shop, tokens: Tokens, webhooks: Webhooks) -> None:
        self.shop, self.tokens, self.webhooks = shop, tokens, webhooks
        self.schedules = Schedules(shop)

    def routes(self) -> list[Route]:
        """All paths, each with and without a trailing slash."""
        table = [
            *Charging(self.shop).table(),
            ("/users/getToken", "POST", "token", self.get_token),
            *self.schedules.table(),
            *Prepares(self.shop).table(),
            *Keys(self.shop).table(),
            *Lookups(self.shop).table(),  # last, because its path with an imp_uid matches any word
        ]
        routes = []
        for path, method, name, handler in table:
            answer = self._answering(name, handler)
            routes += [Route(path, answer, methods=[method]), Route(path + "/", answer, methods=[method])]
        return routes

    async def get_token(self, call: Call) -> Response:
        """Return the access token of the account."""
        key, secret = requests.text(call.fields, "imp_key"), requests.text(call.fields, "imp_secret")
        return envelope(self.tokens.issue(key, secret))

    def _answering(self, name: str, handler: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.shop.traffic.calls[name] += 1
            # The router matches the undecoded path, so that an id may contain an encoded slash.
            request.scope["path_params"] = {part: unquote(text) for part, text in request.path_params.items()}
            call = Call(name, request)
            try:
                await self._admit(call)
            except Refusal as refused:
                return refusal(refused.code, refused.message, refused.status)
            if name not in CHARGES:
                return await self._carry_out(call, handler)
            uid = requests.uid_of(call.fields, self.shop.faults)
            self.shop.traffic.begin(uid)
            with ExitStack() as undo:
                undo.callback(self.shop.traffic.end, uid)
                carried_out = await self._carry_out(call, handler, in_flight=uid)
                undo.pop_all()  # `_ended` does it, after the answer
            return carried_out

        return answer

    async def _admit(self, call: Call) -> None:
        """Check the token, read the body, and choose the fault."""
        headers, faults = call.request.headers, self.shop.faults
        if call.name != "token":
            self.tokens.check(
                headers.get("authorization")
                or headers.get("x-imptokenheader")
                or call.request.query_params.get("_token")
            )
        if call.request.method != "GET":
            call.fields = await requests.read_body(call.request)
        if call.name in CHARGES:
            requests.uid_of(call.fields, faults)
            if not self.shop.traffic.arrive(faults.rate_cap):
                raise Refusal(-1, "Too Many Requests", 429)
        call.rule = faults.pick(call.name, unquote(call.request.url.path), call.merchant_uid, call.customer_uid)
        if call.rule and call.rule.times is not None:
            self.shop.note(Kind.SETTING, FAULTS)
        if call.rule and call.rule.fault is Fault.TOKEN_EXPIRED:
            self.tokens.expire()

    async def _carry_out(self, call: Call, handler: Answer, in_flight: str | None = None) -> Response:
        """Carry out the call, with the fault before or after it, and return the answer."""
        rule, truthful = call.rule, True
        answer = spoiled_before(rule) if rule else None
        if answer is None:
            if rule and rule.fault is Fault.SLOW:
                await asyncio.sleep(rule.seconds)
            if self.shop.faults.latency_ms and call.name not in CHARGES:
                await asyncio.sleep(self.shop.faults.latency_ms / 1000)
            try:
                answer = await handler(call)
            except Refusal as refused:
                answer = refusal(refused.code, refused.message, refused.status)
            if rule:
                answer, truthful = spoiled_after(rule, answer)
        self.shop.save()  # before the answer: what a client was answered must survive a kill
        if in_flight is not None or call.movement is not None:
            answer.background = BackgroundTask(self._ended, call, in_flight, answer, truthful)
        return answer

    async def _ended(self, call: Call, in_flight: str | None, answer: Response, truthful: bool) -> None:
        """Record how the call ended, after its answer was sent or lost."""
        if call.movement is not None:
            call.movement.answered = truthful and isinstance(answer, JsonAnswer) and answer.had_a_reader
            self.shop.note(Kind.MOVEMENT, call.movement.name)
        if call.payment is not None:
            call.payment.call_is_open = False
        if in_flight is not None:
            self.shop.traffic.end(in_flight)
        self.shop.save()
