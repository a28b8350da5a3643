"""`again customer` and `again card`: customers, stored cards, and cards that are typed in."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from schedules.charging.charges import ChargeStatus, KeyedIn
from schedules.dunning.policies import ONCE
from schedules.errors import Code, OwnCode
from schedules.money.amounts import parse_money
from schedules.requests.adhoc import ChargeRequest
from worker.cli.terminal.dry_run import DryRun, context, facts_of, print_if_dry_run
from worker.cli.terminal.options import InAccount, Pg, read_date
from worker.cli.terminal.output import Actor, Why, actor, answer, os_user, print_facts, print_table, say
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.typed_cards import read_card
from worker.cli.terminal.verbs import RequestKey, add_verb, say_repeated
from worker.cli.terminal.wired import services
from worker.customers import card_entry, cards, issued_keys
from worker.customers.card_entry import Holder
from worker.task_api import verbs

app = typer.Typer()
cards_app = typer.Typer(cls=Listed, help="Cards behind billing keys.", no_args_is_help=True)
app.add_typer(cards_app, name="card")
customers_app = typer.Typer(
    cls=Listed, help="Customers and their billing keys at the gateway.", no_args_is_help=True
)
app.add_typer(customers_app, name="customer")
Uid = Annotated[str, typer.Argument(help="The billing key.")]
Name = Annotated[str | None, typer.Option(help="The customer's name, at most 16 characters.")]
Email = Annotated[str | None, typer.Option(help="At most 64 characters.")]
Tel = Annotated[str | None, typer.Option(help="At most 16 characters.")]


class CardNotPaid(OwnCode):
    """The payment with a typed-in card has failed or is unclear."""


@cards_app.command("issue")
def issue(
    customer_uid: Uid, why: Why, pg: Pg = None, account: InAccount = None, name: Name = None, email: Email = None,
    tel: Tel = None, request_key: RequestKey = None, who: Actor = actor(),
) -> None:  # fmt: skip
    """Store a card that is typed in; under a known customer_uid it replaces the card, and open debts are tried."""
    made = services()
    holder = Holder(account=account, name=name, email=email, tel=tel)
    issued = issued_keys.issue(made, customer_uid, read_card(pg), who, why, holder, request_key=request_key)
    if not issued.is_new:
        say_repeated(request_key)
    facts = {"customer_uid": customer_uid, "card_name": issued.card_name, "card_number": issued.card_number}
    words = f"the card of {customer_uid} is stored: {issued.card_name or 'card'} {issued.card_number or ''}"
    answer(facts | {"is_new": issued.is_new}, words.rstrip())


@cards_app.command("pay")
def pay(
    customer_uid: Uid,
    amount: Annotated[str, typer.Argument(help="How much, in major units.")],
    name: Annotated[str, typer.Option(help="On the customer's statement, at most 40 characters.")],
    request_key: Annotated[
        str, typer.Option(help="Your own key of this debt: given again, it answers with the same charge.")
    ],
    why: Why,
    keep: Annotated[bool, typer.Option("--keep", help="Store the card as well, with the payment.")] = False,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "KRW",
    pg: Pg = None,
    account: InAccount = None,
    who: Actor = actor(),
) -> None:
    """Charge a card that is typed in, once; it is stored only on request."""
    request = ChargeRequest(
        customer_uid=customer_uid, money=parse_money(amount, currency), name=name, request_key=request_key,
        reason=why, policy=ONCE.code,
    )  # fmt: skip
    made = services()
    kept = KeyedIn.KEEP if keep else KeyedIn.ONCE
    paid = card_entry.pay(made, request, read_card(pg), who, kept, Holder(account=account), os_user=os_user())
    answer({"charge": paid.key, "status": paid.status, "is_new": paid.is_new, "reason": paid.reason})
    say(f"charge {paid.key}: {request.money} is {paid.status}")
    if paid.status is not ChargeStatus.PAID:
        then = "; it is asked about, do not type the card in again before" if paid.status.is_owed else ""
        code = Code.UNKNOWN if paid.status.is_owed else Code.DECLINED
        raise CardNotPaid(code, f"charge {paid.key} is not paid: {paid.reason}{then}")


@cards_app.command("show")
def show(customer_uid: Uid) -> None:
    """Show what the database and the gateway have of a card, and its history."""
    found = issued_keys.show(services(), customer_uid)
    key = found.key
    here = {"customer_uid": key.customer_uid, "account": key.account, "deleted_at": key.deleted_at}
    here |= asdict(found.facts)
    names = ("at", "actor", "verb", "why", "details")
    history = [{name: getattr(act, name) for name in names} for act in found.history]
    answer({"here": here, "at_gateway": found.at_gateway, "history": history})
    print_facts(f"card of {customer_uid}", here)
    print_facts("at the gateway", found.at_gateway)
    print_table("history", names, ([act[name] for name in names] for act in history))


@cards_app.command("delete")
def delete(
    customer_uid: Uid,
    why: Why,
    end_subscriptions: Annotated[
        bool, typer.Option("--end-subscriptions", help="End the subscriptions that are charged to it, at once.")
    ] = False,
    request_key: RequestKey = None,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Delete a stored card for ever, here and at the gateway."""
    at = context(dry_run=dry_run)
    deleted = issued_keys.delete(
        at.services, customer_uid, who, why, end_subscriptions=end_subscriptions, request_key=request_key
    )
    ended = deleted.subscriptions_ended
    facts = {
        "customer_uid": customer_uid, "subscriptions_ended": ended, "deleted_at": deleted.deleted_at,
        "at_gateway": deleted.at_gateway, "is_new": deleted.is_new,
    }  # fmt: skip
    if print_if_dry_run(at, f"delete the card of {customer_uid}, and end {ended} subscriptions", facts):
        return
    if not deleted.is_new:
        say_repeated(request_key)
    if not deleted.is_over:
        raise issued_keys.CannotIssue(
            Code(deleted.code),
            f"the card of {customer_uid!r} is not charged any more, but the gateway may still have it: "
            f"{deleted.at_gateway}",
        )
    answer(
        facts | facts_of(at), f"the card of {customer_uid} is deleted; subscriptions that ended with it: {ended}"
    )


@cards_app.command("expires")
def card_expires(
    customer_uid: Uid,
    month: Annotated[str, typer.Argument(help="The month after which the card is no good, YYYY-MM.")],
    who: Actor = actor(),
) -> None:
    """Record when a card expires, which the gateway does not say; `card.expiring` is sent a month before."""
    day = read_date(f"{month}-01")
    last_day = cards.expires(services(), customer_uid, day.year, day.month, who)
    answer(
        {"customer_uid": customer_uid, "good_until": last_day},
        f"the card of {customer_uid} is good until {last_day}",
    )


def _added(words: Mapping[str, Any]) -> tuple[str, str]:
    card = f"{words['card_name'] or 'card'} {words['card_number'] or ''}".rstrip()
    return "", f"customer {words['customer_uid']} is known: {card}"


add_verb(customers_app, verbs.add_customer, _added, name="add", dry_run=False)
add_verb(
    cards_app, verbs.card_changed,
    ("", "the card of {customer_uid} is taken as changed; open charges that are tried now: {tried}"),
    name="changed", dry_run=False,
)  # fmt: skip
