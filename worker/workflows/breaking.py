"""Breaking: an account's charging stops by itself at the first double charge, and when all calls are refused."""

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schedules.events import AccountStopped
from worker.store import notes, switches

log = logging.getLogger("again.breaking")
BURST = timedelta(minutes=10)
ANSWER_TIME = timedelta(seconds=5)  # that most payments are answered in


def break_account(db: Connection, account: str, why: str, now: datetime) -> None:
    """Stop an account's charging; only `again resume-charging` ends it.

    A person's own stop gets the breaker's reason in its place, so that whoever resumes has read it.
    """
    if switches.stopped_by(db, account) == switches.BREAKER:
        return
    switches.stop(db, account, switches.BREAKER, why, now)
    notes.record(db, switches.BREAKER, "stop-charging", account, why, now)
    notes.owe(db, AccountStopped(account=account, why=why), f"{account}/stopped/{now.isoformat()}", now)
    log.error("charging is stopped for account %s: %s", account, why)


def count_refusal(db: Connection, account: str, enough: int, now: datetime) -> None:
    """Stop the account when this refusal shows that our set-up is wrong and more calls would be refused too.

    It takes `enough` customers who were refused within ten minutes, no call paid that was sent since five seconds
    before the first of them, and no more customers whose card declined since: a few customers' cards cannot stop
    the others. The five seconds are there because a refusal is answered sooner than a payment: calls that were
    sent with the refused ones may still be under way.
    """
    refused = switches.refused_customers(db, account, now - BURST, enough)
    if len(refused) < enough:
        return
    first = min(refused)
    if switches.was_paid_since(db, account, first - ANSWER_TIME):
        return
    if switches.declined_customers(db, account, first, enough + 1) > enough:
        return
    why = (
        f"calls for {enough} customers were refused since {first:%Y-%m-%d %H:%M:%S}Z, and none was paid since "
        "then; fix the set-up (`again status` counts the refused charges), then run `again resume-charging`"
    )
    break_account(db, account, why, now)
