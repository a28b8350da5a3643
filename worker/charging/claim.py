"""Claiming: write the attempts at charges, each under a lease, before anything is sent; one transaction per batch.

The facts are loaded by the set, `schedules.charging.claiming` decides for each charge, and new attempts are
written by the set. A lone charge is a batch of one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from functools import partial
from itertools import groupby
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from schedules.charging import claiming
from schedules.charging.buyers import NOBODY, Buyer
from schedules.charging.charges import AttemptState, ChargeKind, KeyedIn
from schedules.charging.claiming import (
    AskAboutLast,
    AskFirst,
    Begin,
    Behind,
    CardCapped,
    CardStopped,
    ChargeFacts,
    Decision,
    GiveBack,
    LeaveToAttempt,
    NotDue,
    SendAgain,
    SetAside,
    Stopped,
)
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Unknown
from schedules.dunning.settling import in_doubt
from schedules.errors import BROKEN
from schedules.money.amounts import Money
from worker.charging import dunning
from worker.charging.claim_facts import Earlier, account_facts, charge_facts, earlier_facts, load_earlier, or_aside
from worker.charging.close import set_aside, why_broken
from worker.renewals.enqueue import GIVEN_BACK
from worker.services import Services, level_of, right_time
from worker.store.charging import (
    attempts,
    card_calls,
    charges,
    claims,
    kill_switch,
)
from worker.store.charging.attempts import Attempt
from worker.store.charging.charges import Charge
from worker.store.charging.claims import Beginning, Locked
from worker.store.charging.declines import DeclinedLast
from worker.store.charging.kill_switch import Permission
from worker.store.customers import customers
from worker.store.failures import summary

log = logging.getLogger("again.charging")
NOT_WRITTEN = "the next attempt cannot be written"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A charge and its attempt, which this process holds until the lease expires."""

    charge_id: int
    key: str
    account: str
    customer_uid: str
    name: str
    kind: ChargeKind
    keyed_in: KeyedIn | None
    intent: Attempt
    buyer: Buyer = NOBODY


@dataclass(frozen=True, slots=True)
class Unasked:
    """No claim was made: the gateway may have a payment under an earlier merchant_uid of the charge."""

    account: str  # whose gateway is looked up first


class Skipped(Enum):
    """Why a charge of a batch was neither claimed nor left: it is claimed alone."""

    LOCKED = "another transaction has its row locked"
    LATER = "another charge of its card is in the batch"
    FAILED = "what follows for it cannot be written"


Answer = Claimed | Unasked | Skipped | None


def claim_many(services: Services, ids: Sequence[int], *, waits: bool = False) -> list[Answer]:
    """Claim these charges in one transaction; one answer for each id, in order. None: not to be tried now.

    A batch waits for no charge's row, and answers LOCKED for one that another transaction has locked. With
    `waits`, which is for a lone charge, it waits for that transaction: otherwise a person's act of the same moment
    would cost the charge its message. An id that comes twice is claimed once. Of several charges of one card the
    first is claimed and the others are LATER: each must see what was written for those before it. What the
    database refuses for one charge is FAILED in a batch, and raised for a lone charge.
    """
    once = list(dict.fromkeys(ids))
    with services.engine.begin() as db:
        if waits:
            for charge_id in once:
                claims.wait_for(db, charge_id)
        found = {row.id: row for row in claims.lock(db, once)}
        rows = _first_of_each_card([found[charge_id] for charge_id in once if charge_id in found])
        missing: Answer = None if waits else Skipped.LOCKED
        answers: dict[int, Answer] = {
            charge_id: Skipped.LATER if charge_id in found else missing for charge_id in once
        }
        answers |= _Batch(services, db, services.clock.now(), waits).claim(rows)
    return [answers.pop(charge_id, None) for charge_id in ids]


def begin_attempt(services: Services, db: Connection, charge: Charge) -> Attempt | None:
    """Write the next attempt at a locked charge, claimed; None when a unique constraint refuses it."""
    now = services.clock.now()
    intent = _new_attempt(services, charge.id, charge.key, charge.attempts + 1, charge.money, now)
    card = charge.billing_key_id if charge.keyed_in is None else None
    begun = claims.begin(db, [Beginning(intent, card, charge.tried_by)], now + services.settings.lease_time)
    return replace(intent, id=begun[charge.id]) if charge.id in begun else None


def intent_of(services: Services, row: Locked, now: datetime) -> Attempt:
    """The next attempt at a charge, which is not written yet; raises where the row breaks a rule."""
    return _new_attempt(services, row.id, row.key, row.attempts + 1, Money(row.amount, row.currency), now)


