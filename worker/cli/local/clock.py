"""`again clock`: show and move the clock that a shop and its simulator share under `again up`."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.error import URLError

import typer

from schedules.errors import Code, FixedCode, UserError
from schedules.money.amounts import amount_words
from schedules.outbox.event_fields import Payload
from worker.cli.terminal.options import UNITS, read_instant
from worker.cli.terminal.output import age, answer, instant, print_facts, print_json, print_table, wants_json

if TYPE_CHECKING:
    from worker.cli.local.pass_time import Passing
    from worker.clock import MovedClock
    from worker.config import Settings
    from worker.services import Services

LATEST = datetime(2100, 1, 1, tzinfo=UTC)
APART = timedelta(seconds=10)  # allowed difference of the two clocks: both read one file, one of them over HTTP

app = typer.Typer()


class ClockStays(FixedCode, code=Code.HELD):
    """The clock was not moved; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Step:
    """A time at which work was due, and the events that resulted from it."""

    at: datetime
    events: list[tuple[str, str, Payload]]


@app.command("clock")
def clock(
    to: Annotated[
        str | None,
        typer.Argument(
            help="How far, as +1d, +3h, +30m or +10s, or until when, as 2026-12-31 or in ISO 8601 (UTC)."
        ),
    ] = None,
    to_next: Annotated[
        bool, typer.Option("--next", help="To the next moment at which something falls due.")
    ] = False,
) -> None:
    """Show or move forward the clock of the shop and the simulator that `again up` runs.

    Work that is due on the way is done in order: the clock stops at each due time until the work is done,
    and the events that came of it are listed. Nothing is moved where the gateway is another than that simulator.
    """
    from worker.wiring import services, settings

    if to is not None and to_next:
        raise typer.BadParameter("give a time or --next, not both")
    if to is None and not to_next:
        _show(services())
        return
    moved = movable(settings())
    until = target_of(to, moved.now()) if to is not None else None
    made = services()
    with _alone(moved):
        passing = _passing(made, moved)
        target = _next(made, passing) if until is None else until
        steps: list[Step] = []
        try:
            for step in _live_until(made, passing, target):
                steps.append(step)
                _print(step)
        except UserError:
            if wants_json():
                _print_steps(made, steps)  # the error follows on standard error
            raise
    if wants_json():
        _print_steps(made, steps)
    else:
        _show(made)


def _print_steps(made: "Services", steps: list[Step]) -> None:
    print_json({**_facts(made), "steps": [_document(step) for step in steps]})


def movable(settings: "Settings") -> "MovedClock":
    """The clock that can be moved; raises ClockStays unless the gateway is a simulator with the same clock."""
    from worker.addresses import is_live
    from worker.cli.local.witness import SimulatorWitness
    from worker.clock import MovedClock
    from worker.wiring import make_clock

    url, its = settings.portone_url, make_clock(settings)
    if is_live(url):
        raise ClockStays(f"the gateway {url} is the live one; its time is real, and so is the shop's")
    if not isinstance(its, MovedClock):
        raise ClockStays(
            f"the clock of this installation cannot be moved (gateway {url}); only `again up` with its own "
            "simulator has one that can"
        )
    try:
        simulated = SimulatorWitness(url).now()
    except (URLError, OSError, ValueError, LookupError) as error:
        raise ClockStays(
            f"the gateway {url} is no simulator that answers ({error}); is `again up` running?"
        ) from None
    if abs(its.now() - simulated) > APART:
        raise ClockStays(
            f"the simulator at {url} shows {instant(simulated)}, and the shop {instant(its.now())}: they do not "
            "share a clock. Only `again up` with its own simulator has one that can be moved"
        )
    return its


