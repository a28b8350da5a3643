"""Decisions of an operator about charging. Each has a reason and is recorded in the audit."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from schedules.charging.charges import ChargeStatus, TriedBy
from schedules.errors import WHEN_KNOWN, Code, OwnCode
from schedules.money.amounts import Money
from schedules.outbox import events
from schedules.persons import Person
from worker.charging import dunning
from worker.charging.close import close, collected, resume_if_nothing_rests
from worker.services import Services
from worker.store.charging import (
    account_bindings,
    adhoc_charges,
    allowances,
    attempts,
    charges,
    kill_switch,
    waits,
)
from worker.store.charging.charges import Charge
from worker.store.customers import subscriptions
from worker.store.outbox import event_log
from worker.store.reconciliation import findings

PAGE = 1000  # charges read at once, to bound memory


class CannotOperate(OwnCode):
    """The verb does not fit the present state; nothing was changed."""


def stop_charging(services: Services, actor: str, why: str, account: str = kill_switch.ALL_ACCOUNTS) -> None:
    """Stop charging for an account, or for all; every worker checks the kill switch before each call."""
    if account not in (kill_switch.ALL_ACCOUNTS, *services.account_names):
        known = ", ".join(services.account_names)
        raise CannotOperate(
            Code.NOT_FOUND, f"account {account!r} is not known, so nothing is stopped; there are: {known}, or '*'"
        )
    now = services.clock.now()
    with services.engine.begin() as db:
        kill_switch.stop(db, account, actor, why, now)
        event_log.record(db, actor, "stop-charging", account, why, now)


def resume_charging(services: Services, actor: str, why: str, account: str = kill_switch.ALL_ACCOUNTS) -> None:
    """Allow charging again after `stop_charging` or a stop by the circuit breaker."""
    now = services.clock.now()
    with services.engine.begin() as db:
        if not kill_switch.resume(db, account):
            stopped = ", ".join(stopped.account for stopped in kill_switch.stopped(db))
            raise CannotOperate(
                Code.ALREADY_DONE, f"charging is not stopped for {account!r}; stopped are: {stopped or 'none'}"
            )
        for resumed in services.account_names if account == kill_switch.ALL_ACCOUNTS else (account,):
            kill_switch.count_refusals_from(db, resumed, now)
            # Workers dropped messages during the stop; the next dispatch sends new ones.
            adhoc_charges.unqueue_account(db, resumed, now)
        event_log.record(db, actor, "resume-charging", account, why, now)


def adopt(services: Services, actor: str, why: str) -> None:
    """Bind this database to this environment only; the caller begins a hold first where one is needed."""
    now = services.clock.now()
    with services.engine.begin() as db:
        before, fingerprint = kill_switch.bound(db), services.fingerprint(db)
        environment = services.settings.environment
        kill_switch.bind(db, fingerprint, environment, actor, now)
        event_log.record(db, actor, "adopt", environment, why, now, before=before, after=fingerprint)
        _bind_new_accounts(services, db, actor, now)


def adopt_account(services: Services, account: str, actor: str, why: str, *, same_merchant: bool = False) -> None:
    """Bind a further account to its present credentials.

    Refused while attempts of the account have an unknown outcome, unless `same_merchant`: the account of another
    merchant would show no such payment, and the charge would be sent again.
    """
    if account not in services.account_fingerprints:
        known = ", ".join(services.account_fingerprints) or "none"
        raise CannotOperate(
            Code.NOT_FOUND,
            f"account {account!r} is not in AGAIN_ACCOUNTS_FILE; there are: {known}. "
            "The main account is bound by `again adopt` without --account",
        )
    now = services.clock.now()
    fingerprint = services.account_fingerprints[account]
    with services.engine.begin() as db:
        in_doubt = attempts.in_doubt_count(db, account)
        if in_doubt and not same_merchant:
            raise CannotOperate(
                Code.CONFLICT,
                f"{in_doubt} attempts of account {account} have no known outcome (`again unknown`), and only the "
                "merchant that they were sent to can tell it: restore the former credentials until they are "
                "known, or add --same-merchant if the new key belongs to the same merchant",
            )
        before = account_bindings.bound(db, account)
        account_bindings.bind(db, account, fingerprint, actor, now)
        event_log.record(db, actor, "adopt-account", account, why, now, before=before, after=fingerprint,
                     same_merchant=same_merchant)  # fmt: skip


def bind_new_accounts(services: Services, actor: str) -> None:
    """Bind the further accounts that are not bound yet, if the database is bound to this environment."""
    with services.engine.begin() as db:
        if kill_switch.bound(db) == services.fingerprint(db):
            _bind_new_accounts(services, db, actor, services.clock.now())


def _bind_new_accounts(services: Services, db: Connection, actor: str, now: datetime) -> None:
    for account, fingerprint in services.account_fingerprints.items():
        if account_bindings.bind_if_new(db, account, fingerprint, actor, now):
            event_log.record(db, actor, "adopt-account", account, "the account was new", now,
                         before=None, after=fingerprint)  # fmt: skip


def bind_if_new(services: Services, actor: str) -> bool:
    """Bind an unbound database to this environment; False when it was bound already."""
    with services.engine.begin() as db:
        is_bound = kill_switch.bound(db) is not None
    if is_bound:
        bind_new_accounts(services, actor)
        return False
    adopt(services, actor, "the database was new")
    return True


def release_subscription(services: Services, key: str, actor: str, why: str) -> None:
    """Allow a subscription that was set aside to be opened again."""
    now = services.clock.now()
    with services.act(key) as db:
        row = subscriptions.by_key(db, key, lock=True)
        if row is None:
            raise CannotOperate(Code.NOT_FOUND, f"subscription {key!r} is not known")
        if row.held_why is None:
            raise CannotOperate(Code.ALREADY_DONE, f"subscription {key} is not set aside; nothing to release")
        subscriptions.change(db, row.id, held_why=None, open_at=row.next_due_at)
        event_log.record(db, actor, "release", key, why, now, held_why=row.held_why)


def release(services: Services, key: str, actor: str, why: str, os_user: str | None = None) -> Money:
    """Collect a charge now that is held for an operator, or waits after a refusal; return its amount.

    A charge above a limit must be released by another person than the one who requested it.
    """
    now = services.clock.now()
    with services.act(key) as db:
        charge = _owed(db, key)
        if charge.held_why is None and not waits.is_refused(db, charge.id):
            raise CannotOperate(
                Code.ALREADY_DONE,
                f"charge {key} waits neither for an operator nor after a refusal; nothing to release",
            )
        if attempts.is_under_way(db, charge.id):
            raise CannotOperate(Code.BUSY, f"charge {key} has an attempt whose outcome is unclear{WHEN_KNOWN}")
        _refuse_keyed(charge)
        finding = findings.open_for(db, key)
        if finding is not None:
            raise CannotOperate(
                Code.CONFLICT,
                f"charge {key} has finding {finding.id}, {finding.kind}; end that first: again findings",
            )
        asked_by = allowances.unapproved_of(db, charge.id)
        same = asked_by.matches(Person(actor, os_user)) if asked_by is not None else None
        if same is not None:
            raise CannotOperate(
                Code.NOT_ALLOWED, f"charge {key} was asked for by {same} as well; another person must release it"
            )
        next_attempt_at = now if charge.held_why is None else charge.next_attempt_at or now
        charges.change(db, charge.id, held_why=None, next_attempt_at=next_attempt_at, waits=None,
                       unanswered_tries=0, unapproved_actor=None, unapproved_os_user=None)  # fmt: skip
        event_log.record(db, actor, "release", key, why, now, held_why=charge.held_why, os_user=os_user)
    return charge.money


@dataclass(frozen=True, slots=True)
class Released:
    """The released charges."""

    charges: int
    sums: tuple[Money, ...]  # one per currency


def release_refused(services: Services, actor: str, why: str) -> Released:
    """Release every charge that waits after a refusal; each release is recorded in the audit.

    With a request key, all are released in one transaction.
    """
    released, last = list[Money](), 0
    while page := _refused_after(services, last):
        for _, key in page:
            try:
                released.append(release(services, key, actor, why))
            except CannotOperate:
                continue  # tried in the meantime, or with a finding
        last = page[-1][0]
    minor = Counter[str]()
    for money in released:
        minor[money.currency] += money.amount
    return Released(len(released), tuple(Money(amount, currency) for currency, amount in sorted(minor.items())))


def _refused_after(services: Services, charge_id: int) -> list[tuple[int, str]]:
    with services.engine.begin() as db:
        return waits.refused_after(db, charge_id, PAGE)


def try_now(services: Services, key: str, actor: str, why: str) -> None:
    """Make one extra attempt at a debt now. It does not count as a step of the ladder, whose plan stays."""
    now = services.clock.now()
    with services.act(key) as db:
        charge = _owed(db, key)
        if charge.held_why is not None:
            raise CannotOperate(
                Code.HELD, f"charge {key} waits for an operator: {charge.held_why}; `again release` it first"
            )
        _refuse_under_way(db, charge)
        _refuse_keyed(charge)
        if charge.due_at > now:
            raise CannotOperate(Code.CONFLICT, f"charge {key} is not due before {charge.due_at:%Y-%m-%d %H:%M}Z")
        free_at = dunning.card_free_at(db, charge, now)
        if free_at is not None and free_at > now:
            cap = charge.policy.cap
            raise CannotOperate(
                Code.LIMIT,
                f"the card of charge {key} was declined {cap.declines} times within {cap.within.days} days, as "
                f"often as its policy allows; it is free at {free_at:%Y-%m-%d %H:%M}Z, or with another card",
            )
        charges.change(
            db, charge.id, next_attempt_at=now, queued_until=None, waits=None,
            tried_by=TriedBy.PERSON.value,
            # Before the first decline there is no ladder to keep the plan of.
            planned_at=(charge.planned_at or charge.next_attempt_at) if charge.history.first_declined_at else None,
        )  # fmt: skip
        event_log.record(db, actor, "try", key, why, now, planned_at=str(charge.next_attempt_at))


def paid_elsewhere(services: Services, key: str, actor: str, why: str) -> None:
    """Record that a debt was paid outside of Again; its ladder stops."""
    now = services.clock.now()
    with services.act(key) as db:
        _lock_subscription(db, key)
        charge = _owed(db, key)  # a charge that was paid here too is a double payment, not ALREADY_DONE
        _refuse_under_way(db, charge)
        collected(db, charge, None, now, f"paid by another way: {why}")
        event_log.record(db, actor, "paid-elsewhere", key, why, now)


def waive(services: Services, key: str, actor: str, why: str) -> None:
    """Waive a debt: it is not collected any more."""
    now = services.clock.now()
    with services.act(key) as db:
        charge = _end_by_hand(db, key, ChargeStatus.WAIVED, why, now)
        event_log.enqueue_event(db, events.ChargeWaived(charge=charge.key, why=why), f"{key}/charge.waived", now)
        event_log.record(db, actor, "waive", key, why, now)


def cancel_charge(services: Services, key: str, actor: str, why: str) -> None:
    """Cancel a debt that should not exist: no further attempt, and it does not count as owed in reports."""
    now = services.clock.now()
    with services.act(key) as db:
        charge = _end_by_hand(db, key, ChargeStatus.CANCELED, why, now)
        event_log.enqueue_event(
            db, events.ChargeCanceled(charge=charge.key, why=why), f"{key}/charge.canceled", now
        )
        event_log.record(db, actor, "cancel-charge", key, why, now)


def _end_by_hand(db: Connection, key: str, status: ChargeStatus, why: str, now: datetime) -> Charge:
    _lock_subscription(db, key)
    charge = _owed(db, key, status)
    _refuse_under_way(db, charge)
    close(db, charge.id, status, why, now)
    resume_if_nothing_rests(db, charge, f"what it owed was {status}", now)
    return charge


def _lock_subscription(db: Connection, key: str) -> None:
    """Lock the subscription of a charge before the charge: the lock order everywhere."""
    charge_id = charges.id_of(db, key)
    if charge_id is not None:
        subscriptions.lock_of_charge(db, charge_id)


def _owed(db: Connection, key: str, becomes: ChargeStatus | None = None) -> Charge:
    """The locked charge with this key; raises CannotOperate unless it is open, ALREADY_DONE if it is `becomes`."""
    charge = charges.locked_by_key(db, key)
    if charge is None:
        raise CannotOperate(Code.NOT_FOUND, f"charge {key!r} is not known; a charge's key has 26 characters")
    if not charge.status.is_owed:
        code = Code.ALREADY_DONE if charge.status is becomes else Code.CONFLICT
        raise CannotOperate(code, f"charge {key} is {charge.status}; nothing is owed any more")
    return charge


def _refuse_keyed(charge: Charge) -> None:
    if charge.keyed_in is not None:
        raise CannotOperate(
            Code.CONFLICT,
            f"the card of charge {charge.key} was typed in, and none is kept to try it with; "
            "`again cancel-charge`, `waive` or `paid-elsewhere` ends it",
        )


def _refuse_under_way(db: Connection, charge: Charge) -> None:
    if attempts.is_under_way(db, charge.id):
        raise CannotOperate(
            Code.BUSY,
            f"charge {charge.key} has an attempt under way; money may have moved{WHEN_KNOWN}",
        )
