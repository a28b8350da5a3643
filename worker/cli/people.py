"""`again customer`, `subscribe` and `unsubscribe`: who pays for what."""

from typing import Annotated

import typer

from worker.cli.output import Actor, AsJson, Why, actor, print_json
from worker.cli.parts import read_date
from worker.cli.rehearsing import DryRun, desk, told

group = typer.Typer(help="Customers: who pays, by the billing key that the gateway has.", no_args_is_help=True)


cards_app = typer.Typer(help="Cards: what stands behind a billing key.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
    app.add_typer(group, name="customer")
    app.add_typer(cards_app, name="card")
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
    as_json: AsJson = False,
    who: Actor = actor(),
) -> None:
    """Make a customer known; the billing key is read back from the gateway, so it must be there."""
    from worker.wiring import services
    from worker.workflows import enrolling

    key = enrolling.add_customer(services(), customer_uid, name, email, tel, who, of, account)
    if as_json:
        facts = {"customer_uid": customer_uid, "card_name": key.card_name, "card_number": key.card_number}
        print_json(facts | {"pg_provider": key.pg_provider})
    else:
        print(f"customer {customer_uid} is known: {key.card_name or 'card'} {key.card_number or ''}".rstrip())


@cards_app.command("changed")
def card_changed(
    customer_uid: Annotated[str, typer.Argument(help="The billing key.")], why: Why, who: Actor = actor()
) -> None:
    """Take a card as replaced under its billing key, or as mended: what is open is tried at once, oldest first."""
    from worker.wiring import services
    from worker.workflows import cards

    tried = cards.changed(services(), customer_uid, who, why)
    print(f"the card of {customer_uid} is taken as changed; open charges that are tried now: {tried}")


@cards_app.command("expires")
def card_expires(
    customer_uid: Annotated[str, typer.Argument(help="The billing key.")],
    month: Annotated[str, typer.Argument(help="The month after which the card is no good, YYYY-MM.")],
    who: Actor = actor(),
) -> None:
    """Keep when a card expires, which the gateway does not tell; `card.expiring` is sent a month before."""
    from worker.wiring import services
    from worker.workflows import cards

    day = read_date(f"{month}-01")
    last_day = cards.expires(services(), customer_uid, day.year, day.month, who)
    print(f"the card of {customer_uid} is good until {last_day}")


def subscribe(
    customer_uid: Annotated[str, typer.Argument(help="The customer's billing key.")],
    plan: Annotated[str, typer.Argument(help="The plan's code; its newest version is taken.")],
    anchor: Annotated[str | None, typer.Option(help="First date, YYYY-MM-DD; today unless given.")] = None,
    another: Annotated[
        bool, typer.Option("--another", help="Though the customer is on this plan already: one more beside it.")
    ] = False,
    as_json: AsJson = False,
    who: Actor = actor(),
) -> None:
    """Begin a subscription; the first charge is due at the anchor, or after the plan's trial."""
    from worker.wiring import services
    from worker.workflows import enrolling

    begins = read_date(anchor) if anchor else None
    begun = enrolling.subscribe(services(), customer_uid, plan, who, begins, another=another)
    if as_json:
        facts = {"key": begun.key, "customer_uid": customer_uid, "plan": plan, "version": begun.version}
        first = {"first_period": begun.first.period_no, "first_due_at": begun.first.due_at}
        print_json(facts | {"anchor": begun.anchor} | first)
    else:
        due = f"{begun.first.due_at:%Y-%m-%d %H:%M}Z"
        print(f"subscription {begun.key}: {customer_uid} on {plan} version {begun.version}, anchor {begun.anchor}")
        print(f"its first charge is period {begun.first.period_no}, due {due}")


def unsubscribe(
    key: Annotated[str, typer.Argument(help="The subscription's key.")],
    why: Why,
    now: Annotated[
        bool,
        typer.Option("--now/--at-period-end", help="End at once and let go what is owed, or when it is paid to."),
    ] = False,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """End a subscription, at the end of the running period unless told --now."""
    from worker.workflows import enrolling

    at = desk(dry_run=dry_run)
    canceled = enrolling.unsubscribe(at.services, key, who, why, at_period_end=not now)
    when = f"at once, and {canceled} owed charges with it" if now else "when its running period ends"
    if told(at, f"end subscription {key} {when}"):
        return
    if now:
        print(f"subscription {key} is canceled, and {canceled} owed charges with it")
    else:
        print(f"subscription {key} ends with the running period; nothing new is charged")