@contextmanager
def _alone(clock: "MovedClock") -> Iterator[None]:
    """Lock the clock, so that one command at a time moves it."""
    descriptor = os.open(clock.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ClockStays("another `again clock` is moving the clock; wait for its end") from None
    else:
        yield
    finally:
        os.close(descriptor)


def _passing(made: "Services", moved: "MovedClock") -> "Passing":
    from worker.cli.local.pass_time import Passing

    passing = Passing(made, moved, with_tellings=True)
    passing.wait_until_quiet()
    return passing


def target_of(text: str, now: datetime) -> datetime:
    """The target time of an argument; raises ClockStays for a past or too distant time."""
    number, unit = text[1:-1], text[-1:]
    if text.startswith("+"):
        if not (number.isascii() and number.isdecimal() and unit in UNITS):
            raise typer.BadParameter(f"{text!r} is no span of time; write it like +1d, +3h, +30m or +10s")
        most = (LATEST - now).total_seconds()
        at = now + timedelta(seconds=min(most, int(number) * UNITS[unit]))
    else:
        at = read_instant(text)
    if at < now:
        raise ClockStays(
            f"the clock shows {instant(now)}, and {instant(at)} is before it: it never goes back, for the shop "
            "has rows with its times. For another beginning, stop `again up` and remove its folder .again"
        )
    if at >= LATEST:
        raise ClockStays(f"{text} is beyond {instant(LATEST)}, the end of this clock")
    return at


def _next(made: "Services", passing: "Passing") -> datetime:
    moments = _moments(made, passing.now())
    if not moments:
        raise ClockStays("nothing falls due any more: there is no active subscription and no open charge")
    return min(moments.values())


def _moments(made: "Services", now: datetime) -> dict[str, datetime]:
    from worker.store.charging import tallies

    with made.engine.begin() as db:
        return tallies.next_moments(db, now)


def _live_until(made: "Services", passing: "Passing", target: datetime) -> Iterator[Step]:
    """Move to each time before `target` at which something is due, and finally to `target`."""
    reached = False
    while not reached:
        moments = _moments(made, passing.now())
        at = min((*moments.values(), target))
        reached = at >= target
        if at > passing.now():
            yield _move(made, passing, at)


def _move(made: "Services", passing: "Passing", at: datetime) -> Step:
    from worker.store.charging import tallies

    with made.engine.begin() as db:
        before = tallies.newest_event(db)
    passing.move_to(at)
    _send_chores(at)
    passing.wait_until_quiet()
    with made.engine.begin() as db:
        return Step(at, tallies.events_after(db, before))


def _send_chores(at: datetime) -> None:
    """Send the chores that beat would send within the next minute."""
    from kombu.exceptions import OperationalError

    from worker import tasks

    try:
        for chore in (
            tasks.open_missed, tasks.dispatch, tasks.chase, tasks.ask_due, tasks.announce, tasks.look_at_cards,
        ):  # fmt: skip
            chore.apply_async(expires=tasks.CHORE_EXPIRES)
    except OperationalError as error:
        raise ClockStays(
            f"the clock was moved to {instant(at)}, and the broker does not answer: {error}; see `again status`"
        ) from None


def _print(step: Step) -> None:
    if not step.events:
        return
    rows = [
        (payload.get("customer_uid"), kind, _money(payload), payload.get("charge") or subject, _words(payload))
        for kind, subject, payload in step.events
    ]
    print_table(f"{step.at:%Y-%m-%d %H:%M:%S}Z", ("customer", "event", "amount", "key", "in words"), rows)


def _money(payload: Payload) -> str | None:
    amount, currency = payload.get("amount"), payload.get("currency")
    return amount_words(amount, currency) if isinstance(amount, int) and isinstance(currency, str) else None


def _words(payload: Payload) -> str:
    parts = {
        "decline_class": "{}", "reason": "{}", "why": "{}", "due_at": "due {}",
        "next_attempt_at": "tried again {}",
        "gives_up_at": "given up {}", "usable_until": "usable until {}", "expires_on": "expires {}",
        "next_due_at": "next due {}",
    }  # fmt: skip
    return ", ".join(words.format(payload[name]) for name, words in parts.items() if payload.get(name))


def _document(step: Step) -> dict[str, Any]:
    return {
        "at": step.at,
        "events": [{"type": kind, "subject": subject, "data": payload} for kind, subject, payload in step.events],
    }


def _facts(made: "Services") -> dict[str, Any]:
    now = made.clock.now()
    moments = _moments(made, now)
    following = min(moments.values(), default=None)
    return {
        "now": now, "real_time": made.clock.real(), "next_at": following,
        "next": sorted(name for name, at in moments.items() if at == following),
    }  # fmt: skip


def _show(made: "Services") -> None:
    facts = _facts(made)
    answer(facts)
    ahead, next_at = facts["now"] - facts["real_time"], facts["next_at"]
    from worker.clock import MovedClock

    whose = "clock of shop and simulator" if isinstance(made.clock, MovedClock) else "clock of the shop"
    print_facts(whose, {
        "now": facts["now"],
        "ahead_of_real_time": age(ahead) if ahead > APART else "not at all",
        "next": f"{next_at:%Y-%m-%d %H:%M:%S}Z, {', '.join(facts['next'])}" if next_at else "nothing",
    })  # fmt: skip