def _new_attempt(
    services: Services, charge_id: int, key: str, number: int, money: Money, now: datetime
) -> Attempt:
    uid = merchant_uid(services.settings.environment, key, number)
    return Attempt(0, charge_id, number, uid, money, 1, now, None, 0, None, 1)


def _first_of_each_card(rows: Sequence[Locked]) -> list[Locked]:
    return list({row.billing_key_id: row for row in reversed(rows)}.values())[::-1]


def claimed_of(charge: Charge | Locked, intent: Attempt) -> Claimed:
    """The parts of a charge that its attempt needs."""
    return Claimed(
        charge.id,
        charge.key,
        charge.account,
        charge.customer_uid,
        charge.name,
        ChargeKind(charge.kind),
        KeyedIn(charge.keyed_in) if charge.keyed_in is not None else None,
        intent,
        charge.buyer,
    )


@dataclass(frozen=True, slots=True)
class _Decided:
    """A charge and the decision for it."""

    row: Locked
    decision: Decision
    earlier: Earlier | None = None
    intent: Attempt | None = None  # of Begin


@dataclass(frozen=True, slots=True)
class _Batch:
    """The claim of charges, each of another card, inside a transaction."""

    services: Services
    db: Connection
    now: datetime
    is_lone: bool

    def claim(self, rows: Sequence[Locked]) -> dict[int, Answer]:
        """Decide and write; return the answers by charge id."""
        names = sorted({row.account for row in rows})
        permissions = {name: kill_switch.permission(self.db, name) for name in names}
        accounts = {name: account_facts(self.services, name, permissions[name]) for name in names}
        decided, passed = list[_Decided](), list[tuple[Locked, ChargeFacts]]()
        for row in rows:
            facts = or_aside(partial(charge_facts, row, accounts[row.account]))
            stops = facts if isinstance(facts, SetAside) else claiming.screen(facts, self.now)
            if stops is not None:
                decided.append(_Decided(row, stops))
            elif isinstance(facts, ChargeFacts):
                passed.append((row, facts))
        earlier = load_earlier(self.db, [row for row, _ in passed if row.has_earlier], self.now)
        decided += [self._decided(row, facts, earlier.get(row.id)) for row, facts in passed]
        self._log(decided, permissions)
        return self._write(decided)

    def _decided(self, row: Locked, facts: ChargeFacts, earlier: Earlier | SetAside | None) -> _Decided:
        if isinstance(earlier, SetAside):
            return _Decided(row, earlier)
        decision: Decision = claiming.decide(facts, earlier_facts(row, earlier), self.now)
        if not isinstance(decision, Begin):
            return _Decided(row, decision, earlier)
        intent = or_aside(partial(intent_of, self.services, row, self.now))
        if isinstance(intent, SetAside):
            return _Decided(row, intent)
        return _Decided(row, decision, earlier, intent)

    def _log(self, decided: Sequence[_Decided], permissions: Mapping[str, Permission]) -> None:
        for row, decision in ((each.row, each.decision) for each in decided):
            match decision:
                case GiveBack(why):
                    log.info("charge %s is given back: %s", row.key, why)
                case Stopped(why):
                    level = level_of(self.services, permissions[row.account])
                    log.log(level, "charge %s is not sent: %s", row.key, why)
                case Behind(older):
                    log.info("charge %s waits: %s is older", row.key, older)
                case CardCapped():
                    log.info("charge %s waits: its card was declined as often as its cap allows", row.key)
                case _:
                    pass  # the written row says it

    def _write(self, decided: Sequence[_Decided]) -> dict[int, Answer]:
        given_back = [each.row.id for each in decided if isinstance(each.decision, GiveBack)]
        if given_back:
            charges.queue_again(self.db, given_back, right_time(self.services, self.db) + GIVEN_BACK)
        # In the order of their cards: batches that share cards wait for each other's calls in one order.
        calls = [each for each in decided if isinstance(each.decision, Begin | SendAgain)]
        calls.sort(key=lambda each: each.row.billing_key_id)
        answers: dict[int, Answer] = {}
        for are_new, run in groupby(calls, lambda each: isinstance(each.decision, Begin)):
            same = list(run)
            answers |= self._begin(same) if are_new else {each.row.id: self._one(each) for each in same}
        return answers | {each.row.id: self._one(each) for each in decided if each.row.id not in answers}

    def _begin(self, beginning: Sequence[_Decided]) -> dict[int, Answer]:
        """Write new attempts; a charge whose attempt is refused waits for its card's call, or for a person."""
        new = [(each.row, each.intent) for each in beginning if each.intent is not None]
        rows = [Beginning(intent, row.billing_key_id, row.tried_by) for row, intent in new]
        begun = claims.begin(self.db, rows, self.now + self.services.settings.lease_time)
        answers: dict[int, Answer] = {}
        for row, intent in new:
            if row.id in begun:
                answers[row.id] = claimed_of(row, replace(intent, id=begun[row.id]))
            else:
                self._wait_or_set_aside(row, intent)
                answers[row.id] = None
        return answers

    def _wait_or_set_aside(self, row: Locked, intent: Attempt) -> None:
        number, uid = intent.number, intent.merchant_uid
        if attempts.is_taken(self.db, row.id, number, uid):
            why = f"{NOT_WRITTEN}: number {number} or {uid} is taken, or another attempt is unresolved"
            set_aside(self.db, row.key, why, self.now)
        else:
            self._wait_for_call(row)

    def _wait_for_call(self, row: Locked) -> None:
        """Leave a charge due whose card has another call under way; it is queued when that call has ended."""
        log.info("charge %s waits: another call of its card is under way", row.key)
        charges.change(self.db, row.id, queued_until=None)

    def _one(self, each: _Decided) -> Answer:
        """Write the decision for one charge under a savepoint: when it fails, the others stay written."""
        match each.decision:
            case AskFirst():
                return Unasked(each.row.account)
            case GiveBack() | NotDue() | Stopped():
                return None
            case _:
                pass
        try:
            with self.db.begin_nested():
                return self._written(each)
        except card_calls.CardInUse:
            self._wait_for_call(each.row)
        except BROKEN as broken:
            set_aside(self.db, each.row.key, why_broken(broken), self.now)
        except DBAPIError as refused:
            if self.is_lone or refused.connection_invalidated:
                raise
            log.warning("charge %s is claimed alone: %s", each.row.key, summary(refused))
            return Skipped.FAILED
        return None

    def _written(self, each: _Decided) -> Claimed | None:
        row, earlier, db = each.row, each.earlier, self.db
        match each.decision, earlier:
            case SendAgain(), Earlier(attempt=Attempt() as unresolved):
                return self._send_again(row, unresolved)
            case AskAboutLast(), Earlier(last=DeclinedLast() as last):
                self._ask_about(row, last)
            case CardStopped(), Earlier(charge=Charge() as charge):
                self._stop_trying(charge)
            case SetAside(why), _:
                set_aside(db, row.key, why, self.now)
            case ((Behind(_, at) | CardCapped(at)), _):
                charges.change(db, row.id, next_attempt_at=at, queued_until=None)
            case LeaveToAttempt(), _:
                # That attempt's lease or next look-up decides; the charge would be queued again and again.
                charges.change(db, row.id, next_attempt_at=None, queued_until=None)
            case decision, _:
                raise AssertionError(f"{decision} of charge {row.key} without its facts")
        return None

    def _stop_trying(self, charge: Charge) -> None:
        """Make a charge wait for another card; it stays due while its own card is being changed."""
        stopped = customers.stopped_now(self.db, charge.billing_key_id)
        if stopped is None:
            charges.change(self.db, charge.id, queued_until=None)
        else:
            dunning.stop_trying(self.db, charge, stopped, self.now)

    def _send_again(self, row: Locked, unresolved: Attempt) -> Claimed | None:
        """Claim an attempt again, under its own merchant_uid; None when its fence has moved."""
        lease_until = self.now + self.services.settings.lease_time
        intent = attempts.claim(self.db, unresolved, row.billing_key_id, self.now, lease_until)
        if intent is None:
            return None
        made = max(row.attempts, intent.number)
        charges.change(self.db, row.id, next_attempt_at=None, queued_until=None, attempts=made)
        return claimed_of(row, intent)

    def _ask_about(self, row: Locked, last: DeclinedLast) -> None:
        """Have the newest attempt looked up: by today's rules the text of its failure is not definite."""
        log.warning("%s is asked about before anything is sent: %s", last.merchant_uid, last.reason)
        taken = attempts.take(self.db, last.id, AttemptState.DECLINED, self.now)
        if taken is not None:
            unclear = Unknown(f"declined in a text that is no definite answer: {last.reason}")
            values = in_doubt(unclear, None, self.now) | {"quiet_answers": 0}
            attempts.settle(self.db, taken, AttemptState.DECLINED, unclear, self.now, values)
            charges.change(self.db, row.id, next_attempt_at=None, queued_until=None)
