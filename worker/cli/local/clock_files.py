"""The file that moves the clock of `again up`; none where other programs have rows or payments in real time."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from worker.cli.terminal.output import age
from worker.clock import MovedClock
from worker.embedded import EmbeddedError

CLOCK, SIMULATOR_STATE = "clock", "simulator.sqlite"  # files in the data folder
VARIABLE = "AGAIN_CLOCK_FILE"
INSTEAD = (VARIABLE, "AGAIN_PORTONE_URL", "AGAIN_ACCOUNTS_FILE")  # with one of them the folder's clock is not used
SECOND = timedelta(seconds=1)


def clock_file(data: Path, environment: Mapping[str, str], *, is_embedded: bool) -> Path | None:
    """The file to use; None for real time.

    `environment` is the environment before the simulator is started. A database that is named from outside may be
    a production database: its clock is never moved. Raises EmbeddedError where the clock would go back, or is not
    the shop's own.
    """
    named = environment.get(VARIABLE)
    if not is_embedded:
        if named:
            raise EmbeddedError(
                f"{VARIABLE} {named!r} is set, and AGAIN_DATABASE_URL names the database: `again up` moves the "
                "clock of its own database alone; open a new terminal, or unset all AGAIN_ variables"
            )
        return None
    kept, instead = data.absolute() / CLOCK, next((name for name in INSTEAD if environment.get(name)), None)
    if instead is None:
        _begin(kept)
        return kept
    used = Path(named).absolute() if named else None
    if used is not None and not used.is_file():
        raise EmbeddedError(f"{VARIABLE} {named!r} is no file; write 0 into it to begin")
    if used is not None:
        _begin(kept, MovedClock(used).moved_by().total_seconds())
    _refuse_to_go_back(kept, used, instead)
    if used is not None:
        keep(data, MovedClock(used))
    return used


def keep(data: Path, clock: MovedClock) -> None:
    """Copy the offset of another clock file to the file of the folder, so that it stays without that file."""
    kept = MovedClock(data.absolute() / CLOCK)
    if clock.path == kept.path or (moved := clock.moved_by()) <= kept.moved_by():
        return
    try:
        kept.move_by(moved.total_seconds())
    except OSError as error:
        raise EmbeddedError(
            f"{kept.path} cannot be written ({error.strerror}): it notes that the clock was moved by "
            f"{moved.total_seconds()} seconds, so that it never goes back; free space there, or make it writable"
        ) from None


def _begin(kept: Path, seconds: float = 0) -> None:
    if kept.exists():
        MovedClock(kept).now()  # raises for a file without a number
    elif (kept.parent / SIMULATOR_STATE).exists():
        raise EmbeddedError(
            f"{kept} is not there, though this folder has been used: the clock may have been moved, and it never "
            f"goes back. Write into it by how many seconds it was moved, 0 if never, or remove {kept.parent}"
        )
    else:
        MovedClock(kept).move_by(seconds)


def _refuse_to_go_back(kept: Path, used: Path | None, instead: str) -> None:
    if not kept.exists():
        return
    moved = MovedClock(kept).moved_by()
    if moved - (MovedClock(used).moved_by() if used is not None else timedelta(0)) > SECOND:
        raise EmbeddedError(
            f"the clock of the shop in {kept.parent} is {age(moved)} ahead of real time ({kept}), and it would "
            f"go back because {instead} is set; unset {instead}, or take another folder with --data"
        )
