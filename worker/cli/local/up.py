"""`again up`, `demo` and `simulator`: run everything on one machine, or the gateway's stand-in."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from schedules.errors import Code, FixedCode
from worker.runtime.up_environment import FOLDER

Data = Annotated[Path, typer.Option("--data", help="The folder that keeps the embedded services' data.")]
app = typer.Typer()


class NoSimulator(FixedCode, code=Code.HELD):
    """The simulator is not installed."""


@app.command("simulator", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def simulator(context: typer.Context) -> None:
    """Run the PortOne simulator; takes --host, --port, --key, --secret, --faults and --seed."""
    if find_spec("simulator") is None:
        raise NoSimulator(
            "the simulator is not part of this installation; the image's target `simulator` has it, and an "
            "installation from the sources with again[simulator]"
        )
    # -P: the working directory is not in the module search path, so its owner cannot choose the code.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "simulator", *context.args])  # noqa: S606 # our own


@app.command("up")
def up(
    data: Data = FOLDER,
    port: Annotated[
        int, typer.Option(help="The simulator's port, when none is named by AGAIN_PORTONE_URL.")
    ] = 8765,
) -> None:
    """Run everything in the foreground until Ctrl-C: services, simulator, beat and workers.

    PostgreSQL and Valkey are embedded ones, with their data in a folder, unless AGAIN_DATABASE_URL and
    AGAIN_BROKER_URL name others; the gateway is the simulator unless AGAIN_PORTONE_URL names another.
    """
    from worker.cli.local.stack import Standing

    with Standing(data, simulator_port=port) as standing:
        standing.print_summary()
        standing.watch()


@app.command("demo")
def demo(
    customers: Annotated[int, typer.Option(min=3, max=20_000, help="How many customers.")] = 500,
    days: Annotated[int, typer.Option(min=1, max=400, help="How many days of their lives.")] = 90,
    seed: Annotated[int, typer.Option(help="Decides which calls go wrong.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running at the end, until Ctrl-C.")
    ] = False,
) -> None:
    """Bill a sample shop for three months with real processes and faults, and compare it with the ledger."""
    from worker.cli.local.demo import run

    if not run(customers, days, seed, keep=keep):
        sys.exit(1)
