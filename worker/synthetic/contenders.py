"""Who is compared: policies as our worker follows them, and two ladders that do not read the words."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache

from schedules.dunning.card_limits import limit_span
from schedules.dunning.decisions import Said
from schedules.dunning.declines import classify
from schedules.dunning.policies import STANDARD, DunningPolicy, FinalAction
from schedules.errors import BadPolicy
from worker.rules import rulebook

# Maps the text of a decline and its PG to a decline class.
Reader = Callable[[str, str], Said]


@lru_cache(maxsize=1024)
def reads_words(text: str, pg: str) -> Said:
    """As the worker does: by the rules files, and by what the words say of a limit."""
    placed = classify(text, pg, rulebook())
    return Said(placed.decline_class, limit_span(text), definite=placed.definite)


def reads_nothing(text: str, pg: str) -> Said:  # noqa: ARG001 # that is the point
    """As plain ladders do: every decline is the same to them, a stolen card's too."""
    return Said()


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy, and the two things beside it that decide what it collects."""

    name: str
    policy: DunningPolicy
    reads: Reader = reads_words
    charges_mended_cards_at_once: bool = True  # otherwise the next rung finds it, if there is one


_PATIENCE = STANDARD.patience  # all have the same time until the customer counts as lost

FIXED_8_8_8 = Contender(
    "fixed-8-8-8",
    DunningPolicy(
        ladder=tuple(timedelta(days=days) for days in (8, 16, 24)), final=FinalAction.CANCEL, wait=_PATIENCE
    ),
    reads_nothing,
    charges_mended_cards_at_once=False,
)
WOOCOMMERCE = Contender(
    "woocommerce",
    DunningPolicy(
        ladder=tuple(timedelta(hours=hours) for hours in (12, 24, 48, 96, 168)),
        final=FinalAction.CANCEL,
        wait=_PATIENCE,
    ),
    reads_nothing,
    charges_mended_cards_at_once=False,
)
# What is left of the difference when they are given what is no matter of the schedule.
AT_ONCE = tuple(
    replace(one, name=f"{one.name}-at-once", charges_mended_cards_at_once=True)
    for one in (FIXED_8_8_8, WOOCOMMERCE)
)
DEFAULT = Contender("standard", STANDARD)
KNOWN = {one.name: one for one in (DEFAULT, FIXED_8_8_8, WOOCOMMERCE, *AT_ONCE)}
BASELINES = (FIXED_8_8_8, WOOCOMMERCE)


def known(name: str) -> Contender:
    """The contender of this name."""
    try:
        return KNOWN[name]
    except KeyError:
        raise BadPolicy(
            f"policy {name!r} is not known; there are: {', '.join(KNOWN)}, or give a FILE.toml"
        ) from None


def beside_baselines(chosen: Iterable[Contender]) -> list[Contender]:
    """The chosen ones, each once, and the baselines after them."""
    return list({one.name: one for one in (*chosen, *BASELINES)}.values())
