"""`again status`, `alive` and `accounts`: the processes, what waits, every cause of a fault, and the accounts.

Nothing that talks to a database or a broker is imported before it is used: a check of one process uses none, and a
supervisor runs it every few seconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedules.errors import Code, FixedCode
from schedules.operations.due_work import Comparison
from schedules.operations.health import (
    CRASHES_WITHIN,
    MOST_SKEW,
    SLOW_CHECK,
    Cause,
    CauseCode,
    ProcessKind,
    ProcessSeen,
)
from worker.cli.terminal.output import age, answer, print_facts, print_table
from worker.runtime.alive import check

if TYPE_CHECKING:
    from worker.operations.health import Health
    from worker.services import Services

app = typer.Typer()
# The counts of what waits, and the command that lists each.
LOOK_WITH = {
    "waits_for_card": "again held", "held": "again held",
    "refused": "again release --refused", "unknown": "again unknown", "findings": "again findings",
    "dead_letters": "again dead-letters", "dead_events": "again events --dead",
}  # fmt: skip


class NotHealthy(FixedCode, code=Code.FAILED):
    """The installation or a process has a fault; the message lists them."""


@app.command("status")
def status(
    healthy: Annotated[
        bool,
        typer.Option(
            "--healthy", help="Exit non-zero when something does not work; docs/how-to/runbook.md lists what."
        ),
    ] = False,
    this: Annotated[
        Path | None,
        typer.Option(
            "--self",
            help="Check only the process that was started with this --alive-file, as `again alive` does.",
        ),
    ] = None,
) -> None:
    """Show the processes, whether charging is stopped, what waits, and what is wrong."""
    if this is not None:
        alive(this)
        return
    from worker.store.failures import DATABASE_ERRORS
    from worker.wiring import BadDatabase, services

    try:
        made = services()
        facts, found = _look(made)
    except (BadDatabase, *DATABASE_ERRORS) as error:
        answer(_verdict([_unreadable(error)]))
        raise NotHealthy(str(error)) from None
    answer(facts | _verdict(found.causes))
    _print(facts, found)
    if healthy and not found.is_healthy:
        raise NotHealthy("; ".join(f"{cause.code}: {cause.sentence}" for cause in _failures(found.causes)))


@app.command("alive")
def alive(
    file: Annotated[Path, typer.Argument(help="What the process was started with as --alive-file.")],
) -> None:
    """Check whether one process works: exit status 0, or 1 with the reason. It uses no database and no broker."""
    words = check(file)
    answer({"file": file, "words": words}, words)


def _look(made: "Services") -> tuple[dict[str, Any], "Health"]:
    from schedules.operations.queues import QUEUES
    from worker import tasks
    from worker.broker import probe
    from worker.operations import health
    from worker.wiring import wrong_accounts, wrong_place

    broker = probe.find_cause(tasks.app)
    messages = {queue: tasks.messages_in(queue) for queue in QUEUES} if broker is None else {}
    wrong, of_accounts = wrong_place(made), list(wrong_accounts(made))
    found = health.examine(made, messages)
    found.causes[:0] = [
        *([broker] if broker is not None else []),
        *([Cause(CauseCode.WRONG_PLACE, wrong)] if wrong is not None else []),
        *(Cause(CauseCode.WRONG_ACCOUNT, words) for words in of_accounts),
    ]
    running = [process for process in found.processes if not process.ended]
    return {
        "environment": made.settings.environment,
        "may_send": wrong is None,
        "why_not": wrong,
        "wrong_accounts": of_accounts,
        "beats": [_beat(process) for process in running if process.kind == "beat"],
        "processes": [_process(process) for process in running],
        "queues": messages,
        "accounts": _accounts(found, made.clock.now()),
        "reconciled": [_comparison(each, made.clock.now()) for each in found.comparisons],
        "stops": [asdict(stopped) for stopped in found.stops],
        **found.counts,
        "hold": _hold_words(found.hold),
    }, found


def _unreadable(error: Exception) -> Cause:
    from worker.operations.health import database_cause
    from worker.wiring import BadDatabase, Unreachable

    match error:
        case Unreachable():
            return Cause(CauseCode.DATABASE_AWAY, str(error))
        case BadDatabase():
            return Cause(CauseCode.WRONG_REVISION, str(error))
        case _:
            return database_cause(error)


def _verdict(causes: Sequence[Cause]) -> dict[str, Any]:
    listed = [{"code": each.code, "sentence": each.sentence, "failure": each.code.is_failure} for each in causes]
    return {"healthy": not _failures(causes), "causes": listed}


def _failures(causes: Sequence[Cause]) -> list[Cause]:
    return [cause for cause in causes if cause.code.is_failure]


def _beat(process: ProcessSeen) -> dict[str, Any]:
    names = ("name", "started_at", "seen_at", "leads", "plans", "seconds_ago")
    return {name: getattr(process, name) for name in names}


def _process(process: ProcessSeen) -> dict[str, Any]:
    names = (
        "kind", "name", "version", "queues", "started_at", "seconds_ago", "progress_ago", "clock_ahead",
        "check_seconds", "obstacle",
    )  # fmt: skip
    return {name: getattr(process, name) for name in names}


def _accounts(found: "Health", now: datetime) -> list[dict[str, Any]]:
    """What waits longest in each account, with ages in seconds."""
    periods = {each.account: each for each in found.unopened}
    due = {each.account: each for each in found.accounts}
    listed = []
    for account in sorted(periods.keys() | due.keys()):
        its, period = due.get(account), periods.get(account)
        oldest, unopened = its.oldest if its else None, period.due_at if period else None
        listed.append({
            "account": account, "due": its.due if its else 0, "rate": its.rate if its else None,
            "oldest_due_at": oldest, "oldest_due_age": _seconds(now, oldest),
            "oldest_due": its.oldest_key if its else None,
            "unopened_due_at": unopened, "unopened_age": _seconds(now, unopened),
            "unopened": period.subscription if period else None,
        })  # fmt: skip
    return listed


def _comparison(each: Comparison, now: datetime) -> dict[str, Any]:
    return asdict(each) | {"age": _seconds(now, each.ended_at), "late": each.is_late(now)}


def _seconds(now: datetime, at: datetime | None) -> float | None:
    return None if at is None else (now - at).total_seconds()


def _hold_words(hold: Any) -> str | None:
    if hold is None:
        return None
    return f"since {hold.since:%Y-%m-%d %H:%M:%S}Z; all since {hold.hold_from:%Y-%m-%d %H:%M}Z is being asked for"


def _print(facts: dict[str, Any], found: "Health") -> None:
    lists = ("beats", "processes", "stops", "wrong_accounts", "queues", "causes", "accounts", "reconciled")
    print_facts("again", {name: _counted(name, value) for name, value in facts.items() if name not in lists})
    seen = [each for each in found.processes if not each.ended and not _is_replaced(each, found.processes)]
    _print_lines("processes", ("kind", "name", "version", "works on", "seen", "progress"), (
        (p.kind, p.name, p.version, _works_on(p), f"{_age(p.seconds_ago)} ago", f"{_age(p.progress_ago)} ago",
         _todo(p))
        for p in seen
    ))  # fmt: skip
    _print_lines("messages", ("queue", "waiting", "workers"), (
        (queue, many, (readers := _readers(seen, queue)),
         f"start `again worker --queues {queue}`" if many and not readers else None)
        for queue, many in facts["queues"].items()
    ))  # fmt: skip
    print_table("accounts", ("account", "due", "oldest due charge", "oldest unopened period"), (
        (a["account"], a["due"], _oldest(a["oldest_due_age"], a["oldest_due"]),
         _oldest(a["unopened_age"], a["unopened"]))
        for a in facts["accounts"]
    ))  # fmt: skip
    _print_lines("compared with the gateway", ("account", "kind", "ended"), (
        (r["account"], r["kind"], "not yet" if r["age"] is None else f"{_age(r['age'])} ago",
         "see the log of the workers of reconcile" if r["late"] else None)
        for r in facts["reconciled"]
    ))  # fmt: skip
    stops = ((s["account"], s["at"], s["actor"], s["why"]) for s in facts["stops"])
    print_table("wrong accounts", ("why nothing is sent",), ((wrong,) for wrong in facts["wrong_accounts"]))
    print_table("stops", ("account", "since", "by", "why"), stops)
    named = (("failure" if c.code.is_failure else "notice", c.code, c.sentence) for c in found.causes)
    print_table("what is wrong", ("", "cause", "in words"), named)


def _counted(name: str, value: object) -> object:
    """A count with the command that lists what is counted, where there is anything."""
    return f"{value}, see `{LOOK_WITH[name]}`" if value and name in LOOK_WITH else value


def _print_lines(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows whose last value says what to do; without this column where there is nothing to do."""
    listed = list(rows)
    if any(row[-1] for row in listed):
        print_table(title, (*columns, "what to do"), listed)
    else:
        print_table(title, columns, (row[:-1] for row in listed))


