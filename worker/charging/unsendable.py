"""Hold the charges of accounts that no process has, so that none waits without a reason and an event."""

from datetime import timedelta

from worker.charging.close import set_aside
from worker.services import Services, are_ours_and_known, clock_is_right
from worker.store.charging import unsendable

BATCH = 500
# Within the hour a process may still use an accounts file without the account.
SET_ASIDE_AFTER = timedelta(hours=1)


def set_aside_unsendable(services: Services) -> int:
    """Hold charges that have been due for an hour at an account that is not configured; return how many."""
    if not are_ours_and_known(services):
        return 0
    now = services.clock.now()
    with services.engine.begin() as db:
        if not clock_is_right(services, db):
            return 0
        found = unsendable.due_at_other_accounts(db, services.account_names, now - SET_ASIDE_AFTER, BATCH)
        for key, account in found:
            why = f"gateway account {account!r} is not configured; configure it, then `again release {key}`"
            set_aside(db, key, why, now)
    return len(found)
