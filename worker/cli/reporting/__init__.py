"""History, audit, forecasts, reports and exports."""

import typer

from worker.cli.reporting import export, forecast, history, lists, reports

app = typer.Typer()
for part in (export, forecast, history, lists, reports):
    app.add_typer(part.app)
