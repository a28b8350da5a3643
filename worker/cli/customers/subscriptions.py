"""`again subscribe` and `unsubscribe`, and the commands that change a subscription."""

from collections.abc import Mapping
from datetime import time
from typing import Annotated, Any

import typer

from schedules.money.amounts import amount_words
from worker.cli.terminal.answers import when
from worker.cli.terminal.dry_run import context
from worker.cli.terminal.options import InAccount, Pg, read_date, read_time
from worker.cli.terminal.output import Actor, actor, answer, say
from worker.cli.terminal.typed_cards import read_card
from worker.cli.terminal.verbs import RequestKey, add_verb, carry_out_silently
from worker.cli.terminal.wired import services
from worker.customers import enrollment, signup
from worker.customers.card_entry import Holder
from worker.task_api import verbs

app = typer.Typer()


@app.command("subscribe")
def subscribe(
    customer_uid: Annotated[str, typer.Argument(help="The customer's billing key.")],
    plan: Annotated[str, typer.Argument(help="The plan's code; its newest version is taken.")],
    anchor: Annotated[str | None, typer.Option(help="First date, YYYY-MM-DD; today unless given.")] = None,
    another: Annotated[
        bool, typer.Option("--another", help="Though the customer is on this plan already: one more beside it.")
    ] = False,
    trial_again: Annotated[
        bool, typer.Option("--trial-again", help="Though the customer has had the plan's trial: give it again.")
    ] = False,
    enroll: Annotated[
        bool, typer.Option("--enroll", help="Make the customer known too, if he is not: his key is read back.")
    ] = False,
    card: Annotated[
        bool, typer.Option("--card", help="Type a card in: it is stored and, without a trial, pays at once.")
    ] = False,
    pg: Pg = None,
    account: InAccount = None,
    why: Annotated[str, typer.Option(help="The reason, for the audit.")] = "signed up",
    request_key: RequestKey = None,
    who: Actor = actor(),
) -> None:
    """Begin a subscription; the first charge is due at the anchor, or after the plan's trial."""
    if card:
        if anchor or another or enroll:
            raise typer.BadParameter("--card begins today, for a customer without a stored card; give it alone")
        _sign_up(customer_uid, plan, pg, account, why, request_key, who, trial_again=trial_again)
        return
    at, begins = context(dry_run=False), read_date(anchor) if anchor else None
    if enroll:
        enrollment.enroll_if_unknown(at.services, customer_uid, who, account)
    begun, is_new = carry_out_silently(
        at, verbs.subscribe, request_key,
        customer_uid=customer_uid, plan=plan, actor=who, anchor=begins, another=another,
        trial_again=trial_again,
    )  # fmt: skip
    key, version, number = begun["subscription"], begun["version"], begun["period_no"]
    facts = {"key": key, "customer_uid": customer_uid, "plan": plan, "version": version}
    first = {"first_period": number, "first_due_at": begun["next_due_at"]}
    price, due = amount_words(begun["amount"], begun["currency"]), when(begun["next_due_at"])
    answer(
        begun | facts | first | {"is_new": is_new},
        f"subscription {key}: {customer_uid} on {plan} version {version}, anchor {begun['anchor']}",
        f"its first charge is period {number}, {price}, due {due}",
    )
    if begun["trial_used_by"]:
        say(f"it has no trial: subscription {begun['trial_used_by']} had it; --trial-again gives one more")


def _sign_up(
    customer_uid: str, plan: str, pg: str | None, account: str | None, why: str, request_key: str | None, who: str,
    *, trial_again: bool,
) -> None:  # fmt: skip
    begun = signup.sign_up(
        services(), customer_uid, plan, read_card(pg), who, why, Holder(account=account), request_key=request_key,
        trial_again=trial_again,
    )  # fmt: skip
    facts = {"key": begun.subscription, "customer_uid": customer_uid, "plan": plan, "charge": begun.charge}
    paid = f"its first period is paid by charge {begun.charge}" if begun.charge else "its card is stored"
    answer(
        facts | {"anchor": begun.anchor, "next_due_at": begun.next_due_at},
        f"subscription {begun.subscription}: {customer_uid} on {plan}, anchor {begun.anchor}; {paid}",
        f"it is charged next at {begun.next_due_at:%Y-%m-%d %H:%M}Z",
    )


def _ended(words: Mapping[str, Any]) -> tuple[str, str]:
    with_it = f"and {words['charges_canceled']} owed charges with it"
    would, did = f"at once, {with_it}", f"is canceled, {with_it}"
    if not words["now"]:
        would = f"when its running period ends, {words['ends_at']}"
        did = f"ends with the running period, {words['ends_at']}; nothing new is charged"
    return f"end subscription {words['subscription']} {would}", f"subscription {words['subscription']} {did}"


def _read_time(text: str) -> time | None:
    return None if text == "plan" else read_time(text)


def _undone(words: Mapping[str, Any]) -> tuple[str, str]:
    if words["undone"] == "end":
        undone = f"the end at {words['ended_at']}; debts tried again: {words['debts_tried']}"
    else:
        undone = f"the skip of the periods below {words['skipped_below']}"
    return f"undo {undone}", f"subscription {words['subscription']}: undone is {undone}"


add_verb(
    app, verbs.unsubscribe, _ended,
    now=typer.Option(
        False, "--now/--at-period-end",
        help="End at once and cancel what is owed, or at the end of the running period.",
    ),
)  # fmt: skip
add_verb(
    app, verbs.pause,
    ("pause subscription {subscription}", "subscription {subscription} is paused until `again resume`"),
)  # fmt: skip
add_verb(
    app, verbs.resume, ("resume subscription {subscription}", "subscription {subscription} continues"),
)  # fmt: skip
add_verb(
    app, verbs.undo, _undone,
    what=typer.Option(None, help="`end` or `skip`; needed when the subscription ends and skips a period."),
)  # fmt: skip
add_verb(
    app, verbs.skip,
    (
        "not charge period {period_no} of {period_date}, {not_charged}",
        "period {period_no} of {period_date}, {not_charged}, of subscription {subscription} will not be "
        "charged; `again undo` takes that back",
    ),
    period_no=typer.Option(
        None, "--period", help="The number of the period; the next one that is not skipped unless given."
    ),
)  # fmt: skip
add_verb(
    app, verbs.move_anchor,
    (
        "begin period {period_no} on {period_date}",
        "period {period_no} of subscription {subscription} begins on {period_date}, due {next_due_at}",
    ),
)  # fmt: skip
add_verb(
    app, verbs.move_time,
    ("charge it next at {next_due_at}", "subscription {subscription} is charged next at {next_due_at}"),
    time=typer.Argument(
        help="Local time `HH:MM` in the plan's zone; `plan` for the plan's own.", callback=_read_time
    ),
)  # fmt: skip
terms = "plan {plan} version {version}, {amount_before} -> {amount}, from period {period_no} on, due {next_due_at}"
add_verb(
    app, verbs.change_plan, (f"charge by {terms}", f"subscription {{subscription}} is charged by {terms}")
)  # fmt: skip
add_verb(
    app, verbs.change_card,
    (
        "charge {customer_uid}, and try {tried} open debts with it at once",
        "subscription {subscription} is charged to {customer_uid}; open debts tried with it now: {tried}",
    ),
)  # fmt: skip
