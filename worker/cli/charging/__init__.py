"""`again charge`, what an operator decides about an open charge, and the meaning of declines."""

import typer

from worker.cli.charging import charge, declines, open_charges

app = typer.Typer()
for part in (charge, declines, open_charges):
    app.add_typer(part.app)
