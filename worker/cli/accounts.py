"""`again accounts`: the gateway accounts with credentials in this deployment."""

import typer

from worker.cli.terminal.output import AsJson, print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("accounts")(accounts)


def accounts(as_json: AsJson = False) -> None:
    """List the gateway accounts, the main one first, with their addresses and rates; nothing secret."""
    from worker import wiring

    known = wiring.settings().accounts()
    names = ("name", "portone_url", "tier", "sandbox", "rate", "reconcile_rate")
    if as_json:
        print_json([{name: getattr(account, name) for name in names} for account in known])
    else:
        print_table("accounts", names, ([getattr(account, name) for name in names] for account in known))
