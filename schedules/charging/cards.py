"""Cards: detection of card numbers in ids, names, rows and logs, and the last valid day of a card."""

import re
import unicodedata
from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta

from schedules.calendar.zones import local_date, wall_to_utc, zone

ISSUERS_ZONE = "Asia/Seoul"  # the zone in which a card's last day ends
TOLD_BEFORE = timedelta(days=30)  # time before the last day at which `card.expiring` is sent
# Ids that may hold long runs of digits: UUIDs, our own merchant_uids and charge keys; in texts dates too.
_BASE_32 = "[0-9a-hjkmnp-tv-z]"
_OTHER_IDS = (
    r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}"
    rf"|\bag1[a-z][a-z0-9]{{3}}[ra]{_BASE_32}{{29}}[0-9a-z]\b|\b[ra]{_BASE_32}{{25}}\b"
)
_DATE = r"(?<![0-9])(?:19|20)[0-9]{2}[-/.]?(?:0[1-9]|1[0-2])[-/.]?(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
_NO_CARD_IN_ID = re.compile(_OTHER_IDS)
_NO_CARD = re.compile(f"{_OTHER_IDS}|{_DATE}")
# 13 digits or more, with up to three characters between two digits that are no letters and do not separate
# numbers; or groups of four with any character between them. +49… is a telephone number.
_RUN = re.compile(r"(?<![0-9+])[0-9](?:(?:[^\w,:;+=()]|_){0,3}[0-9]){12,}")
_FOURS = re.compile(r"(?<![0-9+])[0-9]{4}(?:\W{1,3}[0-9]{4}){2}\W{1,3}[0-9]{1,7}(?![0-9])")
# Not allowed in an id: 13 to 19 consecutive digits, or groups of four as printed on a card.
_RUN_IN_ID = re.compile(r"(?<![0-9+])(?:[0-9]{13,19}|[0-9]{4}(?:[ .-][0-9]{4}){2}[ .-][0-9]{1,7})(?![0-9])")
_DIGITS = re.compile(r"[0-9]+")
LENGTHS = range(13, 20)  # of a card's number
# First digits of cards; a time in milliseconds starts with 1, a date with 19 or 20.
_ISSUED = re.compile(r"2[2-7]|[3-69]")


def last_day_of(year: int, month: int) -> date:
    """Return the last day on which a card with this expiry month is valid."""
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
    """Whether the text contains a possible card number, by its first digits and its check digit."""
    return next(card_numbers(text), None) is not None


def id_holds_card_number(text: str) -> bool:
    """Whether an id contains a card number as it is written or printed.

    Groups of other sizes are part of many ids that are no cards: `order-664816-69778857`. An id that was accepted
    once must stay accepted, or a request that is already paid would be sent under another key.
    """
    runs = (re.sub(r"\D", "", run) for run in _RUN_IN_ID.findall(_NO_CARD_IN_ID.sub(" ", text)))
    return any(_ISSUED.match(run) and _has_check_digit(run) for run in runs)


def card_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Return the places of possible card numbers: 13 to 19 digits of any script, with any separators."""
    if sum(map(str.isdigit, text)) < LENGTHS[0]:
        return
    plain = _NO_CARD.sub(lambda found: "x" * len(found.group()), "".join(map(_ascii_digit, text)))
    for run in (*_RUN.finditer(plain), *_FOURS.finditer(plain)):
        groups = [(run.start() + group.start(), group.group()) for group in _DIGITS.finditer(run.group())]
        yield from _numbers_of(groups)


def _numbers_of(groups: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int]]:
    """Return the places where neighbouring groups of digits, given with their positions, form a card number."""
    for first, (begin, _) in enumerate(groups):
        digits = ""
        for at, group in groups[first : first + LENGTHS.stop]:
            digits += group
            if len(digits) >= LENGTHS.stop:
                break
            if len(digits) in LENGTHS and _ISSUED.match(digits) and _has_check_digit(digits):
                yield begin, at + len(group)


def _ascii_digit(character: str) -> str:
    """Return the ASCII digit for a digit of any script; any other character unchanged."""
    return character if character.isascii() or not character.isdigit() else str(unicodedata.digit(character))


def _has_check_digit(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right counts twice, with its own digits added."""
    total = sum(
        int(digit) if at % 2 == 0 else sum(divmod(2 * int(digit), 10)) for at, digit in enumerate(digits[::-1])
    )
    return total % 10 == 0
