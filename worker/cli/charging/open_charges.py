"""`again try`, `release`, `waive`, `cancel-charge`, `paid-elsewhere`, `held` and `unknown`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from schedules.charging.identity import SUBJECT_LENGTH
from schedules.money.amounts import amount_words
from worker.cli.terminal.dry_run import DryRun, context, print_if_dry_run
from worker.cli.terminal.output import Actor, Why, actor, age, answer, print_table, say, warn, with_currency
from worker.cli.terminal.verbs import RequestKey, add_verb, carry_out
from worker.cli.terminal.wired import services
from worker.store.charging import waits
from worker.store.charging.waits import WaitsForCard
from worker.store.customers import subscriptions
from worker.task_api import verbs

MOST_LISTED = 1000
app = typer.Typer()


@app.command("release")
def release(
    why: Why,
    key: Annotated[
        str | None, typer.Argument(help="A charge's key, or that of a subscription that was set aside.")
    ] = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="Every charge whose last attempt was refused, instead of one key.")
    ] = False,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Release a charge or a subscription that is held or was refused, so that it goes on now."""
    if (key is None) is not refused:
        raise typer.BadParameter("give a key, or --refused for every charge that was refused; not both")
    at = context(dry_run=dry_run)
    if key is None:
        done = carry_out(at, verbs.release_refused, request_key, reason=why, actor=who)
        sums = ", ".join(amount_words(each["amount"], each["currency"]) for each in done["amounts"])
        what = f"{done['released']} {'charge' if done['released'] == 1 else 'charges'}" + (sums and f", {sums}")
        if not print_if_dry_run(at, f"collect {what}"):
            say(f"{what} will be collected")
        return
    carry_out(at, verbs.release, request_key, key=key, reason=why, actor=who)
    if len(key) == SUBJECT_LENGTH:
        if not print_if_dry_run(at, f"look at subscription {key} again"):
            say(f"subscription {key} is looked at again")
    elif not print_if_dry_run(at, f"collect charge {key}"):
        say(f"charge {key} will be collected")


@app.command("held")
def held(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many of each kind.")] = 1000,
) -> None:
    """List what waits for an operator or for another card, oldest first, with the reasons.

    `again charges --held` and `again subscriptions --held` list all in pages, newest first.
    """
    with services().engine.begin() as db:
        waiting, aside, for_card = waits.held(db, limit), subscriptions.held(db, limit), waits.for_card(db, limit)
    documents = {
        "charges": [asdict(charge) for charge in waiting],
        "subscriptions": [asdict(subscription) for subscription in aside],
        "waiting_for_card": [_waits_for_card(charge) for charge in for_card],
    }
    answer(documents)
    _print_rows("held charges", ("key", "status", "amount", "due_at", "held_why"), documents["charges"])
    _print_rows("held subscriptions", ("key", "status", "next_due_at", "held_why"), documents["subscriptions"])
    of_card = ("key", "customer_uid", "status", "amount", "due_at", "look_at", "why")
    _print_rows("charges that wait for a card", of_card, documents["waiting_for_card"])
    if limit in (len(waiting), len(aside), len(for_card)):
        warn(f"at most {limit:,} of each kind are listed; give a larger --limit to see whether there are more")


def _print_rows(title: str, names: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    print_table(title, names, ([row[name] for name in names] for row in map(with_currency, rows)))


def _waits_for_card(charge: WaitsForCard) -> dict[str, Any]:
    left_out = ("given_up", "stopped_as", "reason")
    told = {name: value for name, value in asdict(charge).items() if name not in left_out}
    return told | {"why": _why_it_waits(charge)}


def _why_it_waits(charge: WaitsForCard) -> str:
    """Why a charge is not tried before its card changes."""
    if charge.stopped_as is not None:
        why = f"its card is not tried any more, {charge.stopped_as}"
    elif charge.given_up is not None:
        why = f"the tries of its policy are over, {charge.given_up}"
    else:
        why = "it is tried when the card changes or a person says so"
    return f"{why}: {charge.reason}" if charge.reason else why


@app.command("unknown")
def unknown() -> None:
    """List the attempts whose outcome is unknown, with their age and their next look-up."""
    made = services()
    now = made.clock.now()
    with made.engine.begin() as db:
        found = waits.unknown(db, MOST_LISTED)
    answer([asdict(its) | {"age_seconds": int((now - its.unknown_since).total_seconds())} for its in found])
    names = ("merchant_uid", "age", "asked", "next look", "what was heard last")
    shown = (
        (its.merchant_uid, age(now - its.unknown_since), its.asks, its.next_ask_at, its.reason) for its in found
    )
    print_table("unknown outcomes", names, shown)


add_verb(
    app, verbs.try_charge,
    ("try charge {charge} at once", "charge {charge} is tried now; `again show {charge}` shows the outcome"),
    name="try",
)  # fmt: skip
add_verb(app, verbs.waive, ("waive charge {charge}", "charge {charge} is waived"))
add_verb(app, verbs.cancel_charge, ("cancel charge {charge}", "charge {charge} is canceled"))
add_verb(app, verbs.paid_elsewhere, ("take charge {charge} as paid", "charge {charge} is paid"))
