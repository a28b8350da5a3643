"""`again`, on a machine whose clock can be set wrong while it runs.

`python -m tests.skewed FOLDER beat …` is `again beat …`. A file in the folder with the process's id as its name
holds the seconds by which its clock is ahead. The machine's clock is replaced before anything of ours is imported.
"""

import datetime
import os
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg.adapt import PyFormat

_real_time = time.time
_RealDatetime = datetime.datetime


def set_ahead(folder: Path, pid: int, seconds: float) -> None:
    """Set a process's clock so many seconds ahead."""
    unfinished = folder / f"{pid}.unfinished"
    unfinished.write_text(repr(seconds))
    unfinished.rename(folder / str(pid))


def _replace_clock(folder: Path) -> None:
    place = str(folder / str(os.getpid()))

    def ahead() -> float:
        try:
            with open(place) as file:  # read with each look at the clock: this is the quick way
                return float(file.read())
        except FileNotFoundError:
            return 0.0

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, _RealDatetime)

    class Skewed(_RealDatetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return _RealDatetime.now(tz) + datetime.timedelta(seconds=ahead())

    Skewed.__name__ = Skewed.__qualname__ = "datetime"
    Skewed.__module__ = "datetime"
    time.time = lambda: _real_time() + ahead()
    setattr(datetime, "datetime", Skewed)  # noqa: B010 # a plain assignment has no type


def _adapt_real_datetime() -> None:
    """Have psycopg find its dumper by the real class: by name, the first class that it meets takes it alone."""
    for form in PyFormat:
        psycopg.adapters.get_dumper(_RealDatetime, form)


if __name__ == "__main__":
    _adapt_real_datetime()
    _replace_clock(Path(sys.argv.pop(1)))
    from worker.cli import main

    main()
