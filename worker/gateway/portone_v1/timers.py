"""Read PortOne's own schedules, and the answers to revoking them."""

from collections.abc import Mapping
from dataclasses import dataclass

from schedules.charging.outcomes import NotSent, Refused, Unknown
from schedules.errors import BadMoney
from schedules.money.amounts import Money
from schedules.requests.imports import TimerEntry
from worker.gateway.portone_v1.envelopes import (
    Envelope,
    identifier,
    instant,
    is_past_the_end,
    looked_up,
    minor,
    number,
    opened,
)

NO_SCHEDULE = ("취소할 예약결제 기록이 존재하지 않습니다",)
STATES = frozenset({"scheduled", "executed", "revoked"})


@dataclass(frozen=True, slots=True)
class TimerPage:
    """One page of schedules."""

    entries: tuple[TimerEntry, ...]
    next_page: int | None  # None after the last page
    total: int | None = None  # of all pages, where the gateway says it


def read_entries(status: int, body: bytes, page: int) -> TimerPage | NotSent | Refused | Unknown:
    """Read one page of schedules; None when one of them cannot be read. A 404 is an empty page.

    PortOne documents a plain array; its own clients read `{total, previous, next, list}`. Both are accepted.
    The object names its next page, 0 after the last one. After an array the next page is asked for, until one
    is empty or past the end.
    """
    if status == 400 and page > 1 and is_past_the_end(body, page):
        return TimerPage((), None)
    match looked_up(status, body):
        case None | Envelope(code=0, response=None):
            return TimerPage((), None)
        case Envelope(code=0, response=list() as listed):
            return _read_page(listed, page + 1 if listed else None, None)
        case Envelope(code=0, response={"list": list() as listed, "next": following, **rest}):
            after, total = number(following), number(rest.get("total"))
            if after is None and following is not None:
                return Unknown("a page of schedules whose next page cannot be read")
            return _read_page(listed, int(after or 0) or None, None if total is None else int(total))
        case Envelope(code=0):
            return Unknown("a page without a list of schedules")
        case Envelope() as envelope:
            return Refused(f"code {envelope.code}: {envelope.message or 'no words'}")
        case other:
            return other


def _read_page(listed: list[object], next_page: int | None, total: int | None) -> TimerPage | Unknown:
    entries = [_read(entry) if isinstance(entry, dict) else None for entry in listed]
    if any(entry is None for entry in entries):
        return Unknown("a schedule of the page cannot be read")
    return TimerPage(tuple(entry for entry in entries if entry is not None), next_page, total)


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
