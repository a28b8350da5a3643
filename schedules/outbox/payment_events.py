"""Events about payments at the gateway: findings and refunds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from schedules.operations.findings import FindingKind
from schedules.outbox.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPayment(Event):
    """About one payment at the gateway and its finding; without a charge when no charge matches."""

    finding: int
    charge: str | None
    merchant_uid: str
    imp_uid: str
    amount: int
    currency: str

    @property
    def subject(self) -> str:
        """The charge's key, or the payment's uid."""
        return self.charge or self.merchant_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRefunded(OfPayment):
    """A second payment for one charge was refunded."""

    kind: ClassVar[str] = "payment.refunded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(OfPayment):
    """The gateway's records and the database disagree about a payment."""

    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDouble(Found):
    """Two payments exist for one charge."""

    kind: ClassVar[str] = "finding.double"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLost(Found):
    """A charge is paid at the gateway and open in the database, and could not be repaired at once."""

    kind: ClassVar[str] = "finding.lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundGhost(Found):
    """A charge is paid in the database, and the gateway has no such payment."""

    kind: ClassVar[str] = "finding.ghost"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAmount(Found):
    """A charge was paid with another amount, or with another customer's card."""

    kind: ClassVar[str] = "finding.amount"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLatePaid(Found):
    """A charge is paid at the gateway and failed in the database, and could not be repaired at once."""

    kind: ClassVar[str] = "finding.late_paid"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundOrphan(Found):
    """A billing key was charged, and no charge of Again fits."""

    kind: ClassVar[str] = "finding.orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRefundDrift(Found):
    """A payment that is paid in the database was refunded, or by another amount."""

    kind: ClassVar[str] = "finding.refund_drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPaidAfterEnd(Found):
    """A charge was paid that had ended, or whose subscription was canceled; a person refunds it or keeps it."""

    kind: ClassVar[str] = "finding.paid_after_end"


FOUND: Mapping[FindingKind, type[Found]] = {
    FindingKind.DOUBLE: FoundDouble,
    FindingKind.LOST: FoundLost,
    FindingKind.GHOST: FoundGhost,
    FindingKind.AMOUNT: FoundAmount,
    FindingKind.LATE_PAID: FoundLatePaid,
    FindingKind.ORPHAN: FoundOrphan,
    FindingKind.REFUND_DRIFT: FoundRefundDrift,
    FindingKind.PAID_AFTER_END: FoundPaidAfterEnd,
}
