"""Cards: numbers where there must be none, in ids, names, rows and logs; and the last day of a card."""

import re
from calendar import monthrange
from datetime import date, datetime, time, timedelta

from schedules.zones import local_date, wall_to_utc, zone

ISSUERS_ZONE = "Asia/Seoul"  # in which a card's last day ends
TOLD_BEFORE = timedelta(days=30)  # before its last day a card is announced as expiring
_UUID = re.compile(r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}")
# Whole runs, or groups of four as they stand on a card; +49… is a telephone number.
_RUN = re.compile(r"(?<![0-9+])(?:[0-9]{13,19}|[0-9]{4}(?:[ .-][0-9]{4}){2}[ .-][0-9]{1,7})(?![0-9])")
# First digits that cards have; a time in milliseconds begins with 1, a date with 19 or 20.
_ISSUED = re.compile(r"2[2-7]|[3-69]")


def last_day_of(year: int, month: int) -> date:
    """The last day on which a card with this expiry month is good."""
    return date(year, month, monthrange(year, month)[1])


def last_day_of_expiry(expiry: str) -> date:
    """The last day of a card's `YYYY-MM`; a ValueError for anything else."""
    year, _, month = expiry.partition("-")
    return last_day_of(int(year), int(month))


def has_expired(last_day: date, now: datetime) -> bool:
    """Whether a card's last day is over."""
    return last_day < local_date(now, zone(ISSUERS_ZONE))


def tell_expiry_at(last_day: date) -> datetime:
    """When `card.expiring` is to be sent."""
    return wall_to_utc(last_day, time(12), zone(ISSUERS_ZONE)) - TOLD_BEFORE


def holds_card_number(text: str) -> bool:
    """Whether a run of 13 to 19 digits could be a card's number: its first digits and its check digit say so."""
    runs = (re.sub(r"\D", "", run) for run in _RUN.findall(_UUID.sub(" ", text)))
    return any(_ISSUED.match(run) and _has_check_digit(run) for run in runs)


def _has_check_digit(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right counts twice, with its own digits added."""
    total = sum(
        int(digit) if at % 2 == 0 else sum(divmod(2 * int(digit), 10)) for at, digit in enumerate(digits[::-1])
    )
    return total % 10 == 0
