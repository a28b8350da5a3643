"""`again customer`, `subscribe` and `unsubscribe`: who pays for what."""

from typing import Annotated

import typer

from worker.cli.output import Actor, AsJson, Why, actor, print_json
from worker.cli.parts import read_date
from worker.cli.rehearsing import DryRun, desk, told
from worker.cli.typed import read_card

Pg = Annotated[str | None, typer.Option(help="The channel, as PortOne names it: kcp, or kcp.MID.")]
InAccount = Annotated[
    str | None, typer.Option("--account", help="The gateway account; the main one unless given.")
]
group = typer.Typer(help="Customers: who pays, by the billing key that the gateway has.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
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


def subscribe(
    customer_uid: Annotated[str, typer.Argument(help="The customer's billing key.")],
    plan: Annotated[str, typer.Argument(help="The plan's code; its newest version is taken.")],
    anchor: Annotated[str | None, typer.Option(help="First date, YYYY-MM-DD; today unless given.")] = None,
    another: Annotated[
        bool, typer.Option("--another", help="Though the customer is on this plan already: one more beside it.")
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
    as_json: AsJson = False,
    who: Actor = actor(),
) -> None:
    """Begin a subscription; the first charge is due at the anchor, or after the plan's trial."""
    from worker.wiring import services
    from worker.workflows import enrolling

    if card:
        if anchor or another or enroll:
            raise typer.BadParameter("--card begins today, for a customer without a stored card; give it alone")
        _sign_up(customer_uid, plan, pg, account, why, who, as_json=as_json)
        return
    begins = read_date(anchor) if anchor else None
    if enroll:
        enrolling.enroll_if_unknown(services(), customer_uid, who, account)
    begun = enrolling.subscribe(services(), customer_uid, plan, who, begins, another=another)
    if as_json:
        facts = {"key": begun.key, "customer_uid": customer_uid, "plan": plan, "version": begun.version}
        first = {"first_period": begun.first.period_no, "first_due_at": begun.first.due_at}
        print_json(facts | {"anchor": begun.anchor} | first)
    else:
        due = f"{begun.first.due_at:%Y-%m-%d %H:%M}Z"
        print(f"subscription {begun.key}: {customer_uid} on {plan} version {begun.version}, anchor {begun.anchor}")
        print(f"its first charge is period {begun.first.period_no}, due {due}")


def _sign_up(
    customer_uid: str, plan: str, pg: str | None, account: str | None, why: str, who: str, *, as_json: bool
) -> None:
    from worker.wiring import services
    from worker.workflows import signing_up
    from worker.workflows.keying import Holder

    begun = signing_up.sign_up(services(), customer_uid, plan, read_card(pg), who, why, Holder(account=account))
    if as_json:
        facts = {"key": begun.subscription, "customer_uid": customer_uid, "plan": plan, "charge": begun.charge}
        print_json(facts | {"anchor": begun.anchor, "next_due_at": begun.next_due_at})
        return
    paid = f"its first period is paid by charge {begun.charge}" if begun.charge else "its card is stored"
    print(f"subscription {begun.subscription}: {customer_uid} on {plan}, anchor {begun.anchor}; {paid}")
    print(f"it is charged next at {begun.next_due_at:%Y-%m-%d %H:%M}Z")


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
