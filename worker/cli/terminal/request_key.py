"""`--request-key`: a command is carried out once for each key, as in the task API."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.terminal.dry_run import facts_of
from worker.cli.terminal.output import print_json, say, wants_json, warn

if TYPE_CHECKING:
    from worker.task_api.verbs import Answer, Context

RequestKey = Annotated[
    str | None,
    typer.Option(help="Your own key of this request: given again, nothing is done and the answer is the same."),
]


def carry_out(at: "Context", verb: "Callable[..., Answer]", request_key: str | None, **fields: Any) -> "Answer":
    """Carry out a verb and, with --json, print the answer; a repeated request gets the first answer."""
    done, is_new = carry_out_silently(at, verb, request_key, **fields)
    if wants_json():
        print_json(done | {"is_new": is_new} | facts_of(at))
    return done


def carry_out_silently(
    at: "Context", verb: "Callable[..., Answer]", request_key: str | None, **fields: Any
) -> "tuple[Answer, bool]":
    """Carry out a verb; return its answer, and whether it was carried out now."""
    from worker.task_api import answers

    done, is_new = answers.carry_out(at, verb, fields, request_key)
    if not is_new:
        say_repeated(request_key)
    return done, is_new


def say_repeated(request_key: str | None) -> None:
    """Print on standard error that nothing was done now."""
    warn(f"request {request_key!r} was carried out before; this is its answer")


def when(instant: str) -> str:
    """An instant of an answer for people: 2026-11-30 09:00Z."""
    return f"{instant[:10]} {instant[11:16]}Z"


def amount(minor: int, currency: str) -> str:
    """An amount of an answer for people: 9,900 KRW."""
    from schedules.money.amounts import Money

    return str(Money(minor, currency))


def next_charge(done: "Answer") -> str:
    """The next charge of an answer in words."""
    if done["next_due_at"] is None:
        return "no charge is planned"
    return f"next charge: {amount(done['next_amount'], done['currency'])}, due {when(done['next_due_at'])}"


def print_changed(done: "Answer") -> None:
    """Print the next charge before and after a change, and the periods that were opened first."""
    if "due_at_before" not in done:
        return  # a stored answer from before an upgrade
    after = f"{amount(done['amount'], done['currency'])}, due {when(done['next_due_at'])}"
    before = f"{amount(done['amount_before'], done['currency_before'])}, due {when(done['due_at_before'])}"
    say(f"next charge: {before} -> {after}")
    print_opened(done)


def print_stopped(done: "Answer", how: str) -> None:
    """Print the charge that is not made any more, if there is one."""
    stops = done.get("stops")
    if stops is not None:
        price, due = amount(stops["amount"], stops["currency"]), when(stops["due_at"])
        say(f"period {stops['period_no']}, {price}, due {due}, {how}")


def print_opened(done: "Answer", field: str = "opened") -> None:
    """Print the periods that were due and opened before the verb was carried out.

    A stored answer from before an upgrade may lack the field.
    """
    for each in done.get(field, ()):
        due, price = when(each["due_at"]), amount(each["amount"], each["currency"])
        if each.get("closed_why") is None:
            say(f"period {each['period_no']} was due {due} and is opened as charge {each['charge']}: {price}")
        else:
            say(f"period {each['period_no']} was due {due} and is not charged, {price}: {each['closed_why']}")
