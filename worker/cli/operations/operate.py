"""`again migrate`, `stop-charging`, `resume-charging` and `adopt`."""

from typing import Annotated

import typer

from worker.cli.terminal.options import read_instant
from worker.cli.terminal.output import Actor, Why, actor, answer, say, warn
from worker.cli.terminal.wired import services
from worker.operations import operate
from worker.reconciliation import restore
from worker.store.operations import revisions

Account = Annotated[str, typer.Option(help="A gateway account; all of them unless given.")]

app = typer.Typer()


@app.command("migrate")
def migrate(who: Actor = actor()) -> None:
    """Bring the database to this code's revision, and bind a new one to this environment.

    Running processes whose code the new revision does not serve send nothing from then on, say so as an ERROR, and
    refuse to start again: stop them before, and start this version after. Answers to calls under way are written.
    """
    from sqlalchemy.exc import OperationalError

    from worker import wiring

    made = wiring.connect(wiring.settings())
    try:
        wiring.refuse_newer(made.engine)
        revisions.migrate(made.engine, report=warn)
    except OperationalError as error:
        raise wiring.BadDatabase(
            f"the migration did not finish: {error.orig}. Migrations that finished are kept; the next "
            "`again migrate` continues after them"
        ) from None
    bound = operate.bind_if_new(made, who)
    answer(
        {"revision": made.revision, "environment": made.settings.environment, "bound_now": bound},
        f"the database is at revision {made.revision}",
    )
    for other in wiring.other_versions(made):
        warn(other)
    if bound:
        say(f"charges may be sent from it by environment {made.settings.environment!r} only")
    elif wrong := wiring.wrong_place(made):
        warn(wrong)
    for wrong in wiring.wrong_accounts(made):
        warn(wrong)


@app.command("stop-charging")
def stop_charging(why: Why, account: Account = "*", who: Actor = actor()) -> None:
    """Stop charging: no charge is sent any more; calls under way end."""
    operate.stop_charging(services(), who, why, account)
    answer(
        {"account": account, "charging": "stopped"},
        f"charging is stopped for {'all accounts' if account == '*' else account}",
    )


@app.command("resume-charging")
def resume_charging(why: Why, account: Account = "*", who: Actor = actor()) -> None:
    """Resume charging after a stop."""
    operate.resume_charging(services(), who, why, account)
    answer(
        {"account": account, "charging": "goes_on"},
        f"charging goes on for {'all accounts' if account == '*' else account}",
    )


@app.command("adopt")
def adopt(
    why: Why,
    since: Annotated[
        str | None,
        typer.Option(help="The backup's time, ISO 8601; an hour before the newest thing it knows unless given."),
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Skip the hold; only for a database that was stopped and moved.")
    ] = False,
    account: Annotated[
        str | None, typer.Option(help="Bind this further account to its present credentials, and nothing else.")
    ] = None,
    same_merchant: Annotated[
        bool, typer.Option("--same-merchant", help="With --account: its new key belongs to the same merchant.")
    ] = False,
    who: Actor = actor(),
) -> None:
    """Bind this environment to this database; charges are sent from no other database then.

    For a database that was restored, or moved on purpose. A copy that runs beside its original must never be
    adopted: both would charge the same customers. Nothing is sent until the gateway's list since the backup
    was compared and each owed charge's next uids were asked for; `again status` shows how far that is.
    """
    made = services()
    if account is not None:
        if since or complete:
            raise typer.BadParameter("--account binds credentials only; it takes neither --since nor --complete")
        operate.adopt_account(made, account, who, why, same_merchant=same_merchant)
        answer({"account": account, "adopted": True}, f"account {account} is charged with its present credentials")
        return
    if same_merchant:
        raise typer.BadParameter("--same-merchant goes with --account")
    begins = read_instant(since) if since else None
    if begins is not None and begins > made.clock.now():
        raise typer.BadParameter(f"--since {since} is not in the past")
    if not complete:
        restore.begin_hold(made, who, why, begins)
    operate.adopt(made, who, why)
    then = "at once" if complete else "once all that it may have missed is known; see `again status`"
    answer(
        {"environment": made.settings.environment, "adopted": True, "held": not complete},
        f"charges are sent from this database by environment {made.settings.environment!r} {then}",
    )
