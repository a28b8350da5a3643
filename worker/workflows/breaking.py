"""Breaking: an account's charging stops by itself at the first double charge, and on a burst of refusals."""

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schedules.events import AccountStopped
from worker.store import notes, switches

log = logging.getLogger("again.breaking")
BREAKER = "again"  # the actor that the audit names
BURST = timedelta(minutes=10)


def break_account(db: Connection, account: str, why: str, now: datetime) -> None:
    """Stop an account's charging; only `again resume-charging` ends it.

    A person's own stop gets the breaker's reason in its place, so that whoever resumes has read it.
    """
    if switches.stopped_by(db, account) == BREAKER:
        return
    switches.stop(db, account, BREAKER, why, now)
    notes.record(db, BREAKER, "stop-charging", account, why, now)
    notes.owe(db, AccountStopped(account=account, why=why), f"{account}/stopped/{now.isoformat()}", now)
    log.error("charging is stopped for account %s: %s", account, why)


def count_refusal(db: Connection, account: str, enough: int, now: datetime) -> None:
    """Stop the account when this refusal makes a burst: our set-up is wrong, and more calls mend nothing."""
    refused = switches.refused_since(db, account, now - BURST, enough)
    if refused >= enough:
        minutes = int(BURST.total_seconds() // 60)
        why = f"{refused} charges were refused within {minutes} minutes; mend the set-up, then resume-charging"
        break_account(db, account, why, now)
