"""Amounts that are registered before a payment window opens. `again` does not check them."""

from starlette.responses import Response

from simulator import requests
from simulator.answers import envelope
from simulator.calls import Call, Row
from simulator.kept import Kind
from simulator.payments import plain
from simulator.shop import Refusal, Shop


class Prepares:
    """Stores one amount for each merchant_uid."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def table(self) -> list[Row]:
        """Path, method, name and handler of each call."""
        return [
            ("/payments/prepare", "POST", "prepare", self.register),
            ("/payments/prepare", "PUT", "prepare", self.change),
            ("/payments/prepare/{uid}", "GET", "prepare", self.read),
        ]

    async def register(self, call: Call) -> Response:
        """Register an amount; refused when the uid has one."""
        prepared = self._read(call)
        if prepared["merchant_uid"] in self._shop.prepared:
            raise Refusal(1, f"이미 등록된 merchant_uid입니다. ({prepared['merchant_uid']})")
        return self._keep(prepared)

    async def change(self, call: Call) -> Response:
        """Register another amount."""
        prepared = self._read(call)
        self._known(str(prepared["merchant_uid"]))
        return self._keep(prepared)

    async def read(self, call: Call) -> Response:
        """Return the registered amount."""
        return envelope(self._known(call.merchant_uid))

    def _read(self, call: Call) -> dict[str, object]:
        requests.required(call.fields, "merchant_uid", "amount")
        uid = requests.uid_of(call.fields, self._shop.faults)
        currency = requests.text(call.fields, "currency") or "KRW"
        return {"merchant_uid": uid, "amount": plain(requests.number(call.fields)), "currency": currency}

    def _keep(self, prepared: dict[str, object]) -> Response:
        uid = str(prepared["merchant_uid"])
        self._shop.prepared[uid] = prepared
        self._shop.note(Kind.PREPARED, uid)
        return envelope(prepared)

    def _known(self, uid: str) -> dict[str, object]:
        prepared = self._shop.prepared.get(uid)
        if prepared is None:
            raise Refusal(-1, "사전등록된 결제정보가 존재하지 않습니다.", 404)
        return prepared
