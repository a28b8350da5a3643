"""The names of settings in the environment, and how a wrong one is reported; no report shows a value."""

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import ValidationError

PREFIX = "AGAIN_"
NO_SETTINGS = frozenset({"ACTOR"})  # of the command line, not of an installation


def unknown_names(names: Iterable[str], fields: Iterable[str]) -> list[str]:
    """A word for each variable that looks like ours and is not: a slip of the finger would be the default's."""
    shorts = {name.upper() for name in fields} | NO_SETTINGS
    known = {PREFIX + short for short in shorts}
    problems = []
    for name in sorted(name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known):
        nearest = get_close_matches(name.upper().removeprefix(PREFIX), shorts, n=1)
        meant = (
            f"did you mean {PREFIX}{nearest[0]}?" if nearest else "docs/reference/settings.md lists those that are"
        )
        problems.append(f"{name}: is not known; {meant}")
    return problems


def explained(error: ValidationError, why_not: str | None) -> list[str]:
    """A line for each setting that is wrong; `why_not` says why a file of `again up` was not used."""
    lines, missing = [], False
    for problem in error.errors(include_input=False, include_url=False):
        name = PREFIX + str(problem["loc"][0]).upper() if problem["loc"] else ""
        missing |= problem["type"] == "missing"
        words = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {words}" if name else words)
    if missing and why_not is not None:
        lines.append(why_not)
    if missing:
        lines.append("run `again up` in this folder first, or set them; see docs/reference/settings.md")
    return lines
