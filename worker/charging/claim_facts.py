"""Load the facts of claims: from each charge's own row, and by the set for charges with a history."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from schedules.charging.charges import ChargeKind, ChargeStatus, KeyedIn, TriedBy
from schedules.charging.claiming import NOTHING_EARLIER, AccountFacts, ChargeFacts, EarlierFacts, SetAside
from schedules.errors import BROKEN
from worker.charging import decline_rules, dunning
from worker.charging.close import why_broken
from worker.services import Services
from worker.store.charging import asked_before_sending, attempts, charges, debts, declines
from worker.store.charging.attempts import Attempt
from worker.store.charging.charges import Charge
from worker.store.charging.claims import Locked
from worker.store.charging.declines import DeclinedLast
from worker.store.charging.kill_switch import Permission
from worker.store.customers import customers

UNASKED_ALONE = EarlierFacts(is_unasked=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was loaded of a charge beside its own row."""

    facts: EarlierFacts
    attempt: Attempt | None  # the unresolved one
    last: DeclinedLast | None
    charge: Charge | None  # where it was declined before, or its card is stopped


def or_aside(step: Callable[[], T]) -> T | SetAside:
    """Take a step for one charge; return SetAside when its row breaks a rule, so that the others go on."""
    try:
        return step()
    except BROKEN as broken:
        return SetAside(why_broken(broken))


def account_facts(services: Services, account: str, permission: Permission) -> AccountFacts:
    """What an account allows this process."""
    unfit = permission.unfit(services.identity, services.clock)
    if account not in services.account_names:
        unfit = f"no credentials for account {account} here"
    return AccountFacts(unfit, permission.obstacle(services.identity, services.clock))


def charge_facts(row: Locked, account: AccountFacts) -> ChargeFacts:
    """The facts of a charge's own row and of its account; raises where the row breaks a rule."""
    return ChargeFacts(
        account=account,
        kind=ChargeKind(row.kind),
        status=ChargeStatus(row.status),
        is_held=row.held_why is not None,
        next_attempt_at=row.next_attempt_at,
        was_declined=row.first_declined_at is not None,
        tried_by=TriedBy(row.tried_by) if row.tried_by else None,
        keyed_in=KeyedIn(row.keyed_in) if row.keyed_in else None,
        is_archived=row.archived_at is not None,
    )


def earlier_facts(row: Locked, earlier: Earlier | None) -> EarlierFacts:
    """The facts beside a charge's own row; `earlier` is None for a charge without a history."""
    if earlier is not None:
        return earlier.facts
    return UNASKED_ALONE if row.is_unasked else NOTHING_EARLIER


def load_earlier(db: Connection, rows: Sequence[Locked], now: datetime) -> Mapping[int, Earlier | SetAside]:
    """Load the facts of charges with a history, by the set; one by one when a row breaks a rule.

    Each of the charges has another card.
    """
    try:
        return _load(db, rows, now) if rows else {}
    except BROKEN:
        return {row.id: or_aside(partial(_load_one, db, row, now)) for row in rows}


def _load_one(db: Connection, row: Locked, now: datetime) -> Earlier:
    return _load(db, [row], now)[row.id]


def _load(db: Connection, rows: Sequence[Locked], now: datetime) -> dict[int, Earlier]:
    ids = [row.id for row in rows]
    made = attempts.earlier_of(db, ids)
    prior = asked_before_sending.before_sending(db, ids, now)
    ended = [row.id for row in rows if row.attempts and row.id not in made.unresolved]
    last = declines.last_of(db, ended) if ended else {}
    shared = [row.id for row in rows if row.has_others]
    ahead = debts.ahead_of(db, shared, now) if shared else {}
    cards = [row.billing_key_id for row in rows if row.stopped_as is not None]
    stopped = customers.stopped_as(db, cards) if cards else {}
    dunned = [row.id for row in rows if row.first_declined_at is not None or row.stopped_as is not None]
    whole = charges.of_ids(db, dunned) if dunned else {}
    free_at = dunning.cards_free_at(db, list(whole.values()), now) if whole else {}
    found = dict[int, Earlier]()
    for row in rows:
        attempt, state = made.unresolved.get(row.id, (None, None))
        facts = EarlierFacts(
            has_paid=row.id in made.paid,
            is_unasked=prior[row.id].is_unasked,
            finding=prior[row.id].finding,
            unresolved=state,
            last_is_indefinite=row.id in last and _is_indefinite(row, last[row.id]),
            ahead=ahead.get(row.id),
            card_stopped=row.billing_key_id in stopped,
            card_free_at=free_at.get(row.id),
        )
        found[row.id] = Earlier(facts, attempt, last.get(row.id), whole.get(row.id))
    return found


def _is_indefinite(row: Locked, last: DeclinedLast) -> bool:
    return not decline_rules.is_definite(last.reason, last.pg_provider or row.pg_provider)
