"""`again events`: events for the shop, their deliveries, and the schema of each kind."""

from typing import Annotated, Any

import typer

from schedules.outbox.event_fields import EVENT_FIELDS
from schedules.outbox.event_kinds import KINDS
from schedules.outbox.events import VERSION, Event, event_id
from worker.cli.terminal.options import read_instant
from worker.cli.terminal.output import Actor, Why, actor, answer, print_facts, print_table, with_currency
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.wired import services
from worker.outbox import replays
from worker.store.outbox import deliveries

MOST_LISTED = 1000
LAST_NUMBER = 2**63 - 1  # the largest id of a row
app = typer.Typer()
events_app = typer.Typer(cls=Listed, help="Events of the shop: delivered, waiting and dead.")
app.add_typer(events_app, name="events", invoke_without_command=True)


@events_app.callback()
def events(
    context: typer.Context,
    waiting: Annotated[bool, typer.Option("--waiting", help="Those that wait for a try.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Those that nobody tries any more.")] = False,
    kind: Annotated[str | None, typer.Option(help="A kind, such as charge.paid.")] = None,
    subject: Annotated[str | None, typer.Option(help="The key of a charge, a subscription or a customer.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="How many at most.")] = 50,
) -> None:
    """List events, newest first."""
    if context.invoked_subcommand is not None:
        return

    if waiting and dead:
        raise typer.BadParameter("give --waiting or --dead, not both")
    if kind is not None:
        _known(kind)
    standing = deliveries.Standing.WAITING if waiting else deliveries.Standing.DEAD if dead else None
    with services().engine.begin() as db:
        listed = deliveries.listed(db, limit, standing=standing, kind=kind, subject=subject)
    answer([_document(event) for event in listed])
    names = ("no", "kind", "subject", "written", "standing", "tries", "next try", "last answer")
    rows = (
        (e.id, e.kind, e.subject, e.created_at, e.standing, e.tries, e.next_try_at, e.last_answer) for e in listed
    )
    print_table("events", names, rows)


@events_app.command("show")
def show(number: Annotated[int, typer.Argument(min=1, max=LAST_NUMBER, help="The event's number.")]) -> None:
    """Show one event: its contents and its deliveries."""
    with services().engine.begin() as db:
        event = replays.found(deliveries.by_number(db, number) or deliveries.archived(db, number), number)
    facts = _document(event)
    answer(facts)
    payload = facts.pop("payload")
    print_facts(f"event {number}", facts)
    print_facts("payload", with_currency(payload))


@events_app.command("replay")
def replay(
    why: Why,
    numbers: Annotated[
        list[int] | None, typer.Argument(min=1, max=LAST_NUMBER, help="The events' numbers.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Every dead event, instead of numbers.")] = False,
    who: Actor = actor(),
) -> None:
    """Deliver events again, also delivered and dead ones; the receiver sees the same ids."""
    if bool(numbers) is dead:
        raise typer.BadParameter("give the events' numbers, or --dead for every dead one; not both")

    if numbers:
        replays.replay(services(), numbers, who, why)
    count = len(set(numbers)) if numbers else replays.replay_dead(services(), who, why)
    answer({"events": count}, f"{_counted(count)} will be delivered from now on")


@events_app.command("skip")
def skip(
    why: Why,
    before: Annotated[str, typer.Option("--before", help="An instant or a date: those written earlier.")],
    who: Actor = actor(),
) -> None:
    """Skip waiting events older than a time; they are kept, and `replay` can deliver them."""
    count = replays.skip(services(), read_instant(before), who, why)
    answer({"events": count}, f"{_counted(count)} will not be delivered")


@events_app.command("schema")
def schema(kind: Annotated[str | None, typer.Argument(help="A kind; all of them unless given.")] = None) -> None:
    """Show the payload of each kind of event; with --json as JSON Schema."""
    chosen = dict(KINDS) if kind is None else {kind: _known(kind)}
    schemas = {name: schema_of(event) for name, event in chosen.items()}
    answer(schemas if kind is None else schemas[kind])
    rows = (
        (name, field, words)
        for name, document in schemas.items()
        for field, words in ((field, _type_words(facts)) for field, facts in document["properties"].items())
    )
    print_table(f"payloads, version {VERSION}", ("kind", "field", "type"), rows)


def schema_of(event: type[Event]) -> dict[str, Any]:
    """The JSON Schema of the payload of a kind."""
    from pydantic import TypeAdapter

    document = TypeAdapter(event).json_schema(mode="serialization")
    for name, facts in document["properties"].items():
        facts["description"] = EVENT_FIELDS[name]
    return document | {"title": event.kind, "version": VERSION}


def _type_words(facts: dict[str, Any]) -> str:
    parts = facts.get("anyOf", [facts])
    return " or ".join(part.get("format", part["type"]) for part in parts)


def _known(kind: str) -> type[Event]:
    if kind not in KINDS:
        raise typer.BadParameter(f"kind {kind!r} is not known; there are: {', '.join(KINDS)}")
    return KINDS[kind]


def _counted(count: int) -> str:
    return f"{count} {'event' if count == 1 else 'events'}"


def _document(event: Any) -> dict[str, Any]:
    plain = {name: getattr(event, name) for name in type(event).__slots__ if name != "dedupe_key"}
    return {"id": plain.pop("id"), "webhook_id": event_id(event.dedupe_key)} | plain
