"""`again refund` and `again refunds`: make and list refunds."""

from dataclasses import asdict
from typing import Annotated

import typer

from schedules.errors import Code, OwnCode
from schedules.money.amounts import amount_words, parse_money
from schedules.requests.refunds import Fate, RefundRequest, RefundState
from worker.cli.terminal.dry_run import DryRun, context, facts_of, print_if_dry_run
from worker.cli.terminal.output import Actor, Why, actor, answer, print_table, say, with_currency
from worker.cli.terminal.wired import services
from worker.refunds import refund_payment
from worker.store import refunds as rows
from worker.task_api.verbs import refund_words

app = typer.Typer()


class NotRefunded(OwnCode):
    """The refund was not made."""


@app.command("refund")
def refund(
    charge: Annotated[str, typer.Argument(help="The key of a charge that is paid.")],
    request_key: Annotated[
        str, typer.Option(help="Your own key of this refund: given again, it answers with the same one.")
    ],
    why: Why,
    amount: Annotated[
        str | None, typer.Option(help="How much, in major units; all that is left unless given.")
    ] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217, of the amount.")] = "KRW",
    subscription: Annotated[
        Fate, typer.Option(help="What becomes of the charge's subscription.", case_sensitive=False)
    ] = Fate.KEEP,
    another: Annotated[
        bool, typer.Option("--another", help="This refund is separate from refunds made outside Again.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Give it back now, and say what came of it.")] = False,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Refund a payment, whole or in part; a worker does it within seconds."""
    much = parse_money(amount, currency) if amount is not None else None
    request = RefundRequest(
        charge=charge, money=much, request_key=request_key, reason=why, fate=subscription, another=another
    )  # fmt: skip
    at = context(dry_run=dry_run)
    asked, is_new = refund_payment.ask(at.services, request, who)
    words = amount_words(asked.amount, asked.currency)
    would = f"give back {words} of charge {charge}" if is_new else "do nothing: it was asked for before"
    if print_if_dry_run(at, would, refund_words(asked) | {"is_new": is_new}):
        return
    if wait and asked.state is not RefundState.MADE:
        refund_payment.make(at.services, asked)
        asked = refund_payment.status(at.services, request_key)
    answer(refund_words(asked) | {"is_new": is_new} | facts_of(at))
    say(f"refund {request_key}: {words} of charge {charge}: {asked.state}")
    if wait and asked.state is not RefundState.MADE:
        raise NotRefunded(
            Code.DECLINED if asked.state is RefundState.REFUSED else Code.UNKNOWN,
            f"refund {request_key} is {asked.state}: {asked.words or 'it is looked at again'}",
        )


@app.command("refunds")
def refunds(
    every: Annotated[bool, typer.Option("--all", help="Those that are over too, newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
) -> None:
    """List the refunds that were requested and not made yet, oldest first."""
    with services().engine.begin() as db:
        found = rows.listed(db, every=every, limit=limit)
    answer([asdict(refund) for refund in found])
    names = ("request_key", "charge", "amount", "state", "actor", "reason", "created_at", "words")
    plain = (with_currency(asdict(refund)) for refund in found)
    print_table("refunds", names, ([row[name] for name in names] for row in plain))
