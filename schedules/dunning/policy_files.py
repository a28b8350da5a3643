"""Policy files: a dunning policy in TOML; an error names the line and the reason."""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from typing import Any, TypeVar

from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import (
    CHOSEN_CLASSES,
    MONTH_END,
    CardCap,
    DunningPolicy,
    FinalAction,
    Hours,
    Way,
    read_hours,
    words,
)
from schedules.errors import BadPolicy, RuleBroken

Read = TypeVar("Read")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_SPAN = re.compile(r"(\d{1,5})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LINE_OF_ERROR = re.compile(r"\(at line (\d+)")
_LAST = "last"  # the month's last day in a file


def read_span(text: object) -> timedelta:
    """A span such as 12h, 3d or 90m."""
    found = _SPAN.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise BadPolicy(f"{text!r} cannot be read as a span of time; write it like 12h or 3d, in quotes")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def read_policy_file(text: str, name: str) -> DunningPolicy:
    """Parse a policy file; `name` is the file's name, for errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = _LINE_OF_ERROR.search(str(error))
        where = f"{name}, line {line[1] if line else len(text.splitlines())}"
        raise BadPolicy(f"{where}: it is not TOML: {error}") from None
    return _File(text, name).policy(document)


class _File:
    """The text and its parsed content, so that an error can name the line."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.splitlines()
        self._name = name

    def policy(self, document: Mapping[str, Any]) -> DunningPolicy:
        known: dict[str, Callable[[Any], object]] = {
            "code": _code, "final": _final, "ladder": _ladder, "hours": _hours, "payday_time": _time,
            "holidays": _text, "wait": read_span, "grace": read_span, "upcoming": read_span,
            "last_warning": read_span, "cap": _cap, "classes": dict,
        }  # fmt: skip
        self._refuse_strange(document, set(known), None)
        if "code" not in document:
            raise BadPolicy(f'{self._name}: it has no code; begin with a line like code = "standard"')
        values: dict[str, Any] = {key: self._read(known[key], value, None, key) for key, value in document.items()}
        classes = values.pop("classes", {})
        if not isinstance(classes, dict):
            raise BadPolicy(f"{self._where(None, 'classes')}: classes are tables, such as [classes.money_short]")
        values["ways"] = {name: self._way(name, way) for name, way in classes.items()}
        values["ways"] = {DeclineClass(name): way for name, way in values["ways"].items()}
        values.setdefault("ladder", ())
        values.setdefault("final", FinalAction.CANCEL)
        try:
            return DunningPolicy(**values)
        except RuleBroken as error:
            raise BadPolicy(f"{self._where_of(str(error))}: {error}") from None

    def _way(self, name: str, way: object) -> Way:
        if name not in CHOSEN_CLASSES:
            chosen = ", ".join(CHOSEN_CLASSES)
            raise BadPolicy(f"{self._where(name, None)}: class {name!r} is not one to choose; there are: {chosen}")
        if not isinstance(way, dict):
            raise BadPolicy(f"{self._where(None, name)}: class {name} is a table, with a ladder or paydays")
        known: dict[str, Callable[[Any], Any]] = {"ladder": _ladder, "paydays": _paydays, "resets": _flag}
        self._refuse_strange(way, set(known), name)
        values = {key: self._read(known[key], value, name, key) for key, value in way.items()}
        try:
            return Way(**values)
        except RuleBroken as error:
            key = "paydays" if "payday" in str(error) else "ladder"
            raise BadPolicy(f"{self._where(name, key)}: {error}") from None

    def _read(self, read: Callable[[Any], Read], value: object, table: str | None, key: str) -> Read:
        try:
            return read(value)
        except (RuleBroken, ValueError, TypeError) as error:
            raise BadPolicy(f"{self._where(table, key)}: {key}: {error}") from None

    def _refuse_strange(self, found: Mapping[str, object], known: set[str], table: str | None) -> None:
        for key in found:
            if key not in known:
                there = ", ".join(sorted(known))
                raise BadPolicy(f"{self._where(table, key)}: {key!r} is not known; there are: {there}")

    def _where_of(self, told: str) -> str:
        """Return the line of an error about the whole policy: the first key that its message names."""
        keys = ("wait", "grace", "upcoming", "last_warning", "holidays", "country", "ladder", "cap", "hours")
        key = next((key for key in keys if key in told), None)
        return self._where(None, "holidays" if key == "country" else key)

    def _where(self, table: str | None, key: str | None) -> str:
        line = self._line(table, key)
        return f"{self._name}, line {line}" if line else self._name

    def _line(self, table: str | None, key: str | None) -> int | None:
        """Return the line of a key: after its table's header, or before any header."""
        here: str | None = None
        for number, line in enumerate(self._lines, start=1):
            header = re.match(r"\s*\[\s*classes\s*\.\s*\"?([\w-]+)\"?\s*\]", line)
            if header or line.lstrip().startswith("["):
                here = header[1] if header else ""
                if here == table and key is None:
                    return number
                if key is not None and re.search(rf"\b{re.escape(key)}\b", line) and table is None:
                    return number
            elif here == table and key is not None and re.match(rf"\s*\"?{re.escape(key)}\"?\s*[.=]", line):
                return number
            elif table is not None and re.match(rf"\s*(classes\s*\.\s*)?{re.escape(table)}\s*=", line):
                return number  # an inline table
        return None


def _code(value: object) -> str:
    if not (isinstance(value, str) and _CODE.fullmatch(value)):
        raise BadPolicy(f"{value!r} is not made of 1 to 40 letters, digits, - and _")
    return value


def _final(value: object) -> FinalAction:
    if value not in list(FinalAction):
        raise BadPolicy(f"{value!r} is not known; there are: {', '.join(FinalAction)}")
    return FinalAction(str(value))


def _ladder(value: object) -> tuple[timedelta, ...]:
    if not isinstance(value, list):
        raise BadPolicy(f'{value!r} is no list; write it like ["1d", "3d", "7d"]')
    rungs = tuple(read_span(offset) for offset in value)
    Way(rungs)  # refused here, where the line is known
    return rungs


def _paydays(value: object) -> tuple[int, ...]:
    days = [MONTH_END if day == _LAST else day for day in value] if isinstance(value, list) else None
    if days is None or not all(isinstance(day, int) and not isinstance(day, bool) for day in days):
        raise BadPolicy(f'{value!r} is no list of days; write it like [10, 25, "{_LAST}"]')
    return tuple(sorted({int(day) for day in days}))


def _hours(value: object) -> Hours:
    return read_hours(_text(value))


def _time(value: object) -> time:
    try:
        return value if isinstance(value, time) else time.fromisoformat(_text(value))
    except ValueError:
        raise BadPolicy(f"{value!r} is not a time of day; write it like 11:00") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadPolicy(f"{value!r} is not a text; put it in quotes")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadPolicy(f"{value!r} is neither true nor false")
    return value


def _cap(value: object) -> CardCap:
    if not isinstance(value, dict) or set(value) - {"declines", "within"}:
        raise BadPolicy(f'{value!r} is no cap; write it like {{ declines = 15, within = "30d" }}')
    declines = value.get("declines", CardCap().declines)
    if not isinstance(declines, int) or isinstance(declines, bool):
        raise BadPolicy(f"{declines!r} declines is not a whole number")
    return CardCap(declines, read_span(value["within"]) if "within" in value else CardCap().within)


def written(policy: DunningPolicy) -> str:
    """Return a policy file that parses to this policy."""
    lines = [f'code = "{policy.code}"', f'final = "{policy.final}"', f"ladder = {_list(policy.ladder)}"]
    lines += [f'hours = "{policy.hours}"', f'payday_time = "{policy.payday_time:%H:%M}"']
    if policy.holidays is not None:
        lines.append(f'holidays = "{policy.holidays}"')
    for name in ("wait", "grace", "upcoming", "last_warning"):
        span = getattr(policy, name)
        if span is not None:
            lines.append(f'{name} = "{words(span)}"')
    lines.append(f'cap = {{ declines = {policy.cap.declines}, within = "{words(policy.cap.within)}" }}')
    for decline_class in CHOSEN_CLASSES:
        way = policy.ways.get(decline_class)
        if way is None:
            continue
        lines += ["", f"[classes.{decline_class}]", f"ladder = {_list(way.ladder)}"]
        if way.paydays:
            days = ", ".join(f'"{_LAST}"' if day == MONTH_END else str(day) for day in way.paydays)
            lines.append(f"paydays = [{days}]")
        if way.resets:
            lines.append("resets = true")
    return "\n".join(lines) + "\n"


def _list(offsets: tuple[timedelta, ...]) -> str:
    return "[" + ", ".join(f'"{words(offset)}"' for offset in offsets) + "]"
