"""The functions of worker/store on the tables in memory, each with the guards of the real statement."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

from schedules.charging import claiming
from schedules.charging.buyers import NOBODY
from schedules.charging.charges import AttemptState, ChargeKind, ChargeStatus, SubscriptionStatus
from schedules.charging.claiming import Ahead
from schedules.charging.outcomes import Outcome
from schedules.dunning.decisions import History
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import DunningPolicy, FinalAction
from schedules.dunning.settling import PaidCharge
from schedules.money.amounts import Money
from schedules.outbox.events import Event
from schedules.subscriptions.cursor import Cursor, Opening
from schedules.subscriptions.plans import Plan
from tests.model.guards import Guards
from tests.model.linking import StandsFor
from tests.model.memory import OPEN_ATTEMPTS, OWED, Refusal, Row, Transaction
from tests.model.memory_findings import Findings, Reconciliations, customer_uids_of
from worker.store.charging import adhoc_charges as real_requested
from worker.store.charging import asked_before_sending as real_unasked
from worker.store.charging import attempts as real_attempts
from worker.store.charging import card_calls as real_card_calls
from worker.store.charging import charges as real_charges
from worker.store.charging import claims as real_claims
from worker.store.charging import debts as real_debts
from worker.store.charging import declines as real_declines
from worker.store.charging import kill_switch as real_switches
from worker.store.charging import next_actions as real_next_actions
from worker.store.charging import payments as real_payments
from worker.store.charging import queue as real_queue
from worker.store.charging import rates as real_rates
from worker.store.charging.asked_before_sending import InDoubt, Prior, Unanswered
from worker.store.charging.attempts import Attempt, Earlier
from worker.store.charging.charges import Charge, OwedCharge, Sight
from worker.store.charging.claims import Beginning, Locked
from worker.store.charging.columns import NOTHING_NEXT
from worker.store.charging.debts import Owes
from worker.store.charging.declines import DeclinedLast
from worker.store.charging.kill_switch import Hold, Permission, Stopped
from worker.store.charging.payments import Payable, PlainPayment
from worker.store.customers import customers as real_customers
from worker.store.customers import plans as real_plans
from worker.store.customers import policies as real_policies
from worker.store.customers import rival_subscriptions as real_rivals
from worker.store.customers import subscriptions as real_subscriptions
from worker.store.customers.customers import StoredKey
from worker.store.customers.plans import StoredPlan
from worker.store.customers.policies import StoredPolicy
from worker.store.customers.subscriptions import DueSubscription, Subscription
from worker.store.operations.revisions import newest_revision
from worker.store.outbox import event_log as real_notes

SENDING, UNKNOWN, PAID, READY, REFUSED, DECLINED = (
    state.value
    for state in (
        AttemptState.SENDING,
        AttemptState.UNKNOWN,
        AttemptState.PAID,
        AttemptState.READY,
        AttemptState.REFUSED,
        AttemptState.DECLINED,
    )
)
SENDABLE = {state.value for state in claiming.SENDABLE}
UNDER_WAY = (SENDING, UNKNOWN)
FAR = timedelta(days=36500)
DATABASE = "the model's"
REVISION = newest_revision().newest
RIGHT = datetime(2026, 2, 1, tzinfo=UTC)  # whatever a clock that stands compares itself with


class Attempts(StandsFor):
    """worker.store.charging.attempts."""

    real = real_attempts

    from_gateway = staticmethod(real_attempts.from_gateway)
    asked_about = staticmethod(real_attempts.asked_about)

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def earlier_of(self, db: Transaction, charge_ids: Sequence[int]) -> Earlier:
        made = [row for charge_id in charge_ids for row in db.tables.attempts_of[charge_id]]
        unresolved = [row for row in made if row["state"] in OPEN_ATTEMPTS and self._guards.unresolved_first]
        return Earlier(
            frozenset(charge_id for charge_id in charge_ids if self.has_paid(db, charge_id)),
            {row["charge_id"]: (_read(row), self._state(row)) for row in unresolved},
        )

    def _state(self, row: Row) -> AttemptState:
        return AttemptState(row["state"]) if self._guards.claim_states else AttemptState.NOT_SENT

    def unresolved(self, db: Transaction, charge_id: int) -> tuple[Attempt, AttemptState] | None:
        return self.earlier_of(db, [charge_id]).unresolved.get(charge_id)

    def has_paid(self, db: Transaction, charge_id: int) -> bool:
        paid = any(row["state"] == PAID for row in db.tables.attempts_of[charge_id])
        return paid and self._guards.has_paid

    def begin(self, db: Transaction, row: Row, words: str = "claimed") -> Attempt | None:
        tables = db.tables
        siblings = tables.attempts_of[row["charge_id"]]
        if self._guards.one_uid and row["merchant_uid"] in tables.uids:
            return None
        if self._guards.one_uid and any(other["number"] == row["number"] for other in siblings):
            return None
        if _is_in_use(db, row.get("billing_key_id"), row["charge_id"]):
            return None
        is_open = row["state"] in OPEN_ATTEMPTS
        if self._guards.one_unresolved and is_open and any(other["state"] in OPEN_ATTEMPTS for other in siblings):
            return None
        written = _NEW_ATTEMPT | row | {"id": db.next_id()}
        tables.attempts[written["id"]] = tables.unresolved[written["id"]] = written
        tables.uids[written["merchant_uid"]] = written["id"]
        siblings.append(written)
        _touch(db, written)
        db.note_time(row["created_at"])

        def take_back() -> None:
            del tables.attempts[written["id"]]
            del tables.uids[written["merchant_uid"]]
            siblings.remove(written)

        db.undo_by(take_back)
        return _read(written)

    def is_taken(self, db: Transaction, charge_id: int, number: int, uid: str) -> bool:
        own = db.tables.attempts_of[charge_id]
        is_own = any(row["number"] == number or row["state"] in OPEN_ATTEMPTS for row in own)
        return is_own or uid in db.tables.uids

    def claim(
        self, db: Transaction, attempt: Attempt, billing_key_id: int, now: datetime, lease_until: datetime
    ) -> Attempt | None:
        row = db.tables.attempts[attempt.id]
        sendable = row["state"] in SENDABLE or not self._guards.claim_states
        if not sendable or (self._guards.fence and row["fence"] != attempt.fence):
            return None
        values = {
            "state": SENDING, "fence": row["fence"] + 1, "lease_until": lease_until, "sends": row["sends"] + 1,
            "last_sent_at": now, "unknown_since": None, "next_ask_at": None, "quiet_answers": 0,
            "settled_at": None, "decline_class": None, "decline_rule": None, "billing_key_id": billing_key_id,
        }  # fmt: skip
        if _is_in_use(db, billing_key_id, row["charge_id"]):
            raise real_card_calls.CardInUse
        self._write(db, row, values)
        db.note_time(now)
        return _read(row)

    def release(self, db: Transaction, attempt: Attempt, now: datetime, why: str) -> bool:
        values = {"state": READY, "lease_until": None, "reason": why}
        return self._owned(db, attempt, AttemptState.SENDING, now, values)

    def take_back(self, db: Transaction, attempt: Attempt, now: datetime, why: str) -> bool:
        row = db.tables.attempts[attempt.id]
        if row["state"] != UNKNOWN or row["fence"] <= attempt.fence or row["last_sent_at"] != attempt.last_sent_at:
            return False
        values = {
            "state": READY, "fence": row["fence"] + 1, "lease_until": None, "unknown_since": None,
            "next_ask_at": None, "quiet_answers": 0, "reason": why,
        }  # fmt: skip
        self._write(db, row, values)
        db.note_time(now)
        return True

    def settle(
        self,
        db: Transaction,
        attempt: Attempt,
        before: AttemptState,
        outcome: Outcome,
        now: datetime,
        values: Row,
    ) -> bool:
        return self._owned(db, attempt, before, now, values | {"lease_until": None})

    def take_lapsed(self, db: Transaction, now: datetime, next_ask_at: datetime, limit: int) -> Sequence[str]:
        lapsed = [
            row for row in db.tables.unresolved.values() if row["state"] == SENDING and row["lease_until"] < now
        ]
        lapsed.sort(key=lambda row: row["lease_until"])
        for row in lapsed[:limit]:
            values = {
                "state": UNKNOWN, "fence": row["fence"] + 1, "lease_until": None, "unknown_since": now,
                "next_ask_at": next_ask_at, "reason": "the worker's lease ran out",
            }  # fmt: skip
            self._write(db, row, values)
            db.note_time(now)
        return [row["merchant_uid"] for row in lapsed[:limit]]

    def to_ask(self, db: Transaction, now: datetime, limit: int) -> dict[int, str]:
        due = [r for r in db.tables.unresolved.values() if r["state"] == UNKNOWN and r["next_ask_at"] <= now]
        due.sort(key=lambda row: row["next_ask_at"])
        accounts = {row["id"]: db.tables.charges[row["charge_id"]]["account"] for row in due}
        places = {account: count() for account in accounts.values()}
        return {attempt: account for attempt, account in accounts.items() if next(places[account]) < limit}

    def unknown_since(self, db: Transaction, attempt_id: int) -> datetime | None:
        row = db.tables.attempts.get(attempt_id)
        return row["unknown_since"] if row is not None and row["state"] == UNKNOWN else None

    def claim_ask(
        self, db: Transaction, attempt_id: int, now: datetime, next_ask_at: datetime
    ) -> tuple[Attempt, str, str | None] | None:
        row = db.tables.attempts[attempt_id]
        if row["state"] != UNKNOWN or (self._guards.ask_turn and row["next_ask_at"] > now):
            return None
        fence = row["fence"] + (1 if self._guards.ask_turn else 0)
        self._write(db, row, {"fence": fence, "asks": row["asks"] + 1, "next_ask_at": next_ask_at})
        return _read(row), db.tables.charges[row["charge_id"]]["account"], "kcp"

    def customer_uids_of(self, db: Transaction, charge_id: int) -> frozenset[str]:
        return customer_uids_of(db.tables, db.tables.charges[charge_id])

    def state_of(self, db: Transaction, merchant_uid: str) -> tuple[int, AttemptState] | None:
        attempt_id = db.tables.uids.get(merchant_uid)
        if attempt_id is None:
            return None
        return attempt_id, AttemptState(db.tables.attempts[attempt_id]["state"])

    def take(self, db: Transaction, attempt_id: int, state: AttemptState, now: datetime) -> Attempt | None:
        row = db.tables.attempts[attempt_id]
        leased = row["lease_until"] is not None and row["lease_until"] >= now
        if row["state"] != state.value or leased or state is AttemptState.PAID:
            return None
        self._write(db, row, {"fence": row["fence"] + 1})
        return _read(row)

    def is_under_way(self, db: Transaction, charge_id: int) -> bool:
        return any(row["state"] in UNDER_WAY for row in db.tables.attempts_of[charge_id])

    def _owned(self, db: Transaction, attempt: Attempt, before: AttemptState, now: datetime, values: Row) -> bool:
        row = db.tables.attempts[attempt.id]
        if self._guards.fence and row["fence"] != attempt.fence:
            return False
        if self._guards.settled_once and row["state"] != before.value:
            return False
        self._write(db, row, values)
        db.note_time(now)
        return True

    def _write(self, db: Transaction, row: Row, values: Row) -> None:
        siblings = db.tables.attempts_of[row["charge_id"]]
        becomes = values.get("state", row["state"])
        others = [other["state"] for other in siblings if other is not row]
        if self._guards.one_paid and becomes == PAID and PAID in others:
            raise Refusal("one_paid_attempt_for_each_charge")
        if self._guards.one_unresolved and becomes in OPEN_ATTEMPTS and OPEN_ATTEMPTS.intersection(others):
            raise Refusal("one_unresolved_attempt_for_each_charge")
        db.write(row, values)
        if (row["state"] == SENDING) != (row["lease_until"] is not None):
            raise Refusal("sending_has_a_lease")
        if row["state"] == UNKNOWN and row["next_ask_at"] is None:
            raise Refusal("unknown_is_asked_about")
        _touch(db, row)


class Payments(StandsFor):
    """worker.store.charging.payments."""

    real = real_payments

    def __init__(self, attempts: Attempts, charges: "Charges", log: "EventLog") -> None:
        self._attempts, self._charges, self._log = attempts, charges, log

    def lock(self, db: Transaction, charge_ids: Sequence[int]) -> dict[int, Payable]:
        return {
            charge_id: self._payable(db, charge_id) for charge_id in charge_ids if charge_id in db.tables.charges
        }

    def _payable(self, db: Transaction, charge_id: int) -> Payable:
        row = db.tables.charges[charge_id]
        others = [other for other in db.tables.owed.values() if other is not row and other["status"] in OWED]
        siblings = [other for other in others if other["subscription_id"] == row["subscription_id"]]
        subscription, key = (
            db.tables.subscriptions[row["subscription_id"]], db.tables.keys[row["billing_key_id"]],
        )  # fmt: skip
        facts = PaidCharge(
            kind=ChargeKind(row["kind"]),
            status=ChargeStatus(row["status"]),
            is_of_canceled=subscription["status"] == SubscriptionStatus.CANCELED.value,
            has_subscription=True,
            keyed_in=None,
            card_stopped=key["stopped_as"] is not None,
            was_declined=row["first_declined_at"] is not None,
            given_up=FinalAction(row["given_up"]) if row["given_up"] else None,
            owes_more=any(other["billing_key_id"] == row["billing_key_id"] for other in others),
            others_declined=any(other["first_declined_at"] for other in siblings),
            others_rest=any(other["given_up"] == FinalAction.PAUSE.value for other in siblings),
        )
        return Payable(
            charge_id, row["key"], key["customer_uid"], subscription["key"], None,
            Money(row["amount"], row["currency"]), self._attempts.has_paid(db, charge_id), facts,
        )  # fmt: skip

    def settle(self, db: Transaction, payments: Sequence[PlainPayment], now: datetime) -> set[int]:
        done = set()
        for each in payments:
            if self._attempts.settle(db, each.attempt, each.before, each.paid, now, dict(each.columns)):
                done.add(each.attempt.id)
                paid = {"status": PAID, "closed_at": now, "closed_why": None}
                self._charges.change(db, each.attempt.charge_id, **paid, **NOTHING_NEXT)
                self._log.enqueue_event(db, each.event, each.dedupe, now)
        return done


class CardCalls(StandsFor):
    """worker.store.charging.card_calls."""

    real = real_card_calls


class Queue(StandsFor):
    """worker.store.charging.queue."""

    real = real_queue

    def queue_due(
        self, db: Transaction, account: str, now: datetime, patience: timedelta, limit: int
    ) -> list[tuple[int, str]]:
        mine = [row for row in db.tables.owed.values() if row["account"] == account]
        waits = [row["id"] for row in mine if row["queued_until"] is not None and row["queued_until"] > now]
        cards = {row["billing_key_id"] for row in mine if row["id"] in waits}
        due = [row for row in _due(db, now) if row["account"] == account and row["id"] not in waits]
        due.sort(key=lambda row: (row["attempts"] == 0, row["next_attempt_at"], row["id"]))
        queued: list[tuple[int, str]] = []
        for row in due:
            is_free = row["billing_key_id"] not in cards and not _is_in_use(db, row["billing_key_id"], row["id"])
            if is_free and len(queued) < limit:
                cards.add(row["billing_key_id"])
                db.write(row, {"queued_until": now + patience})
                queued.append((row["id"], row["kind"]))
        return queued


class Declines(StandsFor):
    """worker.store.charging.declines."""

    real = real_declines

    def last_of(self, db: Transaction, charge_ids: Sequence[int]) -> dict[int, DeclinedLast]:
        made = [db.tables.attempts_of[charge_id] for charge_id in charge_ids if db.tables.attempts_of[charge_id]]
        newest = [max(rows, key=lambda each: each["number"]) for rows in made]
        return {
            row["charge_id"]: DeclinedLast(row["id"], row["merchant_uid"], row["reason"], row["pg_provider"])
            for row in newest
            if row["state"] == DECLINED
        }

    def declined_times_of(
        self, db: Transaction, wanted: Sequence[tuple[int, datetime, int]]
    ) -> Mapping[int, list[datetime]]:
        return {card: [] for card, _, _ in wanted}  # the model's cards have no cap


class Charges(StandsFor):
    """worker.store.charging.charges."""

    real = real_charges

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def open_many(self, db: Transaction, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [row["key"] for row in rows if self._open(db, row)]

    def _open(self, db: Transaction, row: Mapping[str, Any]) -> bool:
        tables = db.tables
        period = (row["subscription_id"], row["period_no"])
        if self._guards.one_period and (row["key"] in tables.charge_keys or period in tables.periods):
            return False
        written = _NEW_CHARGE | dict(row) | {"id": db.next_id()}
        charge_id = written["id"]
        tables.charges[charge_id] = written
        tables.charge_keys[written["key"]] = charge_id
        tables.periods.add(period)
        db.charges.add(charge_id)

        def take_back() -> None:
            del tables.charges[charge_id]
            tables.charge_keys.pop(written["key"], None)
            tables.periods.discard(period)

        db.undo_by(take_back)
        return True

    def locked(self, db: Transaction, charge_id: int) -> Charge | None:
        row = db.tables.charges.get(charge_id)
        if row is None:
            return None
        return Charge(
            id=row["id"],
            key=row["key"],
            kind=ChargeKind(row["kind"]),
            subscription_id=row["subscription_id"],
            subscription=db.tables.subscriptions[row["subscription_id"]]["key"],
            account=row["account"],
            billing_key_id=row["billing_key_id"],
            customer_uid=db.tables.keys[row["billing_key_id"]]["customer_uid"],
            pg_provider=db.tables.keys[row["billing_key_id"]].get("pg_provider"),
            card_stopped=db.tables.keys[row["billing_key_id"]].get("stopped_as"),
            card_changed_at=None,
            ends_at=db.tables.subscriptions[row["subscription_id"]]["ends_at"],
            zone="Asia/Seoul",
            money=Money(row["amount"], row["currency"]),
            name=row["name"],
            policy=db.tables.policies[row["policy_id"]],
            status=ChargeStatus(row["status"]),
            next_attempt_at=row["next_attempt_at"],
            held_why=row["held_why"],
            attempts=row["attempts"],
            history=History(
                row["first_declined_at"], row["declines"], row["technical_tries"], row["refusals"],
                row["manual_tries"], row["ladder_began_at"], row["unanswered_tries"],
            ),
            due_at=row["due_at"],
            waits=row["waits"] is not None,
            tried_by=row["tried_by"],
            planned_at=row["planned_at"],
            request_key=None,
            keyed_in=None,
            look_at=row["look_at"],
            given_up=row["given_up"],
            is_of_canceled=db.tables.subscriptions[row["subscription_id"]]["status"] == "canceled",
        )  # fmt: skip

    def of_ids(self, db: Transaction, ids: Sequence[int]) -> dict[int, Charge]:
        found = {charge_id: self.locked(db, charge_id) for charge_id in ids}
        return {charge_id: charge for charge_id, charge in found.items() if charge is not None}

    def change(self, db: Transaction, charge_id: int, **values: object) -> None:
        row = db.tables.charges[charge_id]
        if not self._guards.no_attempt_in_doubt and values.get("next_attempt_at", row) is None:
            values = {name: value for name, value in values.items() if name != "next_attempt_at" or _ends(values)}
        db.write(row, dict(values))
        db.charges.add(charge_id)
        owed = row["status"] in OWED
        if not owed and row["next_attempt_at"] is not None:
            raise Refusal("closed_has_no_next_attempt")
        if owed != (row["closed_at"] is None):
            raise Refusal("closed_says_when")
        if row["waits"] is not None and row["next_attempt_at"] is not None:
            raise Refusal("waiting_has_no_next_attempt")
        if row["waits"] is not None and row["look_at"] is row["given_up"] is row["held_why"] is None:
            raise Refusal("waiting_is_looked_at")
        if not owed and (row["waits"] is not None or row["look_at"] is not None):
            raise Refusal("closed_waits_for_nothing")

    def id_of(self, db: Transaction, key: str) -> int | None:
        return db.tables.charge_keys.get(key)

    def key_of(self, db: Transaction, charge_id: int) -> str | None:
        row = db.tables.charges.get(charge_id)
        return row["key"] if row is not None else None

    def locked_by_key(self, db: Transaction, key: str | None) -> Charge | None:
        charge_id = db.tables.charge_keys.get(key) if key else None
        return self.locked(db, charge_id) if charge_id is not None else None

    def hold(self, db: Transaction, key: str, why: str, instead_of: str | None = None) -> bool:
        charge_id = db.tables.charge_keys.get(key)
        row = db.tables.charges.get(charge_id) if charge_id is not None else None
        if row is None or row["status"] not in OWED or row["held_why"] != instead_of:
            return False
        db.write(row, {"held_why": why, "queued_until": None})
        db.charges.add(row["id"])
        return True

    def held_why(self, db: Transaction, key: str) -> str | None:
        charge_id = db.tables.charge_keys.get(key)
        row = db.tables.charges.get(charge_id) if charge_id is not None else None
        return row["held_why"] if row is not None else None

    def owed_after(self, db: Transaction, charge_id: int, limit: int) -> list[int]:
        owed = (row["id"] for row in db.tables.owed.values() if row["status"] in OWED and row["id"] > charge_id)
        return sorted(owed)[:limit]

    def accounts_with_work(self, db: Transaction, accounts: Collection[str], now: datetime) -> list[str]:
        return sorted({row["account"] for row in _due(db, now)})

    def queues_alone(self, db: Transaction, account: str) -> bool:
        return True  # one transaction is over before the next one begins

    def queued_count(self, db: Transaction, account: str, now: datetime) -> int:
        return sum(
            row["queued_until"] is not None and row["queued_until"] > now
            for row in db.tables.owed.values()
            if row["account"] == account
        )

    def queue_again(self, db: Transaction, ids: Sequence[int], at: datetime) -> None:
        for row in (db.tables.charges[charge_id] for charge_id in ids):
            if row["next_attempt_at"] is not None and row["queued_until"] is not None:
                db.write(row, {"queued_until": at})

    def unqueue(self, db: Transaction, ids: Sequence[int]) -> None:
        for charge_id in ids:
            db.write(db.tables.charges[charge_id], {"queued_until": None})

    def pre_send_checks(self, db: Transaction, attempt_ids: Sequence[int]) -> dict[int, Sight]:
        return {attempt_id: self._pre_send_check(db, attempt_id) for attempt_id in attempt_ids}

    def _pre_send_check(self, db: Transaction, attempt_id: int) -> Sight:
        tables = db.tables
        row = tables.attempts[attempt_id]
        charge = tables.charges[row["charge_id"]]
        lease_until = row["lease_until"] if self._guards.lease else row["last_sent_at"] + FAR
        sight = Sight(
            status=charge["status"],
            held_why=charge["held_why"],
            amount=charge["amount"],
            currency=charge["currency"],
            due_at=charge["due_at"],
            subscription=tables.subscriptions[charge["subscription_id"]]["status"],
            key_deleted_at=tables.keys[charge["billing_key_id"]]["deleted_at"],
            keyed_in=None,
            fence=row["fence"],
            state=row["state"],
            lease_until=lease_until,
            permission=_permission(db, charge["account"]),
        )
        return sight if self._guards.pre_send_check else _Blind(sight)  # type: ignore[return-value] # it sees nothing

    def lock_owed_of(self, db: Transaction, subscription_id: int) -> list[OwedCharge]:
        owed = [
            row
            for row in db.tables.owed.values()
            if row["subscription_id"] == subscription_id and row["status"] in OWED
        ]
        owed.sort(key=lambda row: row["period_no"])
        return [OwedCharge(row["id"], row["key"], row["amount"], row["currency"]) for row in owed]


class Claims(StandsFor):
    """worker.store.charging.claims."""

    real = real_claims

    def __init__(self, attempts: Attempts, charges: Charges, unasked: "Unasked") -> None:
        self._attempts, self._charges, self._unasked = attempts, charges, unasked

    def wait_for(self, db: Transaction, charge_id: int) -> None:
        pass  # one transaction is over before the next one begins

    def lock(self, db: Transaction, ids: Sequence[int]) -> list[Locked]:
        return [
            self._locked(db, db.tables.charges[charge_id]) for charge_id in ids if charge_id in db.tables.charges
        ]

    def _locked(self, db: Transaction, row: Row) -> Locked:
        key = db.tables.keys[row["billing_key_id"]]
        of_card = [other for other in db.tables.owed.values() if other["billing_key_id"] == row["billing_key_id"]]
        own = {name: row[name] for name in _OF_CHARGE}
        return Locked(
            **own,
            customer_uid=key["customer_uid"],
            pg_provider=key.get("pg_provider"),
            stopped_as=key["stopped_as"],
            is_unasked=self._unasked.is_unasked(db, row),
            has_others=sum(other["status"] in OWED for other in of_card) > 1,
            was_tried=bool(db.tables.attempts_of[row["id"]]),
            buyer=NOBODY,
        )

    def begin(self, db: Transaction, beginnings: Sequence[Beginning], lease_until: datetime) -> dict[int, int]:
        begun: dict[int, int] = {}
        for each in beginnings:
            intent = each.intent
            row = {
                "charge_id": intent.charge_id, "number": intent.number, "merchant_uid": intent.merchant_uid,
                "state": SENDING, "amount": intent.money.amount, "currency": intent.money.currency, "fence": 1,
                "lease_until": lease_until, "sends": 1, "last_sent_at": intent.last_sent_at,
                "created_at": intent.last_sent_at, "tried_by": each.tried_by,
                "billing_key_id": each.billing_key_id,
            }  # fmt: skip
            if (written := self._attempts.begin(db, row)) is not None:
                begun[intent.charge_id] = written.id
                made = db.tables.charges[intent.charge_id]["attempts"] + 1
                self._charges.change(db, intent.charge_id, next_attempt_at=None, queued_until=None, attempts=made)
        return begun


class NextActions(StandsFor):
    """worker.store.charging.next_actions."""

    real = real_next_actions

    def stranded(self, db: Transaction, limit: int) -> list[tuple[int, str]]:
        rows = [
            row
            for row in db.tables.owed.values()
            if row["status"] in OWED
            and row["next_attempt_at"] is None
            and row["held_why"] is None
            and row["waits"] is None
        ]
        found = [
            (row["id"], row["key"])
            for row in rows
            if not any(attempt["state"] in UNDER_WAY for attempt in db.tables.attempts_of[row["id"]])
        ]
        return found[:limit]

    def untold(self, db: Transaction, limit: int) -> list[tuple[str, str]]:
        return []  # what notices say is not kept here


class Subscriptions(StandsFor):
    """worker.store.customers.subscriptions."""

    real = real_subscriptions

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def add(self, db: Transaction, row: Row) -> bool:
        empty: Row = {"ends_at": None, "held_why": None, "tell_at": None}
        empty |= {"anchor_no": 0, "billing_time": None, "skip_to": None, "anchor_day": None}
        db.insert(db.tables.subscriptions, empty | row)
        return True

    def take_due(self, db: Transaction, plan_id: int | None, now: datetime, limit: int) -> list[DueSubscription]:
        active = SubscriptionStatus.ACTIVE.value
        due = [
            row
            for row in db.tables.subscriptions.values()
            if row["open_at"] is not None and row["open_at"] <= now and row["status"] == active
        ]
        due.sort(key=lambda row: row["open_at"])
        return [
            DueSubscription(
                row["id"], row["key"], row["billing_key_id"], db.tables.keys[row["billing_key_id"]]["account"],
                row["plan_id"], row["anchor"],
                Cursor(row["next_period_no"], row["next_period_date"], row["next_due_at"]), row["ends_at"],
                row["anchor_no"], row["billing_time"], row["skip_to"],
            )
            for row in due[:limit]
        ]  # fmt: skip

    def move_cursors(
        self, db: Transaction, openings: Sequence[tuple[DueSubscription, Opening, timedelta | None]]
    ) -> None:
        for due, opening, _ in openings:
            ended = due.ends_at is not None and opening.cursor.due_at >= due.ends_at
            values: Row = {"open_at": None if ended else opening.open_at}
            if self._guards.cursor:
                values |= {
                    "next_period_no": opening.cursor.period_no,
                    "next_period_date": opening.cursor.period_date,
                    "next_due_at": opening.cursor.due_at,
                }
            db.write(db.tables.subscriptions[due.id], values)

    def change(self, db: Transaction, subscription_id: int, **values: object) -> None:
        db.write(db.tables.subscriptions[subscription_id], dict(values))

    cursor_columns = staticmethod(real_subscriptions.cursor_columns)

    def by_key(self, db: Transaction, key: str, *, lock: bool = False) -> Subscription | None:
        row = next((row for row in db.tables.subscriptions.values() if row["key"] == key), None)
        if row is None:
            return None
        card, plan = db.tables.keys[row["billing_key_id"]], db.tables.plans[row["plan_id"]].plan
        found = row | {
            "status": SubscriptionStatus(row["status"]), "customer_uid": card["customer_uid"],
            "account": card["account"], "code": plan.code, "version": plan.version, "price": plan.price.amount,
            "currency": plan.price.currency,
        }  # fmt: skip
        return Subscription(**{field.name: found[field.name] for field in fields(Subscription)})

    def any_due(self, db: Transaction, now: datetime) -> bool:
        return bool(self.take_due(db, None, now, 1))

    def names(self, db: Transaction, subscription_id: int) -> tuple[str, str]:
        row = db.tables.subscriptions[subscription_id]
        return row["key"], db.tables.keys[row["billing_key_id"]]["customer_uid"]

    def plans_of(self, db: Transaction, plan_ids: set[int]) -> tuple[dict[int, StoredPlan], dict[int, Exception]]:
        return {plan_id: db.tables.plans[plan_id] for plan_id in plan_ids}, {}

    def lock_of_charge(self, db: Transaction, charge_id: int) -> None:
        pass  # one transaction at a time needs no lock


class Switches(StandsFor):
    """worker.store.charging.kill_switch."""

    real = real_switches

    def permission(self, db: Transaction, account: str) -> Permission:
        return _permission(db, account)

    def database_clock(self, db: Transaction) -> datetime:
        return RIGHT

    def stopped_by(self, db: Transaction, account: str) -> str | None:
        return db.tables.stops[account][0] if account in db.tables.stops else None

    def hold(self, db: Transaction) -> Hold | None:
        return db.tables.hold

    def begin_hold(self, db: Transaction, now: datetime, hold_from: datetime) -> None:
        before = db.tables.hold
        earliest = hold_from if before is None else min(before.hold_from, hold_from)
        db.tables.hold = Hold(now, earliest, 0)

    def move_hold(self, db: Transaction, cursor: int) -> None:
        hold = db.tables.hold
        if hold is not None:
            db.tables.hold = Hold(hold.since, hold.hold_from, cursor)

    def end_hold(self, db: Transaction, now: datetime) -> None:
        hold = db.tables.hold
        db.tables.restored = (now, hold.cursor) if hold is not None else db.tables.restored
        db.tables.hold = None

    def count_refusals_from(self, db: Transaction, account: str, now: datetime) -> None:
        db.tables.counted_from[account] = now

    def channel_of(self, db: Transaction, billing_key_id: int) -> None:
        """Every card of the model is on one channel, which the gateway has not told."""

    def refused_customers(
        self, db: Transaction, account: str, since: datetime, most: int, channel: None = None
    ) -> list[datetime]:
        least = max(since, db.tables.counted_from.get(account, since))
        newest: dict[int, datetime] = {}
        for row, customer in _settled(db, account, REFUSED):
            if row["settled_at"] > least:
                newest[customer] = max(newest.get(customer, row["last_sent_at"]), row["last_sent_at"])
        return sorted(newest.values(), reverse=True)[:most]

    def was_paid_since(self, db: Transaction, account: str, since: datetime, channel: None = None) -> bool:
        return any(row["last_sent_at"] >= since for row, _ in _settled(db, account, AttemptState.PAID.value))

    def declined_customers(
        self, db: Transaction, account: str, since: datetime, most: int, channel: None = None
    ) -> int:
        declined = {
            customer
            for row, customer in _settled(db, account, AttemptState.DECLINED.value)
            if row["last_sent_at"] >= since and row.get("decline_class")
        }
        return min(len(declined), most)

    def stop(self, db: Transaction, account: str, actor: str, why: str, now: datetime) -> None:
        db.tables.stops[account] = (actor, why)

    def resume(self, db: Transaction, account: str) -> bool:
        return db.tables.stops.pop(account, None) is not None

    def stopped(self, db: Transaction) -> list[Stopped]:
        return [Stopped(account, RIGHT, actor, why) for account, (actor, why) in sorted(db.tables.stops.items())]

    def database_identity(self, db: Transaction) -> str:
        return DATABASE

    def bound(self, db: Transaction) -> str | None:
        return db.tables.fingerprint

    def bind(self, db: Transaction, fingerprint: str, environment: str, actor: str, now: datetime) -> None:
        db.tables.fingerprint = fingerprint


class Requested(StandsFor):
    """worker.store.charging.adhoc_charges."""

    real = real_requested

    def unqueue_account(self, db: Transaction, account: str, now: datetime) -> None:
        for row in list(db.tables.owed.values()):
            waits = row["queued_until"] is not None and row["queued_until"] > now
            if row["account"] == account and waits and row["next_attempt_at"] is not None:
                db.write(row, {"queued_until": None})


class Unasked(StandsFor):
    """worker.store.charging.asked_before_sending."""

    real = real_unasked

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def is_unasked(self, db: Transaction, charge: Row) -> bool:
        """UNASKED, of one charge."""
        restored = db.tables.restored
        came_later = restored is not None and charge["id"] > restored[1] and charge["due_at"] <= restored[0]
        return charge["asked_at"] is None and (came_later or bool(_under_key(db, charge)))

    def before_sending(self, db: Transaction, charge_ids: Sequence[int], now: datetime) -> dict[int, Prior]:
        return {charge_id: self._before_sending(db, charge_id, now) for charge_id in charge_ids}

    def _before_sending(self, db: Transaction, charge_id: int, now: datetime) -> Prior:
        charge = db.tables.charges[charge_id]
        under_key, is_unasked = _under_key(db, charge), self.is_unasked(db, charge)
        asked_at, asked_since = charge["asked_at"], now - real_unasked.ANSWER_LASTS
        is_unasked |= any(
            asked_at is None or asked_at < row["settled_at"] or asked_at < asked_since
            for row in self._in_doubt(db, charge_id)
        )
        return Prior(is_unasked, min((row["id"] for row in under_key if row["ended_at"] is None), default=None))

    def in_doubt(self, db: Transaction, charge_id: int) -> list[InDoubt]:
        return [InDoubt(row["merchant_uid"], row["imp_uid"]) for row in self._in_doubt(db, charge_id)]

    def note_unanswered(self, db: Transaction, charge_id: int, now: datetime) -> Unanswered | None:
        row = min(self._in_doubt(db, charge_id), key=lambda each: each["number"], default=None)
        if row is None:
            return None
        asked_at, since = db.tables.charges[charge_id]["asked_at"], row["unanswered_since"]
        answered_at = row["settled_at"] if asked_at is None else max(asked_at, row["settled_at"])
        if since is None or since <= answered_at:
            since = now
            db.write(row, {"unanswered_since": since})
            db.note_time(now)
        return Unanswered(row["merchant_uid"], since)

    def _in_doubt(self, db: Transaction, charge_id: int) -> list[Row]:
        return [
            row
            for row in db.tables.attempts_of[charge_id]
            if self._guards.asks_in_doubt
            and row["state"] in (DECLINED, REFUSED)
            and (row["sends"] > 1 or (row["unknown_since"] is not None and row["imp_uid"] is None))
        ]


class EventLog(StandsFor):
    """worker.store.outbox.event_log, of which only the notices' dedupe keys are kept."""

    real = real_notes

    def enqueue_event(self, db: Transaction, event: Event, dedupe: str, now: datetime) -> None:
        notices = db.tables.notices
        if dedupe not in notices:
            notices[dedupe] = event.kind
            db.undo_by(lambda: notices.pop(dedupe))

    def newest(self, db: Transaction) -> datetime | None:
        return db.tables.newest_at

    def record(
        self,
        db: Transaction,
        actor: str,
        verb: str,
        subject: str,
        why: str | None,
        now: datetime,
        **details: object,
    ) -> None:
        db.note_time(now)


