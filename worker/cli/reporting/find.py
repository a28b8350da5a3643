"""`again find`: what a text names; and how matches and a customer are printed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from schedules.money.amounts import amount_words
from worker.cli.terminal.output import answer, print_facts, print_table, say, with_currency
from worker.cli.terminal.wired import services
from worker.reporting import find as finding
from worker.reporting.customer_story import CustomerStory
from worker.reporting.explain import Why
from worker.reporting.find import Found, SeveralMatches
from worker.task_api.request_fields import meaning

app = typer.Typer()


@app.command("find")
def find(
    query: Annotated[str, typer.Argument(metavar="TEXT", help=meaning("find", "query"))],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many matches.")] = finding.LISTED,
) -> None:
    """Find customers, cards, subscriptions, charges and attempts; names are masked."""
    found = finding.find(services(), query, limit)
    answer({"matches": list(map(finding.as_fields, found.matches)), "more": found.more})
    if not found.matches:
        say("nothing is found")
        return
    _print_matches(found)
    if found.more:
        say("there are more: give more of the text, or --limit")
    say("`again show KEY` shows one, `again why KEY` says why it was or was not charged")


@contextmanager
def listing_matches() -> Iterator[None]:
    """Print what there is to choose from when a text names several things."""
    try:
        yield
    except SeveralMatches as error:
        _print_matches(error.found)
        raise


def _print_matches(found: Found) -> None:
    names = ("kind", "key", "found by", "customer", "name", "state", "about")
    rows = (
        (
            match.kind, match.key, match.found_by, match.customer_uid if match.customer_uid != match.key else "",
            match.name, match.state, match.about,
        )
        for match in found.matches
    )  # fmt: skip
    print_table("matches", names, rows)


def print_customer(story: CustomerStory, reasons: Sequence[Why]) -> None:
    """Print a customer."""
    happenings = [{"at": h.at, "what": h.what, "words": h.words} for h in story.happenings]
    lists = {
        "cards": list(map(asdict, story.cards)),
        "subscriptions": list(map(asdict, story.subscriptions)),
        "charges": list(map(asdict, story.charges)),
    }
    facts, owed = asdict(story.facts), list(map(asdict, story.owed))
    answer(
        {"kind": "customer", **facts, "owed": owed, **lists, "more": story.more}
        | {"history": happenings, "why": list(map(asdict, reasons))}
    )
    for reason in reasons:
        say(reason.sentence)
    print_facts(f"customer {story.facts.key}", facts)
    sums = [
        f"{amount_words(each.amount, each.currency)} in open charges ({each.charges}), the oldest due "
        f"{each.since:%Y-%m-%d %H:%M}Z"
        for each in story.owed
    ]
    say(f"  owed: {'; '.join(sums) or 'nothing'}")
    columns = {
        "cards": ("customer_uid", "card_name", "card_number", "state", "account", "expires_on"),
        "subscriptions": ("key", "plan", "price", "status", "standing", "next_due_at", "ends_at"),
        "charges": ("key", "amount", "status", "due_at", "next_attempt_at", "customer_uid"),
    }
    for name, rows in lists.items():
        title = f"newest {name}" if name == "charges" else name
        heads = [column.replace("_", " ") for column in columns[name]]
        print_table(title, heads, ([row[column] for column in columns[name]] for row in map(with_currency, rows)))
        if name in story.more:
            say(f"there are more {name}")
    print_table("history", ("at", "what", "words"), ((h.at, h.what, h.words) for h in story.happenings))
