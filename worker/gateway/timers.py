"""Reading PortOne's schedules: what its own timer charges, and that it does so no more."""

from collections.abc import Mapping

from schedules.errors import BadMoney
from schedules.imports import TimerEntry
from schedules.money import Money
from schedules.outcomes import NotSent, Refused, Unknown
from worker.gateway.envelopes import Envelope, identifier, instant, looked_up, minor, opened

NO_SCHEDULE = ("취소할 예약결제 기록이 존재하지 않습니다",)
STATES = frozenset({"scheduled", "executed", "revoked"})


def read_entries(status: int, body: bytes) -> tuple[TimerEntry, ...] | NotSent | Refused | Unknown:
    """One page of schedules; one that cannot be read spoils it. A 404 is an empty page."""
    match looked_up(status, body):
        case None:
            return ()
        case Envelope(code=0, response=list() as listed):
            entries = [_read(entry) if isinstance(entry, dict) else None for entry in listed]
            if any(entry is None for entry in entries):
                return Unknown("a schedule of the page cannot be read")
            return tuple(entry for entry in entries if entry is not None)
        case Envelope(code=0, response=None):
            return ()
        case Envelope() as envelope:
            return Refused(f"code {envelope.code}: {envelope.message or 'no words'}")
        case other:
            return other


def _read(fields: Mapping[str, object]) -> TimerEntry | None:
    uid, at = identifier(fields.get("merchant_uid")), instant(fields.get("schedule_at"))
    state = identifier(fields.get("schedule_status"))
    currency = identifier(fields.get("currency")) or "KRW"  # older entries have none, and are in won
    amount = minor(fields.get("amount"), currency)
    if uid is None or at is None or state not in STATES or amount is None:
        return None
    try:
        return TimerEntry(uid, at, Money(amount, currency), state)
    except BadMoney:
        return None


def read_revoked(status: int, body: bytes) -> NotSent | Refused | Unknown | None:
    """None when PortOne says that it revoked something, or that there is nothing to revoke: it is read back."""
    match opened(status, body):
        case Envelope(code=0):
            return None
        case Envelope(message=words) as envelope:
            if words is not None and words.startswith(NO_SCHEDULE):
                return None
            return Refused(f"code {envelope.code}: {words or 'no words'}")
        case other:
            return other