class Customers(StandsFor):
    """worker.store.customers.customers."""

    real = real_customers

    def add(self, db: Transaction, reference: str, *facts: object) -> int:
        return db.next_id()

    def add_key(
        self,
        db: Transaction,
        customer_id: int,
        customer_uid: str,
        account: str,
        card: Mapping[str, str | None],
        now: datetime,
    ) -> int:
        row: Row = {"customer_id": customer_id, "customer_uid": customer_uid, "account": account}
        return int(db.insert(db.tables.keys, row | {"deleted_at": None, "stopped_as": None, "ask_at": None})["id"])

    def stopped_as(self, db: Transaction, key_ids: Sequence[int]) -> dict[int, DeclineClass]:
        found = {key_id: db.tables.keys[key_id]["stopped_as"] for key_id in key_ids}
        return {key_id: stopped for key_id, stopped in found.items() if stopped is not None}

    def change_key(self, db: Transaction, key_id: int, **values: object) -> None:
        db.write(db.tables.keys[key_id], dict(values))

    def key_by_uid(self, db: Transaction, customer_uid: str, *, lock: bool = False) -> StoredKey | None:
        for row in db.tables.keys.values():
            if row["customer_uid"] == customer_uid:
                return StoredKey(row["id"], row["customer_id"], customer_uid, row["account"], row["deleted_at"])
        return None


