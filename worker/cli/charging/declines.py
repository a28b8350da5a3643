"""`again declines`: classify decline texts, list the unclassified ones, and classify past declines again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from schedules.dunning.declines import classify
from worker.charging import decline_rules
from worker.cli.terminal.options import until_interrupted
from worker.cli.terminal.output import answer, make_console, print_facts, print_table, say, wants_json
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.wired import services
from worker.rules import rulebook
from worker.store.charging import declines
from worker.textfiles import read_text

MOST_LISTED = 1000
app = typer.Typer()
declines_app = typer.Typer(cls=Listed, help="Decline texts and their classes.", no_args_is_help=True)
app.add_typer(declines_app, name="declines")


@declines_app.command("classify")
def classify_texts(
    text: Annotated[str | None, typer.Option(help="The gateway's words, as PortOne gives them.")] = None,
    pg: Annotated[str | None, typer.Option(help="The PG as PortOne names it, such as kcp.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Lines of PG, a tab and the words; - reads standard input.")
    ] = None,
) -> None:
    """Show the class of a decline's text, with the rule and its version; needs no database."""
    if text is not None and file is None:
        facts = _classified(pg, text)
        answer(facts)
        print_facts(text, {key: facts[key] for key in ("class", "rule", "version")})
    elif file is not None and text is None and pg is None:
        answers = [_classified(name, words) for name, words in _lines(file)]
        answer(answers)
        for facts in answers:  # one line each: a table would truncate the text
            say("\t".join(str(facts[key] or "") for key in ("class", "rule", "version", "pg", "text")))
    else:
        raise typer.BadParameter("give --text with --pg, or --file, whose lines name the PG themselves")


def _classified(pg: str | None, text: str) -> dict[str, Any]:
    placed = classify(text, pg, rulebook())
    named = {"class": placed.decline_class.value, "rule": placed.rule, "version": placed.version}
    return {"pg": pg, "text": text, **named}


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """The PG and the decline text of each line; empty lines are skipped."""
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        pg, tab, words = line.partition("\t")
        if not tab:
            raise typer.BadParameter(f"{file}, line {number}: no tab between the PG and its words: {line!r}")
        yield pg.strip(), words


@declines_app.command("unplaced")
def unplaced(
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="How many wordings at most.")] = 100,
) -> None:
    """List the decline texts that no rule classifies, with counts, the most frequent first."""
    with services().engine.begin() as db:
        found = declines.unplaced(db, limit)
    answer([
        {"pg": f.pg_provider, "text": f.text, "count": f.count, "last_at": f.last_at} for f in found
    ])  # fmt: skip
    rows = ((f.count, f.pg_provider, f.text, f.last_at) for f in found)
    print_table("not placed", ("count", "PG", "words", "last"), rows)


@declines_app.command("reclassify")
def reclassify() -> None:
    """Classify again the declines that the present rules have not classified yet.

    It works in batches and can be stopped with Ctrl-C; the same command continues where it stopped.
    """
    console = make_console(stderr=True, quiet=wants_json())
    with until_interrupted() as going_on:
        for progress in decline_rules.reclassify(services(), going_on=going_on):
            if progress.looked_at:
                console.print(f"{progress.looked_at:,} read again, {progress.left:,} to go", highlight=False)
    facts = {"read": progress.looked_at, "changed": progress.changed, "left": progress.left}
    answer(facts)
    say(f"{progress.looked_at:,} declines read again; {progress.changed:,} have another class now")
    if progress.left:
        raise typer.Exit(1)
