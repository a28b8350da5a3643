"""Read faults from JSON; errors name the wrong field."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from simulator.faults import ANY, CALLS, HANG_SECONDS, SLOW_SECONDS, WEBHOOK, Fault, Faults, Rule

_SETTINGS = {
    "seed", "rules", "latency_ms", "rate_cap", "concurrent_same_uid", "over_long_uid", "unknown_key", "sandbox",
    "card_contract", "strict",
}  # fmt: skip
_MATCH = {"call", "path", "merchant_uid", "customer_uid"}
_RULE = {"match", "fault", "rate", "times", "seconds", "shown_after"}
_WEBHOOK_FAULTS = (Fault.WEBHOOK_DUPLICATED, Fault.WEBHOOK_MISSING)


class BadFaults(ValueError):
    """The faults cannot be read; the message names the field."""


def read_faults(document: object, seed: int = 0) -> Faults:
    """Faults from a JSON document; raises BadFaults for unknown fields. `seed` is the default of the document."""
    if not isinstance(document, Mapping):
        raise BadFaults("faults: must be an object")
    _refuse_unknown(document, _SETTINGS, "faults")
    rules = document.get("rules", [])
    if not isinstance(rules, list):
        raise BadFaults("rules: must be a list")
    cap = document.get("rate_cap")
    return Faults(
        seed=_whole(document.get("seed", seed), "seed"),
        rules=[_read_rule(rule, f"rules[{place}]") for place, rule in enumerate(rules)],
        latency_ms=_number(document.get("latency_ms", 0), "latency_ms"),
        rate_cap=None if cap is None else _number(cap, "rate_cap"),
        concurrent_same_uid=_choice(document, "concurrent_same_uid", ("allow", "reject")),
        over_long_uid=_choice(document, "over_long_uid", ("reject", "truncate")),
        unknown_key=_choice(document, "unknown_key", (200, 404)),
        sandbox=_choice(document, "sandbox", (False, True)),
        card_contract=_choice(document, "card_contract", ("number", "birth", "birth_and_password")),
        strict=_choice(document, "strict", (False, True)),
    )


def _read_rule(rule: object, where: str) -> Rule:
    """Read one rule; what it matches is in `match`, or beside the fault."""
    if not isinstance(rule, Mapping):
        raise BadFaults(f"{where}: must be an object")
    _refuse_unknown(rule, _RULE | _MATCH, where)
    match = rule.get("match", {})
    if not isinstance(match, Mapping):
        raise BadFaults(f"{where}.match: must be an object")
    _refuse_unknown(match, _MATCH, f"{where}.match")
    matched = {name: rule[name] for name in _MATCH if name in rule} | dict(match)
    name = str(rule.get("fault"))
    if name not in set(Fault):
        raise BadFaults(f"{where}.fault: {name!r} is not known; there are {', '.join(Fault)}")
    fault = Fault(name)
    rate = _number(rule.get("rate", 1), f"{where}.rate")
    if rate > 1:
        raise BadFaults(f"{where}.rate: {rate} is not between 0 and 1")
    times = rule.get("times")
    usual = SLOW_SECONDS if fault is Fault.SLOW else HANG_SECONDS
    return Rule(
        fault,
        _call(matched, fault, where),
        **{name: None if matched.get(name) is None else str(matched[name]) for name in _MATCH - {"call"}},
        rate=rate,
        times=None if times is None else _whole(times, f"{where}.times"),
        seconds=_number(rule.get("seconds", usual), f"{where}.seconds"),
        shown_after=_number(rule.get("shown_after", 0), f"{where}.shown_after"),
    )


def _call(matched: Mapping[str, object], fault: Fault, where: str) -> str:
    """The name of the call. Default: webhooks for their own faults, any call with a path, otherwise `again`."""
    usual = WEBHOOK if fault in _WEBHOOK_FAULTS else ANY if matched.get("path") is not None else "again"
    call = str(matched.get("call", usual))
    if call not in CALLS:
        raise BadFaults(f"{where}.call: {call!r} is not known; there are {', '.join(CALLS)}")
    return call


def _choice(document: Mapping[str, object], name: str, choices: tuple[Any, ...]) -> Any:
    """One of several values; the first is the default."""
    value = document.get(name, choices[0])
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise BadFaults(f"{name}: {value!r} is not one of {', '.join(str(choice) for choice in choices)}")
    return value


def _refuse_unknown(document: Mapping[str, object], known: Iterable[str], where: str) -> None:
    unknown = sorted(str(name) for name in set(document) - set(known))
    if unknown:
        raise BadFaults(f"{where}.{unknown[0]}: there is no such field; there are {', '.join(sorted(known))}")


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadFaults(f"{where}: {value!r} is not a number of 0 or more")
    return float(value)


def _whole(value: object, where: str) -> int:
    number = _number(value, where)
    if number != int(number):
        raise BadFaults(f"{where}: {value!r} is not a whole number")
    return int(number)
