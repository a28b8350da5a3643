"""The buyer's name, e-mail and telephone, as sent to the gateway with a charge."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Buyer:
    """What is known of the customer behind a charge; its repr shows none of it, so no log does."""

    name: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    tel: str | None = field(default=None, repr=False)


NOBODY = Buyer()
