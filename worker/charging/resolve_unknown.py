"""Resolve unknown outcomes: attempts with an expired lease are looked up until their outcome is known."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from schedules.charging import unknown_outcomes as rules
from schedules.charging.charges import AttemptState
from schedules.charging.identity import parse_merchant_uid
from schedules.charging.outcomes import Outcome, Unknown
from schedules.errors import BROKEN
from schedules.outbox.events import AttemptUnknown
from worker.charging import decline_rules
from worker.charging.account_threads import Begin
from worker.charging.close import quarantine, set_aside, tell_held
from worker.charging.match_payments import compare
from worker.charging.settle import settle
from worker.failpoints import Failpoint, hit
from worker.gateway.port import Found
from worker.services import Services, may_decide
from worker.store.charging import attempts, next_actions
from worker.store.charging.attempts import Attempt
from worker.store.outbox import event_log

log = logging.getLogger("again.resolve_unknown")
BATCH = 500
AT_ONCE = 48  # look-ups of an account in one run; charges that are looked up first take other places


def sweep(services: Services) -> int:
    """Take attempts from workers whose lease has expired, and hold charges without a next action.

    A held charge without an event about its reason gets one.
    """
    now = services.clock.now()
    first_ask = rules.next_ask_at(now, now)
    with services.engine.begin() as db:
        if not may_decide(services, db):
            return 0
        lapsed = attempts.take_lapsed(db, now, first_ask, BATCH)
        for _, key in next_actions.stranded(db, BATCH):
            set_aside(db, key, f"it had no next action; `again show {key}`, then `again release {key}`", now)
        for key, why in next_actions.untold(db, BATCH):
            log.error("charge %s is held, and no event has told why: %s", key, why)
            tell_held(db, key, why, now)
    for uid in lapsed:
        log.warning("%s: its worker's lease ran out; the gateway will be asked", uid)
    return len(lapsed)


def begin_due(services: Services, begin: Begin) -> None:
    """Begin due look-ups, of each account as many as may wait here; the others stay due."""
    for attempt_id, account in due_asks(services).items():
        begin(
            account,
            f"attempt {attempt_id}",
            partial(ask, services, attempt_id),
            partial(make_due, services, attempt_id),
        )


def make_due(services: Services, attempt_id: int) -> None:
    """Make an unknown attempt due for a look-up at once, because this process ends before it has the answer."""
    with services.engine.begin() as db:
        attempts.ask_now(db, attempt_id, services.clock.now())


def due_asks(services: Services, limit: int = AT_ONCE) -> Mapping[int, str]:
    """The unknown attempts whose look-up is due, with their accounts: so many of each."""
    with services.engine.begin() as db:
        if not may_decide(services, db):
            return {}
        return attempts.to_ask(db, services.clock.now(), limit)


def ask(services: Services, attempt_id: int) -> AttemptState | None:
    """Look up an attempt once, and settle it; None when no look-up is due, or it is no longer unknown."""
    now = services.clock.now()
    with services.engine.begin() as db:
        since = attempts.unknown_since(db, attempt_id)
        if since is None or not may_decide(services, db):
            return None
        claimed = attempts.claim_ask(db, attempt_id, now, rules.next_ask_at(since, now))
        if claimed is None:
            return None
        attempt, account, stored_at = claimed
        customer_uids = attempts.customer_uids_of(db, attempt.charge_id)
    if now - since >= rules.ALERT_AFTER:
        _alert(
            services, attempt, since
        )  # also without a look-up: the account was removed or has other credentials
    gateway = services.gateway_if_ours(account)
    if gateway is None:
        return None  # it stays unknown until a later look-up
    hit(Failpoint.ASKING_CLAIMED, attempt.merchant_uid)
    answer = gateway.find_all(attempt.merchant_uid)
    hit(Failpoint.ASKING_ANSWERED, attempt.merchant_uid)
    outcome: Outcome
    if isinstance(answer, Found):
        asked = attempts.asked_about(attempt, customer_uids)
        quiet_time = timedelta(seconds=services.settings.quiet_time)
        found = [decline_rules.read_again(payment, stored_at) for payment in answer.payments]
        verdict = rules.read_found(found, asked, services.clock.now(), quiet_time)
        outcome, quiet_answers = verdict.outcome, verdict.quiet_answers
    else:
        # An unanswered look-up says nothing about the payment.
        outcome, quiet_answers = Unknown(f"asking failed: {answer.reason}"), attempt.quiet_answers
    try:
        state = settle(services, attempt, AttemptState.UNKNOWN, outcome, quiet_answers)
    except BROKEN as broken:
        quarantine(services, attempt.charge_id, broken)
        return None
    if isinstance(answer, Found):
        compare(services, account, answer.payments)
    return state


def _alert(services: Services, attempt: Attempt, since: datetime) -> None:
    """Send an event, once for each time that it becomes unknown; the look-ups go on."""
    uid = attempt.merchant_uid
    log.error("%s has been unknown since %s; a person should look: `again unknown`", uid, since)
    with services.engine.begin() as db:
        told = AttemptUnknown(charge=parse_merchant_uid(uid).charge_key, merchant_uid=uid, unknown_since=since)
        event_log.enqueue_event(db, told, f"{uid}/unknown/{int(since.timestamp())}", services.clock.now())