def _age(seconds: float) -> str:
    return age(timedelta(seconds=max(0.0, seconds)))


def _oldest(seconds: float | None, key: str | None) -> str:
    return "none" if seconds is None else f"{_age(seconds)}, {key}"


def _readers(running: Sequence[ProcessSeen], queue: str) -> int:
    return sum(process.is_alive and queue in process.queues for process in running)


def _works_on(process: ProcessSeen) -> str:
    if process.kind == ProcessKind.BEAT:
        return f"plans: {process.plans}" if process.leads else "waits for the lead"
    return ", ".join(process.queues)


def _is_replaced(process: ProcessSeen, others: Sequence[ProcessSeen]) -> bool:
    """Whether a process that has been silent for long has a successor, which started after its last heartbeat."""
    program = (process.kind, process.host, process.queues)
    return process.seconds_ago >= CRASHES_WITHIN and any(
        other.started_at > process.seen_at and (other.kind, other.host, other.queues) == program
        for other in others
    )


def _todo(process: ProcessSeen) -> str | None:
    """What to do about a process; "what is wrong" says more of what stops the work."""
    if process.is_silent:
        return "it hangs or was killed: restart it"
    if process.obstacle is not None:
        return process.obstacle
    if abs(process.clock_ahead) > MOST_SKEW.total_seconds():
        return f"its clock is {process.clock_ahead:+.0f} s wrong: set it right"
    if process.check_seconds > SLOW_CHECK:
        return f"a pre-send check takes {process.check_seconds:.2f} s: check the database"
    return None


@app.command("accounts")
def accounts() -> None:
    """List the gateway accounts, the main one first, with their addresses and rates, without secrets."""
    from worker import wiring

    known = wiring.settings().accounts()
    names = ("name", "portone_url", "tier", "sandbox", "rate", "reconcile_rate")
    answer([{name: getattr(account, name) for name in names} for account in known])
    print_table("accounts", names, ([getattr(account, name) for name in names] for account in known))
