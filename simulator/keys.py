"""The calls for billing keys and channels."""

from starlette.responses import Response

from simulator import card_forms, requests
from simulator.answers import envelope
from simulator.calls import Call, Row
from simulator.lookups import page_of
from simulator.shop import ISSUING, Refusal, Shop


class Keys:
    """Issues, shows and deletes billing keys."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def table(self) -> list[Row]:
        """Path, method, name and handler of each call."""
        one = "/subscribe/customers/{customer_uid}"
        return [
            ("/users/pg", "GET", "key", self.list_channels),
            ("/subscribe/customers", "GET", "key", self.list_keys),
            (one, "POST", "issue", self.issue),
            (one, "GET", "key", self.read),
            (one, "DELETE", "key", self.delete),
            (f"{one}/payments", "GET", "list", self.payments),
        ]

    async def list_channels(self, call: Call) -> Response:
        """Return the only channel of the account."""
        return envelope([{
            "pg_provider": "kcp", "pg_id": "simulated", "sandbox": self._shop.faults.sandbox,
            "type": "api_payment", "channel_name": "simulated", "channel_key": "channel-key-simulated",
        }])  # fmt: skip

    async def issue(self, call: Call) -> Response:
        """Store a card under a customer_uid."""
        requests.required(call.fields, "card_number", "expiry")
        if self._shop.faults.strict:
            requests.required(call.fields, "channel_key")
        card_forms.check(call.fields, self._shop, ISSUING)
        customer_uid = requests.text({"customer_uid": call.customer_uid}, "customer_uid") or ""
        buyer = {name: requests.text(call.fields, f"customer_{name}") for name in requests.BUYER_FIELDS}
        card = self._shop.card_of(str(call.fields["card_number"]), requests.text(call.fields, "pg"))
        return envelope(self._shop.issue(customer_uid, card, buyer).as_json())

    async def read(self, call: Call) -> Response:
        """Return one billing key."""
        return envelope(self._shop.key_of(call.customer_uid).as_json())

    async def delete(self, call: Call) -> Response:
        """Delete a billing key."""
        key = self._shop.key_of(call.customer_uid)
        self._shop.drop_key(key.customer_uid)
        return envelope(key.as_json())

    async def list_keys(self, call: Call) -> Response:
        """Return several billing keys; status 207 when some do not exist."""
        wanted = requests.listed(call.request, "customer_uid")
        found = [self._shop.keys[uid].as_json() for uid in wanted if uid in self._shop.keys]
        if not found:
            raise Refusal(-1, "등록된 고객정보가 없습니다.", 404)
        return envelope(found, 200 if len(found) == len(wanted) else 207)

    async def payments(self, call: Call) -> Response:
        """Return the payments of a billing key, 20 on a page."""
        found = self._shop.shown(self._shop.by_customer.get(call.customer_uid, []))
        return envelope(page_of(call.request, found))
