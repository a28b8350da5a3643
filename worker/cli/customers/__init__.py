"""Plans, dunning policies, customers, cards and subscriptions."""

import typer

from worker.cli.customers import cards, plans, policies, subscriptions

app = typer.Typer()
for part in (cards, plans, policies, subscriptions):
    app.add_typer(part.app)
