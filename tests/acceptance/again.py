"""The real command line, as a person or a supervisor would run it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import forking

ROOT = Path(__file__).resolve().parents[2]
AGAIN = Path(sys.executable).with_name("again")


def plain_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment without any AGAIN_ of its own, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AGAIN_")}
    return kept | {"NO_COLOR": "1", "COLUMNS": "200", "AGAIN_ACTOR": "tester"} | dict(settings or {})


def again(
    *arguments: str, settings: Mapping[str, str] | None = None, cwd: Path | None = None, typed: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with a text on standard input, in a process of its own."""
    return forking.run(["worker.cli", *arguments], plain_environment(settings), cwd, typed, 90)


def told(*arguments: str, settings: Mapping[str, str] | None = None) -> str:
    """What a command that must succeed prints."""
    done = again(*arguments, settings=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told_json(*arguments: str, settings: Mapping[str, str] | None = None) -> Any:
    """What a command that must succeed prints as JSON."""
    return json.loads(told(*arguments, "--json", settings=settings))


def refused(*arguments: str, settings: Mapping[str, str] | None = None) -> str:
    """What a command that must fail says, in words and without a traceback."""
    done = again(*arguments, settings=settings)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr
