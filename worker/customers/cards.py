"""Cards: when a card is replaced or repaired, its open debts are tried at once, oldest first."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

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
from worker.store.charging import attempts, charges, debts, declines
from worker.store.charging.charges import Charge
from worker.store.charging.columns import ChargeColumns
from worker.store.customers import customers, subscriptions
from worker.store.customers.customers import KeyColumns, StoredKey
from worker.store.outbox import event_log

ASKED_EVERY = timedelta(days=1)  # a card that debts wait for: no webhook need arrive when it changes
UNCLEAR_ASKED_EVERY = timedelta(minutes=10)  # a card whose issue has an unknown outcome
BATCH = 100  # cards read in one transaction
SHOWN = ("pg_provider", "pg_id", "card_name", "card_number")  # masked fields in the history of a card
log = logging.getLogger("again.cards")


class CannotChange(OwnCode):
    """The card cannot be recorded as changed; nothing was changed."""


class NoAnswer(CannotChange):
    """The gateway gave no usable answer about the card."""


@dataclass(frozen=True, slots=True)
class TypedCard:
    """A typed-in card that was stored: the answer of the gateway, and the last day, which no answer contains."""

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
    """Record that the card of a billing key was replaced or repaired; return how many debts are tried.

    The masked facts are read from the gateway, unless they come with a `typed` card. Without `believed` (an
    unsigned webhook, or the daily look-up) nothing changes unless the facts or the time of change at the gateway
    differ from those stored. Raises CannotChange when the customer or the key is not known, NoAnswer when the
    gateway does not answer and the change is not `believed`.
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
        facts: KeyColumns = {}
    else:
        facts = facts_of(found)
    now = services.clock.now()
    with services.act() as db:
        key = _known(db, customer_uid)
        # Lock order everywhere: subscriptions, then debts, then the card.
        announced = subscriptions.lock_announced(db, key.id)
        owed = [charges.locked(db, charge_id) for charge_id in debts.owed_by_card(db, key.id)]
        # One that was being paid has ended by now.
        open_charges = [charge for charge in owed if charge is not None and charge.status.is_owed]
        before = customers.card_facts(db, key.id)
        differs = {name for name, value in facts.items() if value != getattr(before, name)}
        if before.seen_updated_at is None:
            differs.discard("seen_updated_at")  # not stored before, so its arrival is no change
        if facts and (differs or typed is not None or _is_quiet(services, before.unclear_since, now)):
            _end_unclear(db, key, before.unclear_since, is_stored=True)
        if not differs and not believed:
            customers.change_key(db, key.id, **facts)
            return 0
        tried = sum(try_at_once(db, charge, now, is_new=bool(differs)) for charge in open_charges)
        customers.change_key(db, key.id, **facts | {"stopped_as": None})
        if typed is not None:
            customers.change_key(db, key.id, **expiry_columns(typed.last_day))
        elif differs and any(getattr(before, name) is not None for name in SHOWN):
            customers.change_key(db, key.id, **expiry_columns(None))  # the expiry of the former card
        if differs:
            customers.change_key(db, key.id, changed_at=now, ask_at=None)
            announce_anew(db, announced, now)
            event = events.CardChanged(
                customer_uid=customer_uid, card_name=facts.get("card_name"), card_number=facts.get("card_number")
            )
            event_log.enqueue_event(db, event, f"{customer_uid}/changed/{now.isoformat()}", now)
        was = {name: getattr(before, name) for name in SHOWN}
        becomes = {name: facts.get(name, was[name]) for name in SHOWN}
        event_log.record(db, actor, "card.changed", customer_uid, why, now, tried=tried, differs=sorted(differs),
                     before=was, after=becomes)  # fmt: skip
    return tried


def _is_quiet(services: Services, unclear_since: datetime | None, now: datetime) -> bool:
    """Whether the quiet time since an unclear call has passed. The gateway may show a result late."""
    return unclear_since is not None and now - unclear_since >= timedelta(seconds=services.settings.quiet_time)


def _end_unclear(db: Connection, key: StoredKey, unclear_since: datetime | None, *, is_stored: bool) -> None:
    """Clear the unknown state of a key; a card that is stored can be charged from now on."""
    if unclear_since is None:
        return
    columns: KeyColumns = {"unclear_since": None}
    if is_stored and key.deleted_at is not None:
        columns |= {"deleted_at": None, "stopped_as": None}
    customers.change_key(db, key.id, **columns)


def _end_unclear_if_quiet(services: Services, key: StoredKey) -> None:
    """Clear the unknown state of a key that the gateway does not have, after the quiet time."""
    with services.engine.begin() as db:
        unclear_since = customers.card_facts(db, key.id).unclear_since
        if _is_quiet(services, unclear_since, services.clock.now()):
            _end_unclear(db, key, unclear_since, is_stored=False)


