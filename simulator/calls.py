"""A call of a client: its request, its fault, and what it did."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simulator.faults import Rule
from simulator.ledger import Movement
from simulator.payments import Payment


@dataclass(slots=True)
class Call:
    """A call, filled in by its handler."""

    name: str  # the name used in fault rules
    request: Request
    fields: dict[str, Any] = field(default_factory=dict)  # fields of the body
    rule: Rule | None = None
    payment: Payment | None = None  # the payment that it made or changed
    movement: Movement | None = None  # the money that it moved

    @property
    def customer_uid(self) -> str:
        """The billing key that the path or the body names."""
        return str(self.request.path_params.get("customer_uid") or self.fields.get("customer_uid") or "")

    @property
    def merchant_uid(self) -> str:
        """The merchant_uid that the path or the body names."""
        return str(self.request.path_params.get("uid") or self.fields.get("merchant_uid") or "")


Answer = Callable[[Call], Awaitable[Response]]
Row = tuple[str, str, str, Answer]  # path, method, name, handler
