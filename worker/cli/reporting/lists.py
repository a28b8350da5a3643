"""`again customers`, `subscriptions`, `charges` and `attempts`: lists with filters, in pages."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

import typer

from schedules.calendar.zones import zone as read_zone
from schedules.charging.charges import AttemptState, ChargeStatus, SubscriptionStatus
from worker.cli.terminal.options import AsCsv, read_date, refuse_json_with_csv
from worker.cli.terminal.paging import After, Facts, Limit, Paged, print_list
from worker.cli.terminal.wired import services
from worker.reporting import listing
from worker.reporting.listing import Filters, Kind, Page
from worker.store.reporting.lists import CustomerLine

T = TypeVar("T")
app = typer.Typer()
Plan = Annotated[str | None, typer.Option("--plan", help="Only of this plan, by its code, in all its versions.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="Only of this gateway account.")]
Card = Annotated[str | None, typer.Option("--card", help="Only of this customer_uid.")]
On = Annotated[str | None, typer.Option("--on", help="Only those due on this local day, YYYY-MM-DD.")]
Zone = Annotated[
    str | None,
    typer.Option("--zone", help="IANA time zone of the day.", show_default="that of --plan, or AGAIN_ZONE"),
]
Held = Annotated[bool, typer.Option("--held", help="Only those that wait for an operator.")]


@dataclass(frozen=True, slots=True)
class Output:
    """What the options of all lists say."""

    limit: int | None
    after: str | None
    as_csv: bool


@app.command("customers")
def customers(
    plan: Annotated[
        str | None, typer.Option("--plan", help="Only with a subscription to this plan that has not ended.")
    ] = None,
    account: Annotated[str | None, typer.Option("--account", help="Only with a card of this account.")] = None,
    card: Annotated[str | None, typer.Option("--card", help="Only the customer of this customer_uid.")] = None,
    limit: Limit = None,
    after: After = None,
    as_csv: AsCsv = False,
) -> None:
    """List customers, newest first; names, e-mail addresses and telephone numbers are masked."""
    columns = {
        "reference": "reference", "name": "name", "email": "e-mail", "tel": "telephone", "cards": "customer_uid",
        "created_at": "added",
    }  # fmt: skip
    filters = Filters(plan=plan, account=account, card=card)
    _print(listing.CUSTOMERS, filters, columns, Output(limit, after, as_csv), _customer)


def _customer(line: CustomerLine) -> Facts:
    return asdict(listing.masked(line))


@app.command("subscriptions")
def subscriptions(
    status: Annotated[SubscriptionStatus | None, typer.Option("--status", help="Only with this status.")] = None,
    plan: Plan = None,
    account: OfAccount = None,
    on: Annotated[
        str | None, typer.Option("--on", help="Only those whose next period opens on this local day, YYYY-MM-DD.")
    ] = None,
    zone: Zone = None,
    card: Card = None,
    held: Held = False,
    limit: Limit = None,
    after: After = None,
    as_csv: AsCsv = False,
) -> None:
    """List subscriptions, newest first; those of a day by the time at which they open, the latest first."""
    filters = Filters(status, plan, account, read_date(on) if on else None, zone, card, held)
    columns = {
        "key": "subscription", "customer_uid": "customer_uid", "plan": "plan", "version": "version",
        "amount": "price", "status": "status", "next_due_at": "next due", "ends_at": "ends",
        "held_why": "held because",
    }  # fmt: skip
    _print(listing.SUBSCRIPTIONS, filters, columns, Output(limit, after, as_csv))


@app.command("charges")
def charges(
    status: Annotated[ChargeStatus | None, typer.Option("--status", help="Only with this status.")] = None,
    plan: Plan = None,
    account: OfAccount = None,
    on: On = None,
    zone: Zone = None,
    card: Card = None,
    held: Held = False,
    limit: Limit = None,
    after: After = None,
    as_csv: AsCsv = False,
) -> None:
    """List charges, newest first; those of a day by their due time, the latest first."""
    filters = Filters(status, plan, account, read_date(on) if on else None, zone, card, held)
    columns = {
        "due_at": "due", "key": "charge", "customer_uid": "customer_uid", "plan": "plan", "amount": "amount",
        "status": "status", "next_attempt_at": "next attempt", "attempts": "attempts", "held_why": "held because",
        "closed_why": "closed because",
    }  # fmt: skip
    _print(listing.CHARGES, filters, columns, Output(limit, after, as_csv))


@app.command("attempts")
def attempts(
    state: Annotated[AttemptState | None, typer.Option("--state", help="Only in this state.")] = None,
    plan: Plan = None,
    account: OfAccount = None,
    on: Annotated[
        str | None, typer.Option("--on", help="Only those of charges due on this local day, YYYY-MM-DD.")
    ] = None,
    zone: Zone = None,
    card: Annotated[str | None, typer.Option("--card", help="Only those sent with this customer_uid.")] = None,
    limit: Limit = None,
    after: After = None,
    as_csv: AsCsv = False,
) -> None:
    """List attempts, newest first, archived ones too; those of one state by the time of that state."""
    filters = Filters(state, plan, account, read_date(on) if on else None, zone, card)
    columns = {
        "last_sent_at": "sent", "merchant_uid": "merchant_uid", "customer_uid": "customer_uid",
        "amount": "amount", "state": "state", "decline_class": "class", "reason": "reason",
    }  # fmt: skip
    _print(listing.ATTEMPTS, filters, columns, Output(limit, after, as_csv))


def _print(
    kind: Kind[T], filters: Filters, columns: dict[str, str], output: Output,
    facts: Callable[[Any], Facts] = asdict,
) -> None:  # fmt: skip
    refuse_json_with_csv(as_csv=output.as_csv)
    made = services()

    def read(after: str | None, limit: int) -> Page[Facts]:
        found = listing.page(made, kind, filters, after, limit)
        return Page([facts(row) for row in found.rows], found.next)

    zone = listing.zone_of(made, filters)
    local = read_zone(zone) if zone is not None else None
    print_list(Paged(kind.name, output.limit, output.as_csv, columns, local), output.after, read)
