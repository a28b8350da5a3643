"""The command line: `again --help` lists it."""

import sys

import typer

from schedules.errors import RuleBroken
from worker.cli import looking, operating, people, plans, running
from worker.config import BadSettings
from worker.embedded import EmbeddedError

app = typer.Typer(
    name="again",
    help="Recurring billing for PortOne: each period once, never twice, never not at all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
plans.add_to(app)
people.add_to(app)
looking.add_to(app)
operating.add_to(app)
running.add_to(app)


def main() -> None:
    """Run a command; what went wrong is told in words on standard error, with exit status 1."""
    try:
        app()
    except (RuleBroken, BadSettings, EmbeddedError, looking.NotHealthy) as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _is_told_in_words(error):
            raise
        _fail(error)


def _fail(error: Exception) -> None:
    print(f"again: {error}", file=sys.stderr)
    sys.exit(1)


def _is_told_in_words(error: Exception) -> bool:
    """Whether an error's words are made for people; those of the heavier rooms are looked up only now."""
    from sqlalchemy.exc import OperationalError

    from worker.wiring import BadDatabase
    from worker.workflows.dispatching import BrokerUnreachable
    from worker.workflows.enrolling import CannotEnroll
    from worker.workflows.operating import CannotOperate
    from worker.workflows.services import UnknownAccount
    from worker.workflows.showing import NothingToShow

    ours = (BadDatabase, BrokerUnreachable, CannotEnroll, CannotOperate, UnknownAccount, NothingToShow)
    return isinstance(error, (*ours, OperationalError))
