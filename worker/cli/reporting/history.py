"""`again show`, `why` and `audit`: what happened, what comes next and why, and what people did."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Annotated

import typer

from schedules.calendar.zones import zone
from worker.cli.reporting.find import listing_matches, print_customer
from worker.cli.terminal.options import read_instant
from worker.cli.terminal.output import age, answer, print_facts, print_table, say, with_currency
from worker.cli.terminal.wired import services
from worker.reporting import customer_story, explain
from worker.reporting.customer_story import CustomerStory
from worker.reporting.happenings import Happening
from worker.reporting.history import Story
from worker.store.reporting import timeline
from worker.store.reporting.stories import Page
from worker.task_api.request_fields import meaning

NEWEST = 200  # entries that are shown without --all
IDLE = timedelta(days=45)  # without an entry, said in one line
app = typer.Typer()


@app.command("show")
def show(
    key: Annotated[str, typer.Argument(help="An id, a name, an e-mail address, or last digits, as for `find`.")],
    ask: Annotated[bool, typer.Option("--ask", help="Ask the gateway too, for a merchant_uid.")] = False,
    every: Annotated[bool, typer.Option("--all", help="The whole history, not the newest 200 entries.")] = False,
    before: Annotated[
        str | None, typer.Option("--before", help="Only entries before this instant, ISO 8601.")
    ] = None,
) -> None:
    """Show a customer, or everything that happened to a subscription, a charge or a merchant_uid, in order.

    At the end it says what comes next.
    """
    page = Page(read_instant(before) if before else None, None if every else NEWEST)
    with listing_matches():
        story = customer_story.show(services(), key, ask_gateway=ask, page=page)
    if isinstance(story, CustomerStory):
        print_customer(story, explain.why_of_customer(services(), story.customer_id))
        return
    reasons = explain.why(services(), story.facts["key"])
    parts = "charges" if story.kind == "subscription" else "attempts"
    answer(
        {
            "kind": story.kind,
            **story.facts,
            parts: story.parts,
            "zone": story.zone,
            "history": [_as_json(entry) for entry in story.happenings],
            "has_older": story.has_older,
            "why": list(map(asdict, reasons)),
        }
    )
    _print(story, [reason.sentence for reason in reasons])


def _as_json(entry: Happening) -> dict[str, object]:
    document = asdict(entry)
    del document["place"]
    return document


def _print(story: Story, reasons: Sequence[str]) -> None:
    local = zone(story.zone) if story.zone is not None else None
    facts = with_currency(story.facts) | {"zone": story.zone}
    print_facts(f"{story.kind} {story.facts['key']}", facts, local)
    if story.kind == "subscription":
        names = ("period_no", "key", "amount", "status", "due_at", "next_attempt_at")
        rows = ([charge[name] for name in names] for charge in map(with_currency, story.parts))
        print_table("charges", ("period", "key", "amount", "status", "due", "next attempt"), rows, local)
    else:
        for part in story.parts:
            print_facts("attempt", with_currency(part), local)
    print_table("history", ("at", "what", "words"), _folded(story.happenings), local)
    if story.has_older:
        at = f"{story.happenings[0].at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        say(f"older entries are left out: --before {at} shows those before, --all shows all")
    say("what comes next:")
    for reason in reasons:
        say(f"  {reason}", local)


def _folded(entries: Sequence[Happening]) -> Iterator[tuple[object, str, str]]:
    """Yield the entries, and a line for each long time without one."""
    last = None
    for entry in entries:
        if last is not None and entry.at - last >= IDLE:
            yield None, "…", f"{age(entry.at - last)} without an entry"
        yield entry.at, entry.what, entry.words
        last = entry.at


@app.command("why")
def why(
    key: Annotated[str, typer.Argument(help=meaning("why", "key"))],
) -> None:
    """Say why a charge is tried now, later, or not.

    A customer, a card or a subscription lists what is owed, oldest first, and then the next period.
    """
    with listing_matches():
        found = explain.why(services(), key)
    answer([asdict(each) for each in found])
    if not found:
        say(f"{key} has no charge and no subscription")
    for each in found:
        say(each.sentence)
        for title, holds in (("holds", True), ("fails", False)):
            checks = [one.check.replace("_", " ") for one in each.checks if one.holds is holds]
            say(f"  {title}: {', '.join(checks) or 'nothing'}")


@app.command("audit")
def audit(
    subject: Annotated[
        str | None, typer.Argument(help="A key, customer_uid, plan or account; everything unless given.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Only what this actor did.")] = None,
    verb: Annotated[str | None, typer.Option(help="Only this verb, such as waive.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from this instant on, ISO 8601.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 100,
) -> None:
    """List the acts of people, newest first; no entry is ever removed."""
    begins = read_instant(since) if since else None
    with services().engine.begin() as db:
        acts = timeline.audit_page(db, timeline.Acts(subject, by, verb, begins), limit)
    answer([asdict(act) for act in acts])
    names = ("at", "actor", "verb", "subject", "why", "details")
    print_table("audit", names, ([getattr(act, name) for name in names] for act in acts))
