"""Failures that are no verdict: words and codes that name a time-out, a line fault or a doubled request.

The answer after such a failure may still have been an approval, so it is asked about, never tried anew. Which
words and codes these are stands in the decline rules, under the class unknown_outcome.
"""

from schedules.dunning import declines
from schedules.dunning.declines import pg_code
from worker.rules import rulebook

__all__ = ["is_definite", "is_unclear", "is_used", "pg_code"]

USED = "general/uid-already-used"  # the rule for a uid that already has a paid or cancelled payment


def is_unclear(text: str | None, pg_provider: str | None) -> bool:
    """Whether this text does not say if the payment was made; codes are read in their PG's context."""
    return any(rule.id != USED for rule in declines.unclear(text, pg_provider, rulebook()))


def is_definite(text: str | None) -> bool:
    """Whether this text, as the answer to a charge, says whether the payment was made."""
    return declines.classify(text, None, rulebook()).definite


def is_used(text: str | None) -> bool:
    """Whether this text says that the uid already has a paid or cancelled payment."""
    return any(rule.id == USED for rule in declines.unclear(text, None, rulebook()))
