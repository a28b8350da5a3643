"""Cards: one that was replaced or mended pays what is open, at once, oldest debt first."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from schedules.charging.cards import has_expired, last_day_of, last_day_of_expiry, tell_expiry_at
from schedules.charging.charges import TriedBy
from schedules.dunning.decisions import LEAST_SPACING
from schedules.errors import BadRequest, Code, OwnCode
from schedules.outbox import events
from schedules.texts import forms
from worker.charging import dunning
from worker.charging.current_card import NEW_LADDER
from worker.gateway.port import BillingKey, Gateway, KeyAnswer, KeyMissing, code_of
from worker.outbox.announcements import announce_anew
from worker.services import Services, UnusableAccount, are_ours_and_known
from worker.store.charging import attempts, charges, debts
from worker.store.charging.charges import Charge
from worker.store.customers import customers, subscriptions
from worker.store.customers.customers import StoredKey
from worker.store.outbox import event_log

ASKED_EVERY = timedelta(days=1)  # a card that debts wait for; nobody need tell us that it has changed
UNCLEAR_ASKED_EVERY = timedelta(minutes=10)  # a card of which it is unclear whether it is stored
BATCH = 100  # cards asked about in one go
FACTS = {  # the column of each
    "pg_provider": "pg_provider",
    "pg_id": "pg_id",
    "card_name": "card_name",
    "card_number": "card_number",
    "updated_at": "seen_updated_at",
}
SHOWN = ("pg_provider", "pg_id", "card_name", "card_number")  # what the history of a card tells, masked
log = logging.getLogger("again.cards")


class CannotChange(OwnCode):
    """The card cannot be taken as changed; nothing has been done."""


class NoAnswer(CannotChange):
    """The gateway did not say what it knows of the card."""


@dataclass(frozen=True, slots=True)
class TypedCard:
    """A card that was typed in and stored: what the gateway answered, and its last day, which it never tells."""

    key: BillingKey
    last_day: date


def changed(
    services: Services,
    customer_uid: str,
    actor: str,
    why: str | None,
    *,
    believed: bool = True,
    typed: TypedCard | None = None,
) -> int:
    """Another card stands behind a billing key, or the customer has mended it; answers how many debts are tried.

    The masked facts are read back from the gateway, unless they came with a `typed` card. Who is not `believed`, a
    webhook that anybody can send or our own daily look, changes nothing unless the gateway tells of another card
    or change than the one we know.
    """
    with services.engine.begin() as db:
        key = _known(db, customer_uid)
    customer_uid = key.customer_uid
    found = services.gateway(key.account).read_key(customer_uid) if typed is None else typed.key
    if isinstance(found, KeyMissing):
        _end_unclear_if_quiet(services, key)
        raise CannotChange(
            Code.NOT_FOUND, f"the gateway has no billing key for customer {customer_uid!r}; issue one first"
        )
    if not isinstance(found, BillingKey):
        if not believed:
            raise NoAnswer(
                code_of(found),
                f"the gateway did not tell of customer {customer_uid!r}: {found.reason}",
            )
        facts: dict[str, Any] = {}
    else:
        facts = facts_of(found)
    now = services.clock.now()
    with services.act() as db:
        key = _known(db, customer_uid)
        # Subscriptions are locked before their debts, and debts before their card, by everybody.
        announced = subscriptions.lock_announced(db, key.id)
        owed = [charges.locked(db, charge_id) for charge_id in debts.owed_by_card(db, key.id)]
        before = customers.card_facts(db, key.id)
        differs = {name for name, value in facts.items() if value != before[name]}
        if before["seen_updated_at"] is None:
            differs.discard("seen_updated_at")  # it was never told; that it is now is no change
        if facts and (differs or typed is not None or _is_quiet(services, before["unclear_since"], now)):
            _end_unclear(db, key, before["unclear_since"], is_stored=True)
        if not differs and not believed:
            customers.change_key(db, key.id, **facts)
            return 0
        tried = sum(try_at_once(db, charge, now, is_new=bool(differs)) for charge in owed)
        customers.change_key(db, key.id, **facts, stopped_as=None)
        if typed is not None:
            customers.change_key(db, key.id, **expiry_columns(typed.last_day))
        elif differs and any(before[name] is not None for name in SHOWN):
            customers.change_key(db, key.id, **expiry_columns(None))  # it was the expiry of the card before
        if differs:
            customers.change_key(db, key.id, changed_at=now, ask_at=None)
            announce_anew(db, announced, now)
            told = events.CardChanged(
                customer_uid=customer_uid, card_name=facts.get("card_name"), card_number=facts.get("card_number")
            )
            event_log.enqueue_event(db, told, f"{customer_uid}/changed/{now.isoformat()}", now)
        was = {name: before[name] for name in SHOWN}
        becomes = {name: facts.get(name, before[name]) for name in SHOWN}
        event_log.record(db, actor, "card.changed", customer_uid, why, now, tried=tried, differs=sorted(differs),
                     before=was, after=becomes)  # fmt: skip
    return tried


def _is_quiet(services: Services, unclear_since: datetime | None, now: datetime) -> bool:
    """Whether what the gateway shows now is what became of a call since then; it may show late."""
    return unclear_since is not None and now - unclear_since >= timedelta(seconds=services.settings.quiet_time)


def _end_unclear(db: Connection, key: StoredKey, unclear_since: datetime | None, *, is_stored: bool) -> None:
    """Write that it is clear what is stored under a key; a card that is stored can be charged from now on."""
    if unclear_since is None:
        return
    again = {"deleted_at": None, "stopped_as": None} if is_stored and key.deleted_at is not None else {}
    customers.change_key(db, key.id, unclear_since=None, **again)


def _end_unclear_if_quiet(services: Services, key: StoredKey) -> None:
    """End what was unclear when the gateway has no card, and it is late enough to believe that."""
    with services.engine.begin() as db:
        unclear_since = customers.card_facts(db, key.id)["unclear_since"]
        if _is_quiet(services, unclear_since, services.clock.now()):
            _end_unclear(db, key, unclear_since, is_stored=False)


def look_due(services: Services, going_on: Callable[[], bool] = lambda: True) -> int:
    """Ask the gateway about the cards that debts wait for; answers how many have changed."""
    found = 0
    if not are_ours_and_known(services):
        return 0
    while going_on():
        now = services.clock.now()
        with services.engine.begin() as db:
            asked = customers.take_to_ask(db, now, now + ASKED_EVERY, now + UNCLEAR_ASKED_EVERY, BATCH)
        for customer_uid in asked:
            if not going_on():
                return found
            try:
                found += changed(services, customer_uid, "daily look", None, believed=False) > 0
            except NoAnswer as error:
                log.warning("%s", error)
                return found  # the gateway is away; the others are asked about tomorrow
            except (CannotChange, UnusableAccount) as error:
                log.info("%s", error)
        if len(asked) < BATCH:
            break
    return found


def expires(services: Services, customer_uid: str, year: int, month: int, actor: str) -> date:
    """Keep the last day of a card, which the gateway does not tell; the customer is told a month before."""
    last_day = last_day_of(year, month)
    now = services.clock.now()
    with services.engine.begin() as db:
        key = _known(db, customer_uid, lock=True)
        if has_expired(last_day, now):
            raise CannotChange(
                Code.INVALID,
                f"{last_day:%Y-%m} is past; the card has expired: `again card changed` when it is new",
            )
        customers.change_key(db, key.id, **expiry_columns(last_day))
        event_log.record(db, actor, "card.expires", customer_uid, None, now, last_day=last_day.isoformat())
    return last_day


def expiry_columns(last_day: date | None) -> dict[str, Any]:
    """The columns that keep a card's last day, and when it is announced; none is kept of a card without one."""
    return {
        "expires_on": last_day,
        "tell_expiry_at": None if last_day is None else tell_expiry_at(last_day),
    }


