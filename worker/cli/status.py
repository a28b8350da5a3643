"""`again status`, `alive` and `accounts`: the processes, what waits, every cause of a fault, and the accounts.

Nothing that talks to a database or a broker is imported before it is used: a check of one process uses none, and a
supervisor runs it every few seconds.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedules.errors import Code, FixedCode
from schedules.operations.health import Cause, CauseCode, ProcessSeen
from worker.cli.terminal.output import answer, print_facts, print_table
from worker.runtime.alive import check

if TYPE_CHECKING:
    from worker.operations.health import Health
    from worker.services import Services

app = typer.Typer()


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
    from worker import tasks
    from worker.app import QUEUES
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


def _hold_words(hold: Any) -> str | None:
    if hold is None:
        return None
    return f"since {hold.since:%Y-%m-%d %H:%M:%S}Z; all since {hold.hold_from:%Y-%m-%d %H:%M}Z is being asked for"


def _print(facts: dict[str, Any], found: "Health") -> None:
    lists = ("beats", "processes", "stops", "wrong_accounts", "queues")
    print_facts("again", {name: value for name, value in facts.items() if name not in lists})
    rows = ((b["name"], b["leads"], b["plans"], f"{b['seconds_ago']:.0f} s ago") for b in facts["beats"])
    print_table("beats", ("name", "leads", "plans", "seen"), rows)
    print_table("workers", ("name", "queues", "seen", "clock", "check", "why it does nothing"), (
        (p["name"], ", ".join(p["queues"]), f"{p['seconds_ago']:.0f} s ago", f"{p['clock_ahead']:+.1f} s",
         f"{p['check_seconds'] * 1000:.0f} ms", p["obstacle"])
        for p in facts["processes"] if p["kind"] == "worker"
    ))  # fmt: skip
    print_table("messages", ("queue", "waiting"), facts["queues"].items())
    stops = ((s["account"], s["at"], s["actor"], s["why"]) for s in facts["stops"])
    print_table("wrong accounts", ("why nothing is sent",), ((wrong,) for wrong in facts["wrong_accounts"]))
    print_table("stops", ("account", "since", "by", "why"), stops)
    named = (("failure" if c.code.is_failure else "notice", c.code, c.sentence) for c in found.causes)
    print_table("what is wrong", ("", "cause", "in words"), named)


@app.command("accounts")
def accounts() -> None:
    """List the gateway accounts, the main one first, with their addresses and rates, without secrets."""
    from worker import wiring

    known = wiring.settings().accounts()
    names = ("name", "portone_url", "tier", "sandbox", "rate", "reconcile_rate")
    answer([{name: getattr(account, name) for name in names} for account in known])
    print_table("accounts", names, ([getattr(account, name) for name in names] for account in known))