class Plans(StandsFor):
    """worker.store.customers.plans."""

    real = real_plans

    def newest(self, db: Transaction, code: str) -> StoredPlan | None:
        return next((plan for plan in db.tables.plans.values() if plan.plan.code == code), None)

    def add(self, db: Transaction, plan: Plan, policy: str, now: datetime) -> int:
        plan_id = db.next_id()
        policy_id, kept = next(found for found in db.tables.policies.items() if found[1].code == policy)
        db.tables.plans[plan_id] = StoredPlan(plan_id, plan, kept, policy_id, now, None)
        return plan_id

    def by_id(self, db: Transaction, plan_id: int) -> StoredPlan:
        return db.tables.plans[plan_id]


class Policies(StandsFor):
    """worker.store.customers.policies."""

    real = real_policies

    def put(self, db: Transaction, policy: DunningPolicy, now: datetime) -> StoredPolicy:
        policy_id = db.next_id()
        db.tables.policies[policy_id] = policy
        return StoredPolicy(policy_id, policy, now)


class Debts(StandsFor):
    """worker.store.charging.debts."""

    real = real_debts

    def ahead_of(self, db: Transaction, charge_ids: Sequence[int], now: datetime) -> dict[int, Ahead]:
        ahead = {charge_id: self._ahead_of(db, db.tables.charges[charge_id]) for charge_id in charge_ids}
        return {charge_id: first for charge_id, first in ahead.items() if first is not None}

    def _ahead_of(self, db: Transaction, charge: Row) -> Ahead | None:
        older = [
            row
            for row in db.tables.owed.values()
            if row["billing_key_id"] == charge["billing_key_id"]
            and row["status"] in OWED
            and row["held_why"] is None
            and (row["due_at"], row["id"]) < (charge["due_at"], charge["id"])
        ]
        if not older:
            return None
        first = min(older, key=lambda row: (row["due_at"], row["id"]))
        return Ahead(first["key"], first["next_attempt_at"], first["waits"] is not None)

    def wake_behind(self, db: Transaction, charge_id: int, now: datetime) -> None:
        key_id = db.tables.charges[charge_id]["billing_key_id"]
        for row in db.tables.owed.values():
            waits = row["next_attempt_at"] is not None and row["next_attempt_at"] > now
            mine = row["billing_key_id"] == key_id and row["id"] != charge_id and row["status"] in OWED
            if mine and waits and row["attempts"] == 0 and row["due_at"] <= now:
                db.write(row, {"next_attempt_at": now})
                db.charges.add(row["id"])

    def wake_waiting(self, db: Transaction, billing_key_id: int, now: datetime) -> None:
        pass  # the model's cards are never stopped

    def facts_of(self, db: Transaction, subscription_id: int) -> Owes:
        owed = [
            row
            for row in db.tables.owed.values()
            if row["subscription_id"] == subscription_id and row["status"] in OWED
        ]
        found = {each["state"] for row in owed for each in db.tables.attempts_of[row["id"]]}
        declined, held = (any(row[name] for row in owed) for name in ("first_declined_at", "held_why"))
        return Owes(declined, SENDING in found, UNKNOWN in found, held)

    def rests_for(self, db: Transaction, subscription_id: int) -> str | None:
        return None  # the model's policies pause nothing

    def to_look(self, db: Transaction, now: datetime, after: int, limit: int) -> list[int]:
        due = (
            row["id"]
            for row in db.tables.owed.values()
            if row["look_at"] is not None and row["look_at"] <= now and row["id"] > after
        )
        return sorted(due)[:limit]