def last_day_of_typed(expiry: str, now: datetime) -> date:
    """The last day of a card that is typed in; BadRequest when it is past, so that nothing is sent."""
    last_day = last_day_of_expiry(expiry)
    if has_expired(last_day, now):
        raise BadRequest(
            Code.INVALID, "card", f"it expired at the end of {expiry}; ask for a card that is still good"
        )
    return last_day


def read_new_key(gateway: Gateway, customer_uid: str) -> KeyAnswer:
    """The gateway's card of a customer who is not known here, under the customer_uid or its other normal form."""
    first, *others = forms(customer_uid)
    answer = gateway.read_key(first)
    for form in others:
        if not isinstance(answer, KeyMissing):
            break
        answer = gateway.read_key(form)
    return answer


def facts_of(key: BillingKey) -> dict[str, Any]:
    """What is kept of a card: the columns of its billing key."""
    return {column: getattr(key, name) for name, column in FACTS.items()}


def _known(db: Connection, customer_uid: str, *, lock: bool = False) -> StoredKey:
    key = customers.key_by_uid(db, customer_uid, lock=lock)
    if key is None:
        raise CannotChange(
            Code.NOT_FOUND, f"customer {customer_uid!r} is not known; `again customer add` makes it known"
        )
    return key


def try_at_once(db: Connection, charge: Charge | None, now: datetime, *, is_new: bool) -> bool:
    """Try a debt now, with a new card by a ladder that begins anew; whether it is tried.

    What is held for an operator is left to him. What was declined before a person ended its subscription is tried
    by a person only, whatever card it has. The answer of an attempt under way is about the old card, and
    settling tries the new one then. A card that is said to be mended, and looks the same, is not tried sooner
    after a decline, or oftener, than a ladder would.
    """
    if charge is None or charge.held_why is not None or charge.due_at > now:
        return False
    if dunning.is_stopped(charge):
        return False
    columns: dict[str, Any] = dict(NEW_LADDER) if is_new else {}
    if attempts.is_under_way(db, charge.id) or (not is_new and _was_just_declined(db, charge, now)):
        charges.change(db, charge.id, **columns)
        return False
    columns |= {"waits": None, "next_attempt_at": now, "queued_until": None, "tried_by": TriedBy.CARD.value}
    charges.change(db, charge.id, **columns)
    return True


def _was_just_declined(db: Connection, charge: Charge, now: datetime) -> bool:
    if charge.waits:
        return False  # nothing was tried since a decline that another try could not have helped
    last = attempts.declined_times(db, charge.billing_key_id, now - LEAST_SPACING, 1)
    free_at = dunning.card_free_at(db, charge, now)
    return bool(last) or (free_at is not None and free_at > now)
