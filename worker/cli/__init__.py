"""The command line: `again --help` lists it."""

import logging
import os
import sys
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Annotated, NoReturn, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from schedules.errors import BadRequest, Code, UserError
from schedules.texts import FREE_TEXTS, cleaned
from worker.cli import status
from worker.cli.terminal.examples import add_to_help
from worker.cli.terminal.jsonable import add_to_commands
from worker.cli.terminal.output import AsJson, Notices, answer, escaping_output, print_error, use_json, wants_json
from worker.cli.terminal.sections import Sectioned


def _print_version(asked: bool) -> None:
    if asked:
        from worker.config import installed_version

        answer({"version": installed_version()}, f"again {installed_version()}")
        raise typer.Exit


def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What holds for every command."""


def command_line(arguments: Sequence[str] = ()) -> TyperGroup:
    """All commands, each with an example in its help; for arguments that begin with one of `status`, only those.

    Health checks run every few seconds, and the imports of the other commands take most of their time.
    """
    app = typer.Typer(
        name="again",
        cls=Sectioned,
        help="Recurring billing for PortOne: each period is charged exactly once.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(top)
    for part in _parts(arguments):
        app.add_typer(part)
    add_to_commands(app)
    commands = cast("TyperGroup", get_command(app))
    add_to_help(commands)
    return commands


def _parts(arguments: Sequence[str]) -> Sequence[typer.Typer]:
    command = next((each for each in arguments if not each.startswith("-")), None)
    if command in {each.name for each in status.app.registered_commands}:
        return [status.app]
    from worker.cli.every_command import PARTS

    return PARTS


def main() -> None:
    """Run a command; an error is printed on standard error, and the exit status is 1, or 2 for bad arguments."""
    logging.lastResort = Notices(logging.WARNING)  # long-running processes set up their own log
    with escaping_output():
        use_json(wanted=_asks_for_json(sys.argv[1:]))
        _run()


def _asks_for_json(arguments: list[str]) -> bool:
    """Whether --json is among the arguments: then errors of the arguments are printed as JSON too."""
    options = takewhile(lambda argument: argument != "--", arguments)
    return "--json" in options


def _run() -> None:
    try:
        arguments = [_argument(place, *pair) for place, pair in enumerate(pairwise(sys.argv), start=1)]
        # With --json, errors of the parser are printed as JSON below.
        ended = command_line(arguments).main(arguments, prog_name="again", standalone_mode=not wants_json())
    except typer.TyperException as error:
        _fail(Code.INVALID, error.format_message(), error.exit_code)
    except typer.Abort:
        _fail(Code.NOT_ALLOWED, "it was not confirmed")
    except BadRequest as error:
        _fail(error.code, str(error), field=error.field)
    except UserError as error:
        _fail(error.code, str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except UnicodeEncodeError as error:
        _fail(
            Code.INVALID,
            f"standard output is {error.encoding} and cannot take {error.object[error.start]!r}; "
            "give --out FILE, or set PYTHONIOENCODING=utf-8",
        )
    except _database_errors() as error:
        _fail(_database_code(error), str(error))
    else:
        sys.exit(ended)


def _argument(place: int, before: str, text: str) -> str:
    """An argument in NFC; refused with a control character or a card number. Paths are not changed."""
    if os.path.exists(text):
        return text
    option = text.partition("=")[0] if text.startswith("--") else before
    field = option.removeprefix("--") if option.startswith("--") else ""  # the command `why` is no option
    return cleaned(field if field in FREE_TEXTS else f"argument {place}", text)


def _fail(code: Code, message: str, status: int = 1, field: str | None = None) -> NoReturn:
    print_error(code, message, field)
    sys.exit(status)


def _database_errors() -> tuple[type[Exception], ...]:
    """The errors of a database that stops answering during a command; imported only if a database was used."""
    module = sys.modules.get("sqlalchemy.exc")
    if module is None:
        return ()
    from worker.store.failures import DATABASE_ERRORS

    return DATABASE_ERRORS


def _database_code(error: BaseException) -> Code:
    from worker.store.failures import code_of

    return code_of(error)