class _Blind:
    """A pre-send check that sees no obstacle."""

    def __init__(self, sight: Sight) -> None:
        self.sight = sight

    def obstacle(self, *seen: object) -> None:
        return None


class Rates(StandsFor):
    """worker.store.charging.rates, without a cap: it goes by the database's own clock."""

    real = real_rates

    def grant(self, *asked: object) -> float:
        return 0.0

    def take(self, *asked: object) -> None:
        return None


def memory_store(guards: Guards) -> dict[str, object]:
    """What stands for each module of worker.store; what is missing here is not used by the workflows run."""
    attempts, charges, unasked, event_log = Attempts(guards), Charges(guards), Unasked(guards), EventLog()
    return {
        "charging.attempts": attempts,
        "charging.card_calls": CardCalls(),
        "charging.charges": charges,
        "charging.claims": Claims(attempts, charges, unasked),
        "charging.declines": Declines(),
        "charging.next_actions": NextActions(),
        "charging.queue": Queue(),
        "customers.subscriptions": Subscriptions(guards),
        "charging.kill_switch": Switches(),
        "charging.adhoc_charges": Requested(),
        "charging.asked_before_sending": unasked,
        "charging.payments": Payments(attempts, charges, event_log),
        "outbox.event_log": event_log,
        "customers.customers": Customers(),
        "customers.plans": Plans(),
        "customers.policies": Policies(),
        "charging.debts": Debts(),
        "reconciliation.findings": Findings(),
        "reconciliation.reconciliations": Reconciliations(),
        # Each customer of the model begins one subscription.
        "customers.rival_subscriptions": SimpleNamespace(
            **{name: getattr(real_rivals, name) for name in ("Rival", "RivalKind", "Wanted")},
            lock_customer=lambda *asked: None,
            find=lambda *asked: None,
            trial_used=lambda *asked: None,
        ),
        # No month grows old in a model: nothing is archived.
        "operations.archives": SimpleNamespace(bring_back=lambda *asked: False),
        "charging.rates": Rates(),
        # With one process at a time at a hold: it goes by the database's own clock.
        "operations.leads": SimpleNamespace(lead=lambda *asked: True, resign=lambda *asked: None),
    }


