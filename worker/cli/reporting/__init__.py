"""History, audit, forecasts, reports and exports."""

import typer

from worker.cli.reporting import export, find, forecast, history, lists, reports

app = typer.Typer()
for part in (export, find, forecast, history, lists, reports):
    app.add_typer(part.app)
