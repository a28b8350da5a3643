"""The tasks that read what a customer has: they change nothing, and take no lock."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from schedules.outbox.events import in_json
from worker.reporting import customer_reads
from worker.task_api.context import Answer, Context, Words

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OnPage = Annotated[int, Field(ge=1, le=100)]
ON_A_PAGE = 50


def subscription_standing(
    context: Context,
    *,
    subscription: Words | None = None,
    external_ref: Words | None = None,
    customer_uid: Words | None = None,
) -> Answer:
    """Say whether a customer may be served, until when, and what is owed, by one of three names.

    `served` is true if one of `subscriptions` is served. A customer_uid lists those of its customer that have not
    ended, or else the newest. Nothing is changed.
    """
    found = customer_reads.standings(context.services, subscription, external_ref, customer_uid)
    return {"served": any(each.served for each in found), "subscriptions": list(map(_fields, found))}


def customer_subscriptions(
    context: Context, *, customer_uid: Words, after: Words | None = None, limit: OnPage = ON_A_PAGE
) -> Answer:
    """List the subscriptions of a customer, newest first; those that have ended too."""
    page = customer_reads.subscriptions_of(context.services, customer_uid, after, limit)
    return {"subscriptions": list(map(_fields, page.rows)), "next": page.next}


def customer_charges(
    context: Context, *, customer_uid: Words, after: Words | None = None, limit: OnPage = ON_A_PAGE
) -> Answer:
    """List the charges of all cards of a customer, newest first."""
    page = customer_reads.charges_of(context.services, customer_uid, after, limit)
    return {"charges": list(map(_fields, page.rows)), "next": page.next}


def customer_cards(
    context: Context, *, customer_uid: Words, after: Words | None = None, limit: OnPage = ON_A_PAGE
) -> Answer:
    """List the cards of a customer, newest first; deleted ones too. Card numbers are masked."""
    page = customer_reads.cards_of(context.services, customer_uid, after, limit)
    return {"cards": list(map(_fields, page.rows)), "next": page.next}


def _fields(row: "DataclassInstance") -> Answer:
    return {name: _plain(value) for name, value in asdict(row).items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else in_json(value)
