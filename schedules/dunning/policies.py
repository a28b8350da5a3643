"""A dunning policy: retries after a decline, their times and number, and the final action; versioned data."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta
from enum import StrEnum

from schedules.calendar.shifts import checked_country
from schedules.dunning.declines import DeclineClass
from schedules.errors import BadPolicy

MONTH_END = 31  # as a payday: the last day of the month
_HOURS = re.compile(r"(\d\d:\d\d) *- *(\d\d:\d\d)")
A_MONTH = timedelta(days=35)  # a full cycle of paydays, also when days off move them
MOST_RUNGS = 20
LONGEST = timedelta(days=180)  # an older debt is not collected by trying a card

# A policy cannot change the other classes; docs/explanation/dunning.md says it.
CHOSEN_CLASSES = (
    DeclineClass.MONEY_SHORT,
    DeclineClass.LIMIT,
    DeclineClass.LATER,
    DeclineClass.UNKNOWN_WORD,
)


class FinalAction(StrEnum):
    """What happens to the debt and its subscription when the ladder has ended without a payment."""

    CANCEL = "cancel"  # both end
    PAUSE = "pause"  # the debt stays, the subscription is paused until it is paid
    UNPAID = "unpaid"  # the debt stays, later ones wait behind it
    KEEP = "keep"  # the debt stays past due, later ones are collected
    WRITE_OFF = "write_off"  # the debt is given up, the subscription goes on


@dataclass(frozen=True, slots=True)
class Way:
    """When a decline class is retried: rungs from the start of the ladder, and paydays."""

    ladder: tuple[timedelta, ...] = ()
    paydays: tuple[int, ...] = ()  # days of the month; MONTH_END is the last
    resets: bool = False  # the first of the next month or the next day, by the decline's text

    def __post_init__(self) -> None:
        checked_ladder(self.ladder)
        for day in self.paydays:
            if not 1 <= day <= MONTH_END:
                raise BadPolicy(f"payday {day} is not a day of the month, 1 to 28, or 31 for its last")
            if day in (29, 30):
                raise BadPolicy(f"payday {day} is missing in February; say 'last' for the month's last day")


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of the local day in which a card may be tried; never across midnight, the time of maintenance."""

    begin: time = time(0)
    end: time | None = None  # None is midnight

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.begin:
            raise BadPolicy(f"hours {self} end before they begin; give them within one day, such as 08:00-22:00")

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}" if self.end else f"{self.begin:%H:%M}-24:00"


@dataclass(frozen=True, slots=True)
class CardCap:
    """The largest number of declines of one card within a span; card networks fine the shop above theirs.

    Visa allows 15 tries in 30 days after a decline, Mastercard 35; the gateway does not say which a card is.
    """

    declines: int = 15
    within: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        if not 1 <= self.declines <= 35:
            raise BadPolicy(f"a cap of {self.declines} declines is not between 1 and 35, Mastercard's own")
        if not timedelta(days=1) <= self.within <= timedelta(days=90):
            raise BadPolicy(f"a cap within {self.within.days} days is not between 1 and 90 days")


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """A version of a policy. With a plain ladder alone, every class that may be retried uses it."""

    ladder: tuple[timedelta, ...] = (
        timedelta(days=1),
        timedelta(days=3),
        timedelta(days=7),
        timedelta(days=14),
    )
    final: FinalAction = FinalAction.WRITE_OFF
    code: str = ""
    version: int = 1
    ways: Mapping[DeclineClass, Way] = field(default_factory=dict)
    hours: Hours = Hours()
    payday_time: time = time(11)
    holidays: str | None = None  # the country whose holidays bring a payday forward
    wait: timedelta | None = None  # from the ladder's beginning to the final action
    grace: timedelta | None = None  # from the first decline; the subscription stays usable; None is without end
    upcoming: timedelta | None = None  # time before its due time at which a charge is announced
    last_warning: timedelta | None = None  # time before the final action
    cap: CardCap = CardCap()

    def __post_init__(self) -> None:
        checked_ladder(self.ladder)
        for name in ("wait", "grace", "upcoming", "last_warning"):
            span = getattr(self, name)
            if span is not None and not timedelta(0) <= span <= LONGEST:
                raise BadPolicy(f"{name} of {words(span)} is not between 0 and {words(LONGEST)}")
        for way in (Way(self.ladder), *self.ways.values()):
            if self.wait is not None and way.ladder and way.ladder[-1] > self.wait:
                last = words(way.ladder[-1])
                raise BadPolicy(f"the rung at {last} comes after the end: wait is {words(self.wait)}")
        for decline_class in self.ways:
            if decline_class not in CHOSEN_CLASSES:
                chosen = ", ".join(CHOSEN_CLASSES)
                raise BadPolicy(f"class {decline_class.value!r} is no policy's to choose; there are: {chosen}")
        if self.holidays is not None:
            checked_country(self.holidays)

    def way(self, decline_class: DeclineClass) -> Way:
        """Return how a class is retried; the plain ladder for a class that the policy does not name."""
        return self.ways.get(decline_class, Way(self.ladder))

    @property
    def patience(self) -> timedelta:
        """The time from the start of the ladder to the final action; by default, the longest of any class."""
        if self.wait is not None:
            return self.wait
        dated = [A_MONTH for way in self.ways.values() if way.paydays or way.resets]
        rungs = [way.ladder[-1] for way in (Way(self.ladder), *self.ways.values()) if way.ladder]
        return max([*dated, *rungs], default=timedelta(0))

    def to_json(self) -> dict[str, object]:
        """Return the policy for storage: spans in whole seconds, without unset fields."""
        chosen: dict[str, object] = {"ladder": _seconds(self.ladder), "final": self.final.value}
        ways = {str(name): _way_json(way) for name, way in self.ways.items()}
        spans = {name: getattr(self, name) for name in ("wait", "grace", "upcoming", "last_warning")}
        return chosen | {
            "ways": ways,
            "hours": str(self.hours),
            "payday_time": f"{self.payday_time:%H:%M}",
            "holidays": self.holidays,
            **{name: None if span is None else int(span.total_seconds()) for name, span in spans.items()},
            "cap": {"declines": self.cap.declines, "within": int(self.cap.within.total_seconds())},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, object], code: str = "", version: int = 1) -> "DunningPolicy":
        """Parse the output of `to_json`."""
        kept = dict(document)
        ways = _mapping(kept, "ways")
        cap = _mapping(kept, "cap")
        spans = {name: _span(kept.get(name)) for name in ("wait", "grace", "upcoming", "last_warning")}
        return cls(
            ladder=_offsets(kept.get("ladder")),
            final=FinalAction(str(kept.get("final"))),
            code=code,
            version=version,
            ways={DeclineClass(name): _way(way) for name, way in ways.items()},
            hours=read_hours(str(kept.get("hours"))),
            payday_time=time.fromisoformat(str(kept.get("payday_time"))),
            holidays=None if kept.get("holidays") is None else str(kept["holidays"]),
            cap=CardCap(_number(cap.get("declines")), timedelta(seconds=_number(cap.get("within")))),
            **spans,
        )