def look_due(services: Services, account: str, going_on: Callable[[], bool] = lambda: True) -> int:
    """Read the cards of an account that debts wait for; return for how many of them debts are tried."""
    found = 0
    if not are_ours_and_known(services):
        return 0
    while going_on():
        now = services.clock.now()
        with services.engine.begin() as db:
            customer_uids = customers.take_to_ask(
                db, account, now, now + ASKED_EVERY, now + UNCLEAR_ASKED_EVERY, BATCH
            )
        for place, customer_uid in enumerate(customer_uids):
            is_answered = going_on()
            try:
                if is_answered:
                    found += changed(services, customer_uid, "daily look", None, believed=False) > 0
            except NoAnswer as error:
                log.warning("%s", error)
                is_answered = False
            except (CannotChange, UnusableAccount) as error:
                log.info("%s", error)
            if not is_answered:  # nor are those after it
                with services.engine.begin() as db:
                    customers.ask_at_latest(db, customer_uids[place:], now + UNCLEAR_ASKED_EVERY)
                return found
        if len(customer_uids) < BATCH:
            break
    return found


def expires(services: Services, customer_uid: str, year: int, month: int, actor: str) -> date:
    """Store the last day of a card, which the gateway does not send, and plan its `card.expiring` event.

    Returns that day. Raises CannotChange when it has passed.
    """
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


def expiry_columns(last_day: date | None) -> KeyColumns:
    """The columns for the last day of a card and the time of its announcement; both None without a last day."""
    return {
        "expires_on": last_day,
        "tell_expiry_at": None if last_day is None else tell_expiry_at(last_day),
    }


def last_day_of_typed(expiry: str, now: datetime) -> date:
    """The last day of a typed-in card; raises BadRequest when it has passed, before anything is sent."""
    last_day = last_day_of_expiry(expiry)
    if has_expired(last_day, now):
        raise BadRequest(
            Code.INVALID, "card", f"it expired at the end of {expiry}; ask for a card that is still good"
        )
    return last_day


def read_new_key(gateway: Gateway, customer_uid: str) -> KeyAnswer:
    """Read the billing key of an unknown customer: the customer_uid first, then its other Unicode normal forms."""
    first, *others = forms(customer_uid)
    answer = gateway.read_key(first)
    for form in others:
        if not isinstance(answer, KeyMissing):
            break
        answer = gateway.read_key(form)
    return answer


def facts_of(key: BillingKey) -> KeyColumns:
    """The facts of a card that are stored, by column of the billing key."""
    return {
        "pg_provider": key.pg_provider, "pg_id": key.pg_id, "card_name": key.card_name,
        "card_number": key.card_number, "seen_updated_at": key.updated_at,
    }  # fmt: skip


def _known(db: Connection, customer_uid: str, *, lock: bool = False) -> StoredKey:
    key = customers.key_by_uid(db, customer_uid, lock=lock)
    if key is None:
        raise CannotChange(
            Code.NOT_FOUND, f"customer {customer_uid!r} is not known; `again customer add` makes it known"
        )
    return key


def try_at_once(db: Connection, charge: Charge | None, now: datetime, *, is_new: bool) -> bool:
    """Make a due debt due for an attempt now; return whether it is. A new card (`is_new`) starts a new ladder.

    Not tried now: a held debt, which waits for an operator; a debt that was declined before a person ended its
    subscription; a debt with an attempt under way, which concerns the former card (settling then tries the new
    one); and a debt of a card without a visible change, sooner after a decline than a ladder allows.
    """
    if charge is None or charge.held_why is not None or charge.due_at > now:
        return False
    if dunning.is_stopped(charge):
        return False
    columns: ChargeColumns = NEW_LADDER.copy() if is_new else {}
    if attempts.is_under_way(db, charge.id) or (not is_new and _was_just_declined(db, charge, now)):
        charges.change(db, charge.id, **columns)
        return False
    columns |= {"waits": None, "next_attempt_at": now, "queued_until": None, "tried_by": TriedBy.CARD.value}
    charges.change(db, charge.id, **columns)
    return True


def _was_just_declined(db: Connection, charge: Charge, now: datetime) -> bool:
    if charge.waits:
        return False  # no attempt since a decline that another attempt could not change
    last = declines.declined_times(db, charge.billing_key_id, now - LEAST_SPACING, 1)
    free_at = dunning.card_free_at(db, charge, now)
    return bool(last) or (free_at is not None and free_at > now)
