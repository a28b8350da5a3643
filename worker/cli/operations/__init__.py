"""Migration, stops, health, the archive and refused messages."""

import typer

from worker.cli.operations import archive, dead_letters, operate, status

app = typer.Typer()
for part in (archive, dead_letters, operate, status):
    app.add_typer(part.app)