def checked_ladder(ladder: tuple[timedelta, ...]) -> None:
    """Raise BadPolicy unless the offsets rise and are within the limits."""
    if len(ladder) > MOST_RUNGS:
        raise BadPolicy(f"a ladder of {len(ladder)} rungs is too long; give at most {MOST_RUNGS}")
    steps = (timedelta(0), *ladder)
    for before, after in zip(steps, ladder, strict=False):
        if after <= before:
            raise BadPolicy(
                f"ladder offset {words(after)} does not come after {words(before)}; give rising offsets"
            )
    if ladder and ladder[-1] > LONGEST:
        raise BadPolicy(f"ladder offset {words(ladder[-1])} is above {words(LONGEST)}")


def read_hours(text: str) -> Hours:
    """Hours as `08:00-22:00`; 24:00 is midnight."""
    found = _HOURS.fullmatch(text.strip())
    try:
        begin, end = found.groups() if found else ("", "")
        return Hours(time.fromisoformat(begin), None if end == "24:00" else time.fromisoformat(end))
    except BadPolicy:
        raise
    except ValueError:
        raise BadPolicy(f"hours {text!r} cannot be read; write them like 08:00-22:00") from None


def words(span: timedelta) -> str:
    """A span as a policy writes it: 12h, 3d, 90m."""
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0 and (seconds or unit == "d"):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _seconds(offsets: Iterable[timedelta]) -> list[int]:
    return [int(offset.total_seconds()) for offset in offsets]


def _way_json(way: Way) -> dict[str, object]:
    return {"ladder": _seconds(way.ladder), "paydays": list(way.paydays), "resets": way.resets}


def _way(document: object) -> Way:
    if not isinstance(document, Mapping):
        raise BadPolicy(f"way {document!r} of a kept policy is no mapping")
    paydays = document.get("paydays")
    days = tuple(_number(day) for day in paydays) if isinstance(paydays, list) else ()
    return Way(_offsets(document.get("ladder")), days, resets=bool(document.get("resets")))


def _mapping(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = document.get(name)
    if not isinstance(found, Mapping):
        raise BadPolicy(f"policy {dict(document)!r} has no mapping {name!r}")
    return found


def _offsets(document: object) -> tuple[timedelta, ...]:
    if not isinstance(document, list):
        raise BadPolicy(f"ladder {document!r} of a kept policy is no list of seconds")
    return tuple(timedelta(seconds=_number(seconds)) for seconds in document)


def _span(seconds: object) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=_number(seconds))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadPolicy(f"{value!r} of a kept policy is not a whole number")
    return value


def _days(*days: int) -> tuple[timedelta, ...]:
    return tuple(timedelta(days=day) for day in days)


# The default for a Korean shop: paydays, no tries at night, one month. Tuned on the
# model of docs/explanation/dunning-model.md.
STANDARD = DunningPolicy(
    code="standard",
    ladder=_days(1, 3, 7, 14),
    final=FinalAction.CANCEL,
    ways={
        DeclineClass.MONEY_SHORT: Way(paydays=(5, 10, 15, 21, 25, MONTH_END)),
        # The text often does not name the limit: a card's month can end on any day.
        DeclineClass.LIMIT: Way(ladder=_days(1, 7, 14, 21, 28), resets=True),
        DeclineClass.LATER: Way(ladder=(timedelta(hours=3), timedelta(hours=12), *_days(1, 2, 4, 7))),
        # A decline without a reason is often caused by a lack of money.
        DeclineClass.UNKNOWN_WORD: Way(ladder=_days(1), paydays=(10, 25, MONTH_END)),
    },
    hours=Hours(time(8), time(22)),
    payday_time=time(16),  # salaries have arrived; a charge declined at 09:00 may be retried that day
    holidays="KR",
    wait=timedelta(days=35),  # a full cycle of paydays, also when days off move them
    grace=timedelta(days=7),
    upcoming=timedelta(days=3),
    last_warning=timedelta(days=3),
)

# The default for an ad-hoc charge: one try, repeated only after errors of our set-up or the connection.
ONCE = DunningPolicy(code="once", ladder=(), final=FinalAction.WRITE_OFF)
BUILT_IN = {policy.code: policy for policy in (STANDARD, ONCE)}
