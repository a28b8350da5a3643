"""`again simulate-dunning`: policies on a synthetic population, beside two ladders that ignore decline texts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from schedules.dunning.policy_files import read_policy_file
from worker.cli.terminal.output import answer, make_console, print_table, wants_json
from worker.synthetic.assumptions import DOUBTS
from worker.synthetic.contenders import Contender, beside_baselines, known
from worker.synthetic.outcomes import Result, compare
from worker.synthetic.pictures import characters, png
from worker.synthetic.population import drawn
from worker.textfiles import read_text

CAUTION = (
    "A model result: a made-up population under the assumptions of docs/explanation/dunning-model.md. It compares"
    " policies, and says nothing about what a shop will recover."
)
COLUMNS = (
    "policy", "recovered", "by day 7", "by day 14", "by day 30", "tries", "for each recovery", "customers lost",
    "at dead cards", "most for one",
)  # fmt: skip

app = typer.Typer()


@app.command("simulate-dunning")
def simulate_dunning(
    policy: Annotated[
        list[str] | None, typer.Option(help="standard, or a FILE.toml; may be given several times.")
    ] = None,
    customers: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many declined charges.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same population.")] = 1,
    days: Annotated[int, typer.Option(min=1, max=180, help="How long after the first decline to look.")] = 45,
    assume: Annotated[
        str, typer.Option(help=f"Change the model, to doubt it: {', '.join(DOUBTS)}.")
    ] = "published",
    png_file: Annotated[Path | None, typer.Option("--png", help="Write the curves to this file as well.")] = None,
) -> None:
    """Compare dunning policies on a synthetic population; a model result, and no forecast. Needs no database."""
    if assume not in DOUBTS:
        raise typer.BadParameter(f"{assume!r} is no change of the model; there are: {', '.join(DOUBTS)}")
    contenders = beside_baselines([_contender(name) for name in policy or ["standard"]])
    population = drawn(customers, seed, days, DOUBTS[assume])
    with _progress(customers) as on_progress:
        results = compare(population, contenders, days, on_progress)
    if png_file is not None:
        png(results, png_file)
    setting = {"customers": customers, "seed": seed, "days": days, "assume": assume}
    answer({"caution": CAUTION, **setting, "policies": [_document(result) for result in results]})
    if not wants_json():
        _print(results, f"{customers:,} declined charges, seed {seed}, {days} days, assumptions {assume}")


def _contender(name: str) -> Contender:
    if not name.endswith(".toml"):
        return known(name)
    return Contender(Path(name).stem, read_policy_file(read_text(Path(name)), name))


@contextmanager
def _progress(customers: int) -> Iterator[Callable[[], object]]:
    """Show a progress bar on a terminal, on standard error."""
    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("living through the declines", total=customers)
        yield lambda: progress.advance(task)


def _print(results: Sequence[Result], title: str) -> None:
    print_table(title, COLUMNS, [_row(result) for result in results])
    console = make_console(soft_wrap=True, highlight=False, markup=False)
    console.print()
    console.print(characters(results, console.width if console.is_terminal else 100))
    console.print(f"\n{CAUTION}")


def _row(result: Result) -> list[object]:
    each = result.tries_for_each_recovery
    return [
        result.name,
        *(
            f"{percent:.1f} %"
            for percent in (result.recovered, *(result.recovered_by(day) for day in (7, 14, 30)))
        ),
        f"{result.tries:,}",
        "" if each is None else f"{each:.2f}",
        f"{result.lost_share:.1f} %",
        f"{result.tries_at_dead_cards:,}",
        result.most_tries,
    ]


def _document(result: Result) -> dict[str, Any]:
    each = result.tries_for_each_recovery
    return {
        "policy": result.name,
        "failed": result.failed,
        "recovered_percent": round(result.recovered, 2),
        "recovered_percent_by_day": [round(percent, 2) for percent in result.curve],
        "tries": result.tries,
        "tries_for_each_recovery": None if each is None else round(each, 3),
        "collected": result.collected,
        "paid_otherwise": result.paid_otherwise,
        "customers_lost_percent": round(result.lost_share, 2),
        "tries_at_dead_cards": result.tries_at_dead_cards,
        "most_tries": result.most_tries,
    }