_NEW_CHARGE: Row = {
    "request_key": None, "keyed_in": None,
    "queued_until": None, "unapproved_actor": None, "unapproved_os_user": None,
    "attempts": 0, "declines": 0, "technical_tries": 0, "refusals": 0,
    "unanswered_tries": 0, "manual_tries": 0,
    "first_declined_at": None, "refunded": 0, "closed_at": None, "closed_why": None,
    "ladder_began_at": None, "waits": None, "tried_by": None, "planned_at": None, "look_at": None,
    "given_up": None, "archived_at": None, "asked_at": None, "card_since": None,
}  # fmt: skip
_NEW_ATTEMPT: Row = {
    "unknown_since": None, "next_ask_at": None, "asks": 0, "quiet_answers": 0, "imp_uid": None,
    "pg_provider": None, "pg_code": None, "reason": None, "settled_at": None, "decline_class": None,
    "decline_rule": None, "tried_by": None, "billing_key_id": None, "unanswered_since": None,
}  # fmt: skip


# Of the facts of a claim those that are columns of the charge.
_ELSEWHERE = {"customer_uid", "pg_provider", "stopped_as", "is_unasked", "has_others", "was_tried", "buyer"}
_OF_CHARGE = [field.name for field in fields(Locked) if field.name not in _ELSEWHERE]


