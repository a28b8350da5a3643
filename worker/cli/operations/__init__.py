"""Migration, stops, the archive and refused messages."""

import typer

from worker.cli.operations import archive, dead_letters, operate

app = typer.Typer()
for part in (archive, dead_letters, operate):
    app.add_typer(part.app)
