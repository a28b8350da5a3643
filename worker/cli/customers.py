"""`again customer`, `subscribe` and `unsubscribe`: customers and their subscriptions."""

from typing import Annotated

import typer

from schedules.money.amounts import amount_words
from worker.cli.terminal.dry_run import DryRun, context, print_if_dry_run
from worker.cli.terminal.options import read_date
from worker.cli.terminal.output import Actor, AsJson, Why, actor, print_json, say
from worker.cli.terminal.request_key import (
    RequestKey,
    amount,
    carry_out,
    carry_out_silently,
    print_opened,
    print_stopped,
    when,
)
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.typed_cards import read_card

Pg = Annotated[str | None, typer.Option(help="The channel, as PortOne names it: kcp, or kcp.MID.")]
InAccount = Annotated[
    str | None, typer.Option("--account", help="The gateway account; the main one unless given.")
]
group = typer.Typer(
    cls=Listed, help="Customers: who pays, by the billing key that the gateway has.", no_args_is_help=True
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(group, name="customer")
    app.command("subscribe")(subscribe)
    app.command("unsubscribe")(unsubscribe)


@group.command("add")
def add(
    customer_uid: Annotated[str, typer.Argument(help="The gateway's id of the stored card.")],
    name: Annotated[str | None, typer.Option(help="The customer's name, at most 16 characters.")] = None,
    email: Annotated[str | None, typer.Option(help="For the shop's own notices, at most 64.")] = None,
    tel: Annotated[str | None, typer.Option(help="For the shop's own notices, at most 16.")] = None,
    of: Annotated[str | None, typer.Option(help="The customer_uid of another card of the same customer.")] = None,
    account: Annotated[str | None, typer.Option(help="The gateway account that has it; the main one.")] = None,
    request_key: RequestKey = None,
    as_json: AsJson = False,
    who: Actor = actor(),
) -> None:
    """Make a customer known; the billing key is read back from the gateway, so it must be there."""
    from worker.task_api import verbs

    known = {"name": name, "email": email, "tel": tel, "of": of, "account": account}
    facts, is_new = carry_out_silently(
        context(dry_run=False), verbs.add_customer, request_key, customer_uid=customer_uid, actor=who, **known
    )
    if as_json:
        print_json(facts | {"is_new": is_new})
    else:
        card = f"{facts['card_name'] or 'card'} {facts['card_number'] or ''}".rstrip()
        say(f"customer {customer_uid} is known: {card}")


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
    as_json: AsJson = False,
    who: Actor = actor(),
) -> None:
    """Begin a subscription; the first charge is due at the anchor, or after the plan's trial."""
    if card:
        if anchor or another or enroll:
            raise typer.BadParameter("--card begins today, for a customer without a stored card; give it alone")
        _sign_up(customer_uid, plan, pg, account, why, request_key, who, trial_again=trial_again, as_json=as_json)
        return
    from worker.customers import enrollment
    from worker.task_api import verbs

    at, begins = context(dry_run=False), read_date(anchor) if anchor else None
    if enroll:
        enrollment.enroll_if_unknown(at.services, customer_uid, who, account)
    begun, is_new = carry_out_silently(
        at, verbs.subscribe, request_key,
        customer_uid=customer_uid, plan=plan, actor=who, anchor=begins, another=another,
        trial_again=trial_again,
    )  # fmt: skip
    key, version, number = begun["subscription"], begun["version"], begun["period_no"]
    if as_json:
        facts = {"key": key, "customer_uid": customer_uid, "plan": plan, "version": version}
        first = {"first_period": number, "first_due_at": begun["next_due_at"]}
        print_json(begun | facts | first | {"is_new": is_new})
    else:
        say(f"subscription {key}: {customer_uid} on {plan} version {version}, anchor {begun['anchor']}")
        price, due = amount_words(begun["amount"], begun["currency"]), when(begun["next_due_at"])
        say(f"its first charge is period {number}, {price}, due {due}")
        if begun["trial_used_by"]:
            say(f"it has no trial: subscription {begun['trial_used_by']} had it; --trial-again gives one more")


def _sign_up(
    customer_uid: str, plan: str, pg: str | None, account: str | None, why: str, request_key: str | None, who: str,
    *, trial_again: bool, as_json: bool,
) -> None:  # fmt: skip
    from worker.customers import signup
    from worker.customers.card_entry import Holder
    from worker.wiring import services

    holder = Holder(account=account)
    begun = signup.sign_up(
        services(), customer_uid, plan, read_card(pg), who, why, holder, request_key=request_key,
        trial_again=trial_again,
    )  # fmt: skip
    if as_json:
        facts = {"key": begun.subscription, "customer_uid": customer_uid, "plan": plan, "charge": begun.charge}
        print_json(facts | {"anchor": begun.anchor, "next_due_at": begun.next_due_at})
        return
    paid = f"its first period is paid by charge {begun.charge}" if begun.charge else "its card is stored"
    say(f"subscription {begun.subscription}: {customer_uid} on {plan}, anchor {begun.anchor}; {paid}")
    say(f"it is charged next at {begun.next_due_at:%Y-%m-%d %H:%M}Z")


def unsubscribe(
    key: Annotated[str, typer.Argument(help="The subscription's key.")],
    why: Why,
    now: Annotated[
        bool,
        typer.Option("--now/--at-period-end", help="End at once and let go what is owed, or when it is paid to."),
    ] = False,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """End a subscription, at the end of the running period unless told --now."""
    from worker.task_api import verbs

    at = context(dry_run=dry_run)
    done = carry_out(at, verbs.unsubscribe, request_key, subscription=key, reason=why, actor=who, now=now)
    canceled, ends = done["charges_canceled"], when(done["ends_at"])
    how = f"at once, and {canceled} owed charges with it" if now else f"when its running period ends, {ends}"
    if not print_if_dry_run(at, f"end subscription {key} {how}"):
        ended = f"is canceled, and {canceled} owed charges with it"
        later = f"ends with the running period, {ends}; nothing new is charged"
        say(f"subscription {key} {ended if now else later}")
    print_opened(done)
    print_stopped(done, "does not come any more")
    for charge in done["canceled"]:
        say(f"canceled: charge {charge['charge']}, {amount(charge['amount'], charge['currency'])}")
    for charge in done["unclear"]:
        price = amount(charge["amount"], charge["currency"])
        say(
            f"unclear: charge {charge['charge']}, {price}, may be paid yet; "
            "a payment is told as charge.paid_after_end"
        )
