"""Cases from the suites and documents of other billing systems: what our calendar answers to each."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from schedules.calendar.cadence import Cron, Every, Unit, anchor_form, short_month_warning
from schedules.calendar.periods import first_on_or_after, period_date, trial_end, whole_periods
from schedules.calendar.zones import day_bounds, local_date, wall_to_utc, zone

OURS = Path(__file__).with_name("calendar_vectors.json")
REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/calendar-vectors.json"
COMMON = {"id", "kind", "verdict", "source"}
VERDICTS = {"adopt", "divergent", "reject", "policy"}
LEFT_OUT = {"note", "shopify", "kill_bill", "croniter", "celery"}  # words, and what others answer
Vector = dict[str, Any]


def cadence(vector: Vector) -> Every:
    """The vector's cadence."""
    return Every(vector["every"], Unit(vector["unit"]))


def instant(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def dates_from(anchor: date, rule: Every | Cron, start: date | None, count: int) -> list[str]:
    """So many dates from a start, or from period 1 of an anchored series."""
    n = first_on_or_after(anchor, rule, start)[0] if start else 1
    return [period_date(anchor, rule, n + place).isoformat() for place in range(count)]


def series(v: Vector) -> None:
    start = date.fromisoformat(v["from"]) if "from" in v else None
    assert dates_from(date.fromisoformat(v["anchor"]), cadence(v), start, len(v["expect"])) == v["expect"]


def due_on(v: Vector) -> None:
    day = date.fromisoformat(v["date"])
    found = first_on_or_after(date.fromisoformat(v["anchor"]), cadence(v), day)[1]
    assert (found == day) is v["due"]


def due_instant(v: Vector) -> None:
    assert (local_date(instant(v["instant"]), zone(v["tz"])).isoformat() == v["due_local_date"]) is v["due"]


def period_bounds(v: Vector) -> None:
    first, last = date.fromisoformat(v["local_first"]), date.fromisoformat(v["local_last"])
    assert day_bounds(first, last, zone(v["tz"])) == (instant(v["utc_start"]), instant(v["utc_end"]))


def first_on_or_after_start(v: Vector) -> None:
    start = date.fromisoformat(v["start"])
    rule = cadence(v)
    found = first_on_or_after(_anchored(start, v["anchor_day"], rule), rule, start)[1]
    assert found.isoformat() == v["expect"]


def _anchored(start: date, day: int, rule: Every) -> date:
    """A date with this very day, whole steps before the start's month."""
    months = rule.every * (12 if rule.unit is Unit.YEAR else 1)
    back = 0
    while True:
        back += months
        year, month = divmod(start.year * 12 + start.month - 1 - back, 12)
        try:
            return date(year, month + 1, day)
        except ValueError:
            continue


def whole(v: Vector) -> None:
    until = date.fromisoformat(v["until"])
    assert whole_periods(date.fromisoformat(v["anchor"]), cadence(v), until) == v["expect"]


def local(v: Vector) -> None:
    assert local_date(instant(v["instant"]), zone(v["tz"])).isoformat() == v["expect"]


def trial_then_month(v: Vector) -> None:
    begins = trial_end(datetime.fromisoformat(v["start_local"]).date(), v["trial_days"])
    assert begins.isoformat() == v["expect_first_charge"]
    assert dates_from(begins, Every(1, Unit.MONTH), None, len(v["expect_next"])) == v["expect_next"]


def anti(v: Vector) -> None:
    answer = dates_from(date.fromisoformat(v["anchor"]), cadence(v), None, len(v["ours"]))
    assert answer == v["ours"]
    assert answer != v["observed"]


def single_step(v: Vector) -> None:
    step = Every(v["count"], Unit(v["unit"]))
    assert period_date(date.fromisoformat(v["start"]), step, 1).isoformat() == v["ours"]


def single_step_instant(v: Vector) -> None:
    tz = zone(v["tz"])
    start = instant(v["start"]).astimezone(tz)
    day = period_date(start.date(), Every(v["count"], Unit(v["unit"])), 1)
    assert wall_to_utc(day, start.time(), tz) == instant(v["ours"])


def wall(v: Vector) -> None:
    at = datetime.fromisoformat(v["local"])
    assert wall_to_utc(at.date(), at.time(), zone(v["tz"])) == instant(v["expect"])


def cron_ok(v: Vector) -> None:
    start = datetime.fromisoformat(v["start"]).date()
    assert dates_from(start, Cron(v["expr"]), start, len(v["expect"])) == v["expect"]


def cron_trap(v: Vector) -> None:
    """A text that skips months is warned about, and the form that is offered gives the wanted dates."""
    cron = Cron(v["expr"])
    begins = datetime.fromisoformat(v["start"]).date()
    form = anchor_form(cron)
    if form is None:
        ours = [day for day in dates_from(begins, cron, begins, len(v["ours"]) + 1) if day > begins.isoformat()]
        assert ours[: len(v["ours"])] == v["ours"]
        assert short_month_warning(cron) is None
        return
    warning = short_month_warning(cron)
    assert warning is not None
    day = max(cron.days_named())
    assert f"--every {form.every} --unit {form.unit} with an anchor on day {day}" in warning
    assert dates_from(date(begins.year - 1, 12, day), form, begins, len(v["ours"])) == v["ours"]
    # Told to go on all the same, the text means what it means to everybody else.
    assert dates_from(begins, cron, begins, len(v["observed"])) == v["observed"]


# Of each kind: what checks it, and the keys that it must and may have.
KINDS: dict[str, tuple[Callable[[Vector], None], set[str], set[str]]] = {
    "series": (series, {"anchor", "unit", "every", "tz", "expect"}, {"from"}),
    "due_on": (due_on, {"anchor", "unit", "every", "tz", "date", "due"}, set()),
    "due_instant": (due_instant, {"tz", "due_local_date", "instant", "due"}, set()),
    "period_bounds": (period_bounds, {"tz", "local_first", "local_last", "utc_start", "utc_end"}, set()),
    "first_on_or_after": (first_on_or_after_start, {"start", "anchor_day", "unit", "every", "expect"}, {"tz"}),
    "whole_periods": (whole, {"anchor", "until", "unit", "every", "expect"}, {"tz"}),
    "local_date": (local, {"tz", "instant", "expect"}, set()),
    "trial_then_month": (
        trial_then_month,
        {"tz", "start_local", "trial_days", "expect_first_charge", "expect_next"},
        set(),
    ),
    "anti": (anti, {"anchor", "unit", "every", "observed", "ours"}, {"tz"}),
    "single_step": (single_step, {"start", "unit", "count", "observed", "ours"}, {"tz"}),
    "single_step_instant": (single_step_instant, {"tz", "start", "unit", "count", "observed", "ours"}, set()),
    "wall_to_utc": (wall, {"tz", "local", "expect"}, set()),
    "cron_ok": (cron_ok, {"expr", "tz", "start", "expect"}, set()),
    "cron_trap": (cron_trap, {"expr", "tz", "start", "observed", "ours"}, set()),
}


def load(path: Path) -> list[Vector]:
    """The vectors of a file; a kind or key that is not known is an error, not something to pass over."""
    vectors: list[Vector] = json.loads(path.read_text())["vectors"]
    for vector in vectors:
        if vector["kind"] not in KINDS or vector["verdict"] not in VERDICTS:
            raise KeyError(f"{vector['id']}: {vector['kind']} or {vector['verdict']} is not known")
        _, must, may = KINDS[vector["kind"]]
        keys = set(vector) - LEFT_OUT
        if not must | COMMON <= keys <= must | may | COMMON:
            raise KeyError(f"{vector['id']}: keys {sorted(keys)} are not those of {vector['kind']}")
    return vectors


@pytest.mark.parametrize("vector", load(OURS), ids=lambda vector: str(vector["id"]))
def test_the_calendar_answers_as_it_should(vector: Vector) -> None:
    KINDS[vector["kind"]][0](vector)


def test_there_are_as_many_as_there_should_be_each_once() -> None:
    assert len({vector["id"] for vector in load(OURS)}) == len(load(OURS)) == 112
    assert {vector["kind"] for vector in load(OURS)} == set(KINDS)


@pytest.mark.parametrize(
    "change", [{"kind": "guess"}, {"verdict": "perhaps"}, {"colour": "red"}, {"anchor": None}, {"source": None}]
)
def test_a_kind_verdict_or_key_that_is_not_known_or_missing_fails_the_loading(
    tmp_path: Path, change: dict[str, str | None]
) -> None:
    vector = {key: value for key, value in (load(OURS)[0] | change).items() if value is not None}
    changed = tmp_path / "vectors.json"
    changed.write_text(json.dumps({"vectors": [vector]}))
    with pytest.raises(KeyError, match="LAGO-02"):
        load(changed)


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"the reference vectors are not at hand: {REFERENCE}")
def test_our_copy_holds_the_facts_of_the_reference() -> None:
    reference = [{k: value for k, value in v.items() if k not in LEFT_OUT} for v in load(REFERENCE)]
    assert load(OURS) == reference


def test_a_midnight_gap_keeps_the_local_date() -> None:
    at = wall_to_utc(date(2018, 11, 4), time(0), zone("America/Sao_Paulo"))
    assert local_date(at, zone("America/Sao_Paulo")) == date(2018, 11, 4)
