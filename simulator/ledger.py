"""The ledger: every movement of money in order, and whether the call that caused it got a true answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.payments import Payment, plain


@dataclass(slots=True)
class Movement:
    """A movement of money."""

    kind: str  # charge or cancel
    uid: str
    customer_uid: str | None
    amount: int | float  # in major units, as PortOne counts
    currency: str
    at: float  # Unix seconds of the simulated clock
    imp_uid: str
    answered: bool = False  # whether the call got its complete, true answer
    late: bool = False  # a payment that had been reported failed
    buyer: dict[str, str] = field(default_factory=dict)  # the buyer, masked
    number: int = 0  # in the ledger, from 0

    @property
    def name(self) -> str:
        """The number as the id of a record: sorted by text, ids have the order of the numbers."""
        return f"{self.number:012d}"

    def as_json(self) -> dict[str, Any]:
        """The movement as JSON."""
        return {name: getattr(self, name) for name in Movement.__slots__ if name != "number"}


def masked_buyer(buyer: Mapping[str, str | None]) -> dict[str, str]:
    """The buyer, masked: a tester sees that the fields were sent, and the ledger holds no personal data."""
    shown = {}
    for name, value in buyer.items():
        if value:
            kept, _, domain = value.partition("@")
            shown[name] = f"{kept[0]}***@{domain}" if domain else f"{value[0]}{'*' * (len(value) - 1)}"
    return shown


class Ledger:
    """Movements of money; entries are only added."""

    def __init__(self) -> None:
        self.movements: list[Movement] = []
        self.payments_of: Counter[str] = Counter()  # number of paid payments by merchant_uid

    def charge(self, payment: Payment, now: float, *, late: bool) -> Movement:
        """Record a paid payment."""
        return self._write("charge", payment, payment.amount, now, late=late)

    def cancel(self, payment: Payment, amount: float, now: float) -> Movement:
        """Record a refund."""
        return self._write("cancel", payment, amount, now, late=False)

    def _write(self, kind: str, payment: Payment, amount: float, now: float, *, late: bool) -> Movement:
        movement = Movement(
            kind, payment.merchant_uid, payment.customer_uid, plain(amount), payment.currency, now,
            payment.imp_uid, late=late, buyer=masked_buyer(payment.order.buyer), number=len(self.movements),
        )  # fmt: skip
        self.take_back(movement)
        return movement

    def take_back(self, movement: Movement) -> None:
        """Append a movement, a new one or one from the file."""
        self.movements.append(movement)
        if movement.kind == "charge":
            self.payments_of[movement.uid] += 1

    def summary(self) -> dict[str, Any]:
        """Counts, sums, and the uids that were paid more than once."""
        charges = [movement for movement in self.movements if movement.kind == "charge"]
        cancels = [movement for movement in self.movements if movement.kind == "cancel"]
        return {
            "charges": len(charges), "amount": sum(movement.amount for movement in charges),
            "cancels": len(cancels), "cancelled": sum(movement.amount for movement in cancels),
            "unanswered": sum(not movement.answered for movement in charges),
            "late": sum(movement.late for movement in charges),
            "double": sorted(uid for uid, count in self.payments_of.items() if count > 1),
        }  # fmt: skip
