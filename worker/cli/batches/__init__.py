"""`again charge-batch` and `batch`: charges that are asked for together."""

import typer

from worker.cli.batches import draft, run

app = typer.Typer()
for part in (draft, run):
    app.add_typer(part.app)
