"""`again plan`: what is sold."""

from typing import Annotated, Any

import typer

from schedules.calendar.cadence import Unit
from schedules.calendar.shifts import Shift
from schedules.dunning.policies import STANDARD, FinalAction
from schedules.errors import Code as ErrorCode
from schedules.money.amounts import parse_money
from schedules.subscriptions.plans import CatchUp, Plan
from worker.cli.terminal.options import (
    cadence_words,
    default_time,
    read_cadence,
    read_policy,
    read_time,
    warn_of_times,
)
from worker.cli.terminal.output import Actor, OfZone, actor, answer, print_facts, print_table, say, with_currency
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.wired import services
from worker.customers import enrollment
from worker.customers.enrollment import CannotEnroll
from worker.store.customers import plans

app = typer.Typer()
group = typer.Typer(cls=Listed, help="Plans: prices and dates of subscriptions.", no_args_is_help=True)
app.add_typer(group, name="plan")
Code = Annotated[str, typer.Argument(help="The plan's code.")]


@group.command("add")
def add(
    code: Code,
    price: Annotated[str, typer.Option(help="In major units: 9900, or 12.50 where the currency has cents.")],
    name: Annotated[str, typer.Option(help="On the customer's statement, at most 40 characters.")],
    zone: OfZone,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "KRW",
    every: Annotated[int | None, typer.Option(help="Every so many units.")] = None,
    unit: Annotated[Unit | None, typer.Option(help="The unit.")] = None,
    cron: Annotated[str | None, typer.Option(help="A cron text of five fields instead.")] = None,
    time: Annotated[str | None, typer.Option(help="Billing time, HH:MM; a cron's own, else 09:00.")] = None,
    trial_days: Annotated[int, typer.Option(help="Local calendar days before the first charge.")] = 0,
    catch_up: Annotated[CatchUp, typer.Option(help="What becomes of periods missed in an outage.")] = CatchUp.ALL,
    catch_up_cap: Annotated[int, typer.Option(help="Charges for one customer in one run, at most.")] = 3,
    shift: Annotated[Shift, typer.Option(help="Where a date on a weekend or holiday moves.")] = Shift.NONE,
    holidays: Annotated[str | None, typer.Option(help="Country whose holidays count, such as KR.")] = None,
    policy: Annotated[str | None, typer.Option(help="Dunning policy, by its code; standard unless given.")] = None,
    ladder: Annotated[
        str | None, typer.Option(help="A plain policy instead: tries after a decline, such as 1d,3d,7d.")
    ] = None,
    final: Annotated[FinalAction, typer.Option(help="What comes after a plain ladder.")] = FinalAction.WRITE_OFF,
    allow_short_months: Annotated[
        bool, typer.Option("--allow-short-months", help="Take a cron text that skips short months.")
    ] = False,
    above_limit: Annotated[
        bool, typer.Option("--above-limit", help="Take a price that is above AGAIN_CHARGE_LIMIT.")
    ] = False,
    other_currency: Annotated[bool, typer.Option("--other-currency", help="Allow a change of currency.")] = False,
    who: Actor = actor(),
) -> None:
    """Add a plan or a new version of it; subscriptions of an older version keep that version."""
    cadence = read_cadence(every, unit, cron)
    plan = Plan(
        code=code,
        version=1,
        price=parse_money(price, currency),
        cadence=cadence,
        zone=zone,
        billing_time=read_time(time) if time is not None else default_time(cadence),
        trial_days=trial_days,
        statement_name=name,
        catch_up=catch_up,
        catch_up_cap=catch_up_cap,
        shift=shift,
        holidays=holidays,
        allow_short_months=allow_short_months,
    )
    if policy is not None and ladder is not None:
        raise typer.BadParameter("give --policy, or --ladder with --final for a plain one, not both")
    chosen = (policy or STANDARD.code) if ladder is None else read_policy(ladder, final)

    stored, is_new = enrollment.put_plan(
        services(), plan, chosen, who, above_limit=above_limit, other_currency=other_currency
    )
    warn_of_times(cadence)
    answer(facts(stored) | {"is_new": is_new})
    before = "" if is_new else "; it was added before, and nothing is changed"
    its = stored.plan
    terms = f"{its.price}, {cadence_words(cadence)} at {its.billing_time:%H:%M} {its.zone}"
    say(f"plan {code} version {its.version} is on sale: {terms}{before}")


@group.command("list")
def list_plans(
    archived: Annotated[bool, typer.Option("--archived", help="With those that are off sale.")] = False,
) -> None:
    """List the plans on sale."""
    with services().engine.begin() as db:
        listed = plans.listed(db, archived=archived)
    answer([facts(stored) for stored in listed])
    rows = (_columns(stored) for stored in listed)
    print_table("plans", ("code", "version", "price", "cadence", "time", "zone", "archived"), rows)


def _columns(stored: Any) -> tuple[object, ...]:
    plan = stored.plan
    when = f"{plan.billing_time:%H:%M}"
    return plan.code, plan.version, plan.price, cadence_words(plan.cadence), when, plan.zone, stored.archived_at


@group.command("show")
def show(code: Code) -> None:
    """Show every version of a plan."""
    with services().engine.begin() as db:
        versions = plans.by_code(db, code)
    if not versions:
        raise CannotEnroll(ErrorCode.NOT_FOUND, f"plan {code!r} is not known; `again plan list` lists them")
    answer([facts(stored) for stored in versions])
    for stored in versions:
        print_facts(f"{code} version {stored.plan.version}", with_currency(facts(stored)))


@group.command("archive")
def archive(code: Code, who: Actor = actor()) -> None:
    """Archive a plan: new subscriptions are refused; its present ones continue."""
    count = enrollment.archive_plan(services(), code, who)
    answer(
        {"code": code, "versions": count},
        f"plan {code} is off sale ({count} versions)" if count else f"plan {code} was off sale already",
    )


def facts(stored: Any) -> dict[str, Any]:
    """A plan as JSON shows it; the price in minor units."""
    plan = stored.plan
    return {
        "code": plan.code, "version": plan.version, "price": plan.price.amount, "currency": plan.price.currency,
        "cadence": cadence_words(plan.cadence), "zone": plan.zone, "billing_time": f"{plan.billing_time:%H:%M}",
        "trial_days": plan.trial_days, "statement_name": plan.statement_name, "catch_up": plan.catch_up,
        "catch_up_cap": plan.catch_up_cap, "shift": plan.shift, "holidays": plan.holidays,
        "policy": stored.policy.code, "policy_version": stored.policy.version,
        "created_at": stored.created_at, "archived_at": stored.archived_at,
    }  # fmt: skip
