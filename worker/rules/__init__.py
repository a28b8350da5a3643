"""The decline rules that come with this package, read once for each process."""

from functools import lru_cache
from importlib.resources import files

from schedules.dunning.declines import Rulebook, bound, read_rules


@lru_cache(maxsize=1)
def rulebook() -> Rulebook:
    """Every rules file beside this one; a bad one is refused with its name, the rule and the reason."""
    found = (entry for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))
    return bound(read_rules(entry.name.removesuffix(".toml"), entry.read_text("utf-8")) for entry in found)
