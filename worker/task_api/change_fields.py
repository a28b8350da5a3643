"""Changes of a subscription, and its charges before and after them, as plain fields of an answer."""

from typing import Any

from schedules.outbox.events import in_json
from worker.customers.adjustments import Moved
from worker.customers.next_charges import Next
from worker.renewals.open_charges import Opened

Answer = dict[str, Any]


def moved_fields(subscription: str, moved: Moved) -> Answer:
    """A moved subscription as plain fields."""
    return changed_fields(subscription, moved.next, moved.before, moved.opened)


def changed_fields(subscription: str, after: Next, before: Next, opened: tuple[Opened, ...]) -> Answer:
    """The next charge after and before a change, as plain fields."""
    return {
        "subscription": subscription, "period_no": after.period_no, "period_date": in_json(after.period_date),
        "next_due_at": in_json(after.due_at), "amount": after.amount, "currency": after.currency,
        "due_at_before": in_json(before.due_at), "amount_before": before.amount,
        "currency_before": before.currency, "opened": opened_fields(opened),
    }  # fmt: skip


def charge_fields(charge: Next | None) -> Answer | None:
    """A charge that is not made any more, as plain fields."""
    if charge is None:
        return None
    facts = {"period_no": charge.period_no, "due_at": in_json(charge.due_at)}
    return facts | {"amount": charge.amount, "currency": charge.currency}


def following_fields(following: Next | None, number: str = "next_period_no") -> Answer:
    """The next charge as plain fields; all null without one."""
    if following is None:
        return {number: None, "next_due_at": None, "next_amount": None, "currency": None}
    due = in_json(following.due_at)
    facts = {number: following.period_no, "next_due_at": due}
    return facts | {"next_amount": following.amount, "currency": following.currency}


def opened_fields(opened: tuple[Opened, ...]) -> list[Answer]:
    """The charges of opened periods, as plain fields."""
    return [
        {"charge": each.charge, "period_no": each.period_no, "due_at": in_json(each.due_at),
         "amount": each.amount, "currency": each.currency, "status": each.status.value,
         "closed_why": each.closed_why}
        for each in opened
    ]  # fmt: skip
