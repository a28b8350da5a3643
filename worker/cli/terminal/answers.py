"""Print the answer of a verb of the task API for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedules.money.amounts import amount_words
from worker.cli.terminal.output import say

if TYPE_CHECKING:
    from worker.task_api.verbs import Answer

# What became of an open charge whose subscription changed its card.
BECAME = {
    "tried": "it is tried with the new card now",
    "moved": "it moves to the new card and is not tried, because it is held, not due or stopped by an end",
    "under_way": "its call is under way or unclear; it moves to the new card if the card before does not pay",
    "left": "it is of another gateway account, and stays with the card before",
}
CURRENCIES = {"amount_before": "currency_before"}  # of the other amounts: `currency`


def when(instant: str) -> str:
    """An instant of an answer for people: 2026-11-30 09:00Z."""
    return f"{instant[:10]} {instant[11:16]}Z"


def in_words(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an answer for people: instants, and amounts with their currency."""
    words = dict(facts)
    for name, value in facts.items():
        if name.endswith(("_at", "_at_before")) and isinstance(value, str):
            words[name] = when(value)
        elif name in {"amount", "amount_before", "not_charged"} and value is not None:
            words[name] = amount_words(value, facts[CURRENCIES.get(name, "currency")])
    return words


def print_rest(done: "Answer") -> None:
    """Print what an answer has beside its sentence: what became of charges, and the next charge.

    A stored answer from before an upgrade may lack fields.
    """
    if "due_at_before" in done:
        shown = in_words(done)
        before = f"{shown['amount_before']}, due {shown['due_at_before']}"
        say(f"next charge: {before} -> {shown['amount']}, due {shown['next_due_at']}")
    for debt in map(in_words, done.get("debts", ())):
        say(f"charge {debt['charge']}, {debt['amount']}, due {debt['due_at']}: {BECAME[debt['became']]}")
    if "next_amount" in done:
        say(_next_charge(done))
    for each in map(in_words, (*done.get("opened", ()), *done.get("periods_not_charged", ()))):
        is_open = each.get("closed_why") is None
        became = f"is opened as charge {each['charge']}" if is_open else "is not charged"
        why = "" if is_open else f": {each['closed_why']}"
        say(f"period {each['period_no']}, {each['amount']}, was due {each['due_at']} and {became}{why}")
    if stops := done.get("stops"):
        stopped = in_words(stops)
        until = "" if "ends_at" in done else " unless it is resumed before"
        say(f"period {stopped['period_no']}, {stopped['amount']}, due {stopped['due_at']}, is not charged{until}")
    for charge in map(in_words, done.get("canceled", ())):
        say(f"canceled: charge {charge['charge']}, {charge['amount']}")
    for charge in map(in_words, done.get("unclear", ())):
        say(
            f"unclear: charge {charge['charge']}, {charge['amount']}, may be paid yet; "
            "a payment causes the event charge.paid_after_end"
        )


def _next_charge(done: "Answer") -> str:
    if done["next_due_at"] is None:
        return "no charge is planned"
    return f"next charge: {amount_words(done['next_amount'], done['currency'])}, due {when(done['next_due_at'])}"
