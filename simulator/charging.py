"""The calls that move money: `again`, `onetime` and `cancel`."""

import asyncio

from starlette.responses import Response

from simulator import card_forms, requests
from simulator.answers import envelope, refusal
from simulator.calls import Call, Row
from simulator.cards import SimulatedCard
from simulator.payments import Order, Payment
from simulator.shop import CHECKING, UNKNOWN_BUYER, Refusal, Shop


class Charging:
    """Charges billing keys and cards, and makes refunds."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def table(self) -> list[Row]:
        """Path, method, name and handler of each call."""
        return [
            ("/subscribe/payments/again", "POST", "again", self.again),
            ("/subscribe/payments/onetime", "POST", "onetime", self.onetime),
            ("/payments/cancel", "POST", "cancel", self.cancel),
        ]

    async def again(self, call: Call) -> Response:
        """Charge a billing key."""
        requests.required(call.fields, "customer_uid", "merchant_uid", "amount")
        if self._shop.faults.strict:
            requests.required(call.fields, "name")
        order = requests.order_of(call.fields, self._shop.faults)
        key = self._shop.keys.get(order.customer_uid or "")
        if key is None:
            raise Refusal(1, UNKNOWN_BUYER)
        return await self._charge(call, order, key.card)

    async def onetime(self, call: Call) -> Response:
        """Charge a typed-in card; when it is paid and has a customer_uid, store the card under it."""
        requests.required(call.fields, "merchant_uid", "amount", "card_number", "expiry")
        order = requests.order_of(call.fields, self._shop.faults)
        card_forms.check(call.fields, self._shop, CHECKING)
        card = self._shop.card_of(str(call.fields["card_number"]), requests.text(call.fields, "pg"))
        order.usage = "issue" if order.customer_uid else None
        answer = await self._charge(call, order, card)
        if call.movement and order.customer_uid:
            self._shop.put_key(order.customer_uid, card, order.buyer)
        return answer

    async def _charge(self, call: Call, order: Order, card: SimulatedCard) -> Response:
        self._shop.refuse_used_uid(order.merchant_uid)
        if self._shop.faults.latency_ms:
            await asyncio.sleep(self._shop.faults.latency_ms / 1000)
        payment, call.movement = self._shop.charge(order, card, call.rule)
        payment.call_is_open = True
        call.payment = payment
        if call.movement is not None:
            self._shop.announce(payment)  # PortOne sends none for a charge that failed at once
        elif card.shape == "B":
            return refusal(-1, f"결제승인에 실패하였습니다. {payment.fail_reason}")
        return envelope(payment.as_json())

    async def cancel(self, call: Call) -> Response:
        """Refund a payment, in full or in part."""
        fields = call.fields
        imp_uid, uid = requests.text(fields, "imp_uid"), requests.text(fields, "merchant_uid")
        payment = self._shop.payments.get(imp_uid) if imp_uid else self._paid(uid or "")
        if payment is None:
            raise Refusal(1, "취소할 결제건이 존재하지 않습니다.")
        unchecked = fields.get("checksum") in (None, "")
        checksum = None if unchecked else requests.number(fields, "checksum")
        reason = requests.text(fields, "reason")
        call.movement = self._shop.cancel(payment, requests.number(fields), checksum, reason)
        if str(fields.get("enable_webhook", "")).lower() == "true":
            self._shop.announce(payment)
        return envelope(payment.as_json())

    def _paid(self, uid: str) -> Payment | None:
        moved = [payment for payment in self._shop.by_uid.get(uid, ()) if payment.paid_at]
        return moved[-1] if moved else None
