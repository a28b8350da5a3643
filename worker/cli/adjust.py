"""`again pause`, `resume`, `undo`, `skip`, `move-anchor`, `move-time`, `change-plan` and `change-card`."""

from typing import Annotated

import typer

from schedules.errors import Code
from schedules.money.amounts import amount_words
from worker.cli.terminal.dry_run import DryRun, context, print_if_dry_run
from worker.cli.terminal.options import read_date, read_time
from worker.cli.terminal.output import Actor, Why, actor, say
from worker.cli.terminal.request_key import (
    RequestKey,
    amount,
    carry_out,
    next_charge,
    print_changed,
    print_opened,
    print_stopped,
    when,
)

BECAME = {
    "tried": "it is tried with the new card now",
    "moved": "it moves to the new card and is not tried, because it is held, not due or stopped by an end",
    "under_way": "its call is under way or unclear; it moves to the new card if the card before does not pay",
    "left": "it is of another gateway account, and stays with the card before",
}
Subscription = Annotated[str, typer.Argument(help="The subscription's key.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("undo")(undo)
    app.command("skip")(skip)
    app.command("move-anchor")(move_anchor)
    app.command("move-time")(move_time)
    app.command("change-plan")(change_plan)
    app.command("change-card")(change_card)


def pause(
    key: Subscription, why: Why, request_key: RequestKey = None, dry_run: DryRun = False, who: Actor = actor()
) -> None:
    """Open no period until it is resumed; what is owed already is still collected."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    done = carry_out(at, verbs.pause, request_key, subscription=key, reason=why, actor=who)
    if not print_if_dry_run(at, f"pause subscription {key}"):
        say(f"subscription {key} is paused; `again resume` lets it go on")
    print_stopped(done, "is not charged unless it is resumed before")
    print_opened(done)


def resume(
    key: Subscription, why: Why, request_key: RequestKey = None, dry_run: DryRun = False, who: Actor = actor()
) -> None:
    """Go on with the next period that comes; those meanwhile are not charged."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    done = carry_out(at, verbs.resume, request_key, subscription=key, reason=why, actor=who)
    if not print_if_dry_run(at, f"resume subscription {key}"):
        say(f"subscription {key} goes on; {next_charge(done)}")
    print_opened(done, "periods_not_charged")


def undo(
    key: Subscription,
    why: Why,
    what: Annotated[
        str | None, typer.Option(help="`end` or `skip`; needed when the subscription ends and skips a period.")
    ] = None,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Take back that a subscription ends with its period, or the periods that it skips."""
    from worker.customers.adjustments import Undoable
    from worker.customers.admit import CannotAdjust
    from worker.task_api import verbs

    if what is not None and what not in set(Undoable):
        raise CannotAdjust(Code.INVALID, f"--what {what!r} cannot be undone; give one of: {', '.join(Undoable)}")
    at = context(dry_run=dry_run)
    arguments = {"subscription": key, "what": what and Undoable(what), "reason": why, "actor": who}
    done = carry_out(at, verbs.undo, request_key, **arguments)
    if done["undone"] == "end":
        undone = f"the end at {when(done['ended_at'])}; debts tried again: {done['debts_tried']}"
    else:
        undone = f"the skip of the periods below {done['skipped_below']}"
    if not print_if_dry_run(at, f"undo {undone}"):
        say(f"subscription {key}: undone is {undone}; {next_charge(done)}")


def skip(
    key: Subscription,
    why: Why,
    period: Annotated[
        int | None, typer.Option(help="The number of the period; the next one that is not skipped unless given.")
    ] = None,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Let one period pass without a charge."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    arguments = {"subscription": key, "period_no": period, "reason": why, "actor": who}
    done = carry_out(at, verbs.skip, request_key, **arguments)
    skipped = (
        f"period {done['period_no']} of {done['period_date']}, {amount(done['not_charged'], done['currency'])}"
    )
    if not print_if_dry_run(at, f"not charge {skipped}"):
        say(f"{skipped}, of subscription {key} will not be charged; `again undo` takes that back")
        say(next_charge(done))
    print_opened(done)


def move_anchor(
    key: Subscription,
    day: Annotated[str, typer.Argument(help="The first day of the next period, YYYY-MM-DD.")],
    why: Why,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Begin the next period on another day, and count those after it from there; nothing is prorated."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    arguments = {"subscription": key, "anchor": read_date(day), "reason": why, "actor": who}
    done = carry_out(at, verbs.move_anchor, request_key, **arguments)
    number, begins = done["period_no"], done["period_date"]
    if not print_if_dry_run(at, f"begin period {number} on {begins}"):
        say(f"period {number} of subscription {key} begins on {begins}, due {when(done['next_due_at'])}")
    print_changed(done)


def move_time(
    key: Subscription,
    time: Annotated[
        str, typer.Argument(help="The time of day, HH:MM in the plan's zone; `plan` for the plan's own.")
    ],
    why: Why,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Bill one subscription at another time of day than its plan says."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    arguments = {
        "subscription": key,
        "time": None if time == "plan" else read_time(time),
        "reason": why,
        "actor": who,
    }
    done = carry_out(at, verbs.move_time, request_key, **arguments)
    due = when(done["next_due_at"])
    if not print_if_dry_run(at, f"charge it next at {due}"):
        say(f"subscription {key} is charged next at {due}")
    print_changed(done)


def change_plan(
    key: Subscription,
    plan: Annotated[str, typer.Argument(help="The plan's code; its newest version is taken.")],
    why: Why,
    another: Annotated[
        bool, typer.Option("--another", help="Though the customer is on that plan already: one more beside it.")
    ] = False,
    other_currency: Annotated[
        bool, typer.Option("--other-currency", help="Though its price is in another currency.")
    ] = False,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Charge by another plan, or the newest version of its own, from the next period on; nothing is prorated."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    arguments = {"subscription": key, "plan": plan, "reason": why, "actor": who}
    options = {"another": another, "other_currency": other_currency}
    done = carry_out(at, verbs.change_plan, request_key, **arguments, **options)
    number, due = done["period_no"], when(done["next_due_at"])
    price = amount_words(done["amount"], done["currency"])
    before = amount_words(done["amount_before"], done["currency_before"])
    by = f"plan {plan} version {done['version']}, {before} -> {price}, from period {number} on, due {due}"
    if not print_if_dry_run(at, f"charge by {by}"):
        say(f"subscription {key} is charged by {by}")
    print_changed(done)


def change_card(
    key: Subscription,
    customer_uid: Annotated[str, typer.Argument(help="The billing key of another card of the same customer.")],
    why: Why,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Charge another card of the same customer from now on; open debts are tried with it at once."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    arguments = {"subscription": key, "customer_uid": customer_uid, "reason": why, "actor": who}
    done = carry_out(at, verbs.change_card, request_key, **arguments)
    tried = done["tried"]
    if not print_if_dry_run(at, f"charge {customer_uid}, and try {tried} open debts with it at once"):
        say(f"subscription {key} is charged to {customer_uid}; open debts tried with it now: {tried}")
    for debt in done.get("debts", ()):
        price, due = amount(debt["amount"], debt["currency"]), when(debt["due_at"])
        say(f"charge {debt['charge']}, {price}, due {due}: {BECAME[debt['became']]}")
    if done.get("next_amount") is not None:
        say(next_charge(done))
    print_opened(done)
