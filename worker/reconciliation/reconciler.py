"""The reconciler: read the gateway's list of payments in windows, and compare it with the database."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from schedules.errors import Code, OwnCode
from worker.charging.match_payments import end_paid
from worker.charging.payment_lists import MOST_IN_WINDOW, SHORTEST_WINDOW, NoAnswerYet, Window
from worker.failpoints import Failpoint, hit
from worker.services import Services
from worker.store.reconciliation import reconciliations
from worker.store.reconciliation.reconciliations import Run, RunKind

log = logging.getLogger("again.reconciler")
SPANS = {RunKind.HOURLY: timedelta(days=2), RunKind.DAILY: timedelta(days=90)}
EVERY = {RunKind.HOURLY: timedelta(hours=1), RunKind.DAILY: timedelta(days=1)}
# Newer payments are left to the next run: their calls may be under way.
SETTLING_TIME = timedelta(minutes=2)
LONGEST_WINDOW = timedelta(days=90)  # the gateway's limit for one list
LEASE = timedelta(minutes=10)  # longer than one window's calls; another process continues the run after it

GoingOn = Callable[[], bool]
Told = Callable[[Run], None]


class CannotReconcile(OwnCode):
    """The span cannot be compared; nothing was done."""


def run_due(services: Services, account: str, going_on: GoingOn = lambda: True) -> None:
    """Begin the runs of an account that are due, and continue those that are not over."""
    begin_due(services, account)
    go_on(services, account, going_on)


def begin_due(services: Services, account: str) -> None:
    """Start the hourly and the daily run when they are due; a missed run is not repeated.

    Findings whose payment is in the database by now are closed.
    """
    now = services.clock.now()
    end_paid(services, account)
    for kind, every in EVERY.items():
        with services.engine.begin() as db:
            last = reconciliations.newest(db, account, kind)
            if last is not None and last.ended_at is None:
                continue
            # A run that was started with a clock that was ahead must not delay the next one.
            if last is None or last.started_at > now or now - last.started_at >= every:
                reconciliations.begin(db, account, kind, now - SPANS[kind], now - SETTLING_TIME, now)


def begin_asked(services: Services, account: str, since: datetime, until: datetime) -> Run:
    """Return the run over a requested span: the unfinished one of the same span, or a new one."""
    now = services.clock.now()
    if not since < until:
        raise CannotReconcile(
            Code.INVALID, f"the span from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} is empty"
        )
    services.gateway(account)  # an error now is better than a run that waits
    with services.engine.begin() as db:
        unfinished = reconciliations.newest(db, account, RunKind.ASKED)
        if unfinished is not None and unfinished.ended_at is None:
            if (unfinished.since, unfinished.until) == (since, until):
                return unfinished
            reconciliations.advance(db, unfinished, ended_at=now, words="left for another span")
        run = reconciliations.begin(db, account, RunKind.ASKED, since, until, now)
    if run is None:
        raise CannotReconcile(Code.BUSY, f"another reconciliation of account {account} has just been begun")
    return run


def go_on(services: Services, account: str, going_on: GoingOn = lambda: True) -> None:
    """Continue the hourly and the daily run of an account; the short one first."""
    for kind in EVERY:
        with services.engine.begin() as db:
            run = reconciliations.under_way(db, account, kind)
        if run is not None and going_on():
            work(services, run.id, going_on)


def work(
    services: Services,
    run_id: int,
    going_on: GoingOn = lambda: True,
    told: Told = lambda _: None,
    most: int = MOST_IN_WINDOW,
) -> Run | None:
    """Compare the windows until the run ends or must stop; None when another process has it.

    At most the uids of `most` payments are in memory, unless one second has more.
    """
    run = _claim(services, run_id)
    step = LONGEST_WINDOW
    while run is not None and run.ended_at is None and going_on():
        until = min(run.until, run.done_until + step)
        window = Window(services, run.account, run.done_until, until, most, partial(_keep, services, run))
        try:
            if not window.read():
                step = max((window.until - window.since) / 2, SHORTEST_WINDOW)
                continue
        except NoAnswerYet as problem:
            log.warning("the reconciliation of account %s waits: %s", run.account, problem)
            return _advance(services, run, window, words=str(problem), done_until=run.done_until, free=True)
        run = _advance(services, run, window, words=None, done_until=window.until, free=False)
        step = min(step * 2, LONGEST_WINDOW)
        if run is not None:
            told(run)
    if run is not None and run.ended_at is None:
        _free(services, run)
    return run


def _claim(services: Services, run_id: int) -> Run | None:
    now = services.clock.now()
    with services.engine.begin() as db:
        return reconciliations.claim(db, run_id, now, now + LEASE)


def _advance(
    services: Services, run: Run, window: Window, *, words: str | None, done_until: datetime, free: bool
) -> Run | None:
    now = services.clock.now()
    over = done_until >= run.until
    with services.engine.begin() as db:
        moved = reconciliations.advance(
            db, run, done_until=done_until, words=words, ended_at=now if over else None,
            lease_until=now if over or free else now + LEASE, calls=run.calls + window.calls,
            payments=run.payments + window.payments, findings=run.findings + window.findings,
        )  # fmt: skip
    hit(Failpoint.RECONCILING_WRITTEN, run.account)
    if moved is None:
        log.warning("another process has taken the reconciliation %d; this one leaves it", run.id)
    elif over:
        log.info(
            "reconciled %s (%s): %d payments, %d new findings",
            run.account,
            run.kind,
            moved.payments,
            moved.findings,
        )
    return moved


def _keep(services: Services, run: Run) -> bool:
    """Renew a run's lease before each call of a window; False when another process has taken the run."""
    with services.engine.begin() as db:
        return reconciliations.advance(db, run, lease_until=services.clock.now() + LEASE) is not None


def _free(services: Services, run: Run) -> None:
    with services.engine.begin() as db:
        reconciliations.advance(db, run, lease_until=services.clock.now())
