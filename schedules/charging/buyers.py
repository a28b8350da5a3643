"""The buyer's name, e-mail and telephone, as sent to the gateway with a charge."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Buyer:
    """The buyer of a charge; its repr hides all fields, so that no log shows them."""

    name: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    tel: str | None = field(default=None, repr=False)


NOBODY = Buyer()