def _ends(values: Mapping[str, object]) -> bool:
    return "status" in values


def _under_key(db: Transaction, charge: Row) -> list[Row]:
    return [row for row in db.tables.findings.values() if row["charge_key"] == charge["key"]]


def _due(db: Transaction, now: datetime) -> list[Row]:
    return [
        row
        for row in db.tables.owed.values()
        if row["held_why"] is None and row["next_attempt_at"] is not None and row["next_attempt_at"] <= now
    ]


def _is_in_use(db: Transaction, billing_key_id: int | None, charge_id: int) -> bool:
    calls = (row for row in db.tables.unresolved.values() if row["state"] == SENDING)
    return billing_key_id is not None and any(
        row["billing_key_id"] == billing_key_id and row["charge_id"] != charge_id for row in calls
    )


def _settled(db: Transaction, account: str, state: str) -> Iterator[tuple[Row, int]]:
    """The attempts of an account in a state, each with its customer."""
    for row in db.tables.attempts.values():
        charge = db.tables.charges[row["charge_id"]]
        if row["state"] == state and charge["account"] == account:
            yield row, db.tables.keys[charge["billing_key_id"]]["customer_id"]


def _permission(db: Transaction, account: str) -> Permission:
    tables = db.tables
    stop = tables.stops.get(account) or tables.stops.get(real_switches.ALL_ACCOUNTS)
    hold_since = tables.hold.since if tables.hold is not None else None
    return Permission(
        tables.fingerprint, DATABASE, REVISION, REVISION, hold_since, stop[1] if stop else None, RIGHT
    )


def _touch(db: Transaction, row: Row) -> None:
    db.attempts.add(row["id"])
    db.charges.add(row["charge_id"])


def _read(row: Row) -> Attempt:
    return Attempt(
        id=row["id"],
        charge_id=row["charge_id"],
        number=row["number"],
        merchant_uid=row["merchant_uid"],
        money=Money(row["amount"], row["currency"]),
        fence=row["fence"],
        last_sent_at=row["last_sent_at"],
        unknown_since=row["unknown_since"],
        quiet_answers=row["quiet_answers"],
        imp_uid=row["imp_uid"],
        sends=row["sends"],
    )
