"""`again import`: continue subscriptions of another system."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from schedules.errors import REMEDIES, BadRequest, Code, OwnCode, Repeat
from schedules.money.amounts import amount_words
from schedules.requests.imports import COLUMNS, NEEDED
from schedules.texts import cleaned
from worker.cli.terminal.options import InAccount, confirm
from worker.cli.terminal.output import Actor, Why, actor, answer, make_console, print_table, say
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.tables import Encoding, read_csv
from worker.cli.terminal.wired import services
from worker.onboarding import import_file, takeover
from worker.onboarding.import_file import Preview
from worker.services import UnusableAccount
from worker.textfiles import open_text, read_text

app = typer.Typer()
group = typer.Typer(cls=Listed, help="Import subscriptions from another system.", no_args_is_help=True)
app.add_typer(group, name="import")


class SomeLeft(OwnCode):
    """Some customers were not taken over."""


@group.command("subscriptions")
def import_subscriptions(
    file: Annotated[
        Path, typer.Argument(help=f"A CSV file with the columns {', '.join(COLUMNS)}; some may lack.")
    ],
    why: Why,
    encoding: Encoding = None,
    read_keys: Annotated[
        bool,
        typer.Option("--read-keys/--trust-keys", help="Ask the gateway for each new customer's card beforehand."),
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Go on without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and preview only; nothing is written.")
    ] = False,
    who: Actor = actor(),
) -> None:
    """Import subscriptions that another system has charged; every line is checked before any is written."""
    if str(file) == "-":
        raise typer.BadParameter("give a file: it is read twice, to be checked and to be written")
    made = services()
    with open_text(file, encoding) as stream:
        lines = read_csv(stream, _checked_columns)
        preview = _counted(
            "checked", lambda on_progress: import_file.check(made, lines, on_progress, read_keys=read_keys)
        )
    facts = {"new": preview.new, "known": preview.known, "sums": preview.sums, "first_charge_at": preview.first,
             "last_first_charge_at": preview.last}  # fmt: skip
    _print_preview(preview)
    written = 0
    if not dry_run and preview.new:
        confirm(yes=yes)
        with open_text(file, encoding) as stream:
            lines = read_csv(stream, _checked_columns)
            written = _counted(
                "written", lambda on_progress: import_file.write(made, lines, who, why, on_progress)
            )
    answer(facts | {"written": written})
    say("nothing is done" if dry_run else f"subscriptions written: {written:,}")


@group.command("schedules")
def import_schedules(
    customers: Annotated[list[str], typer.Argument(help="Their billing keys; or - to read one a line.")],
    plan: Annotated[str, typer.Option(help="The plan that their schedules are, by amount and dates.")],
    why: Why,
    account: InAccount = None,
    another: Annotated[
        bool, typer.Option("--another", help="Though a customer is on the plan already: one more beside it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Map and preview only.")] = False,
    who: Actor = actor(),
) -> None:
    """Take customers over from PortOne's own schedules, one by one: each is unscheduled there and begun here."""
    made = services()
    uids = (
        [cleaned("customer_uid", line.strip()) for line in read_text(Path("-")).splitlines() if line.strip()]
        if customers == ["-"]
        else customers
    )
    rows = []
    for uid in uids:
        try:
            seen = takeover.look(made, uid, plan, account)
            first, last = seen.mapped.dates[0][1], seen.mapped.dates[-1][1]
            rows.append(
                (uid, f"{len(seen.mapped.dates)} from {first} to {last} at {seen.mapped.billing_time:%H:%M}")
            )
        except (takeover.CannotTakeOver, UnusableAccount) as error:
            rows.append((uid, str(error)))
    print_table(f"schedules as plan {plan}", ("customer_uid", "what"), rows)
    if dry_run:
        answer([{"customer_uid": uid, "what": what} for uid, what in rows])
        return
    confirm(yes=yes)
    done, left = [], list[Code]()
    for uid in uids:
        try:
            cursor = takeover.take_over(made, uid, plan, who, why, account, another=another)
            done.append({"customer_uid": uid, "first_due_at": cursor.due_at, "why_not": None})
        except (takeover.CannotTakeOver, UnusableAccount) as error:
            left.append(error.code)
            done.append({"customer_uid": uid, "first_due_at": None, "why_not": str(error)})
    answer(done)
    print_table("taken over", ("customer_uid", "first charge here", "why not"), ([*row.values()] for row in done))
    if left:
        # "Try again later" is advice for all of them only if it helps each.
        others = [code for code in left if REMEDIES[code].repeat is not Repeat.LATER]
        raise SomeLeft(
            (others or left)[0],
            f"{len(left)} of {len(uids)} customers stay where they are, each for the reason above",
        )


def _checked_columns(names: list[str]) -> None:
    for name in NEEDED:
        if name not in names:
            raise BadRequest(
                Code.INVALID, name, f"the first line has no such column; there are {', '.join(COLUMNS)}"
            )
    for name in names:
        if name not in COLUMNS or names.count(name) > 1:
            raise BadRequest(
                Code.INVALID,
                name,
                f"there is no such column, or it is there twice; there are {', '.join(COLUMNS)}",
            )


def _counted(what: str, work: Callable[[Callable[[int], None]], Any]) -> Any:
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} lines {task.description}"))
    with Progress(*columns, console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        return work(lambda count: bar.advance(task, count))


def _print_preview(preview: Preview) -> None:
    sums = ", ".join(amount_words(amount, currency) for currency, amount in preview.sums.items()) or "nothing"
    say(f"new subscriptions: {preview.new:,}; their first charges here: {sums}")
    if preview.first is not None and preview.last is not None:
        say(f"the first of all is due {preview.first:%Y-%m-%d %H:%M}Z, the last {preview.last:%Y-%m-%d %H:%M}Z")
    if preview.known:
        say(f"written by an import before: {preview.known:,}")
