"""Move the records of old, ended charges, batch by batch, to archive tables that workers do not read."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from sqlalchemy import Connection

from schedules.errors import Code, OwnCode
from worker.failpoints import Failpoint, hit
from worker.services import CANNOT_DECIDE, Services, may_decide
from worker.store.operations import archives
from worker.store.operations.archives import Ended, Moved
from worker.store.outbox import event_log

log = logging.getLogger("again.archiving")
BATCH = 200  # charges with their attempts, events and notices in one transaction of about 50 ms
NOTICES = 500
KEPT_MONTHS = 13  # covers a year of refunds and chargebacks, and the 90 days of the reconciler

GoingOn = Callable[[], bool]


class CannotArchive(OwnCode):
    """The month cannot be archived, or not now; nothing was moved."""


@dataclass(slots=True)
class Tally:
    """The counts of a run."""

    looked_at: int = 0
    charges: int = 0
    attempts: int = 0
    events: int = 0
    notices: int = 0
    months: Counter[str] = field(default_factory=Counter)  # number of charges by the month in which they ended
    is_whole: bool = False  # the run was not interrupted

    def add(self, ended: list[Ended], moved: Moved) -> None:
        """Count a batch after its commit."""
        self.charges += len(ended)
        self.months.update(f"{charge.closed_at.astimezone(UTC):%Y-%m}" for charge in ended)
        self.attempts += moved.attempts
        self.events += moved.events
        self.notices += moved.notices

    def facts(self) -> Mapping[str, object]:
        """The counts by name, for the audit and the command line."""
        names = ("looked_at", "charges", "attempts", "events", "notices", "is_whole")
        return {**{name: getattr(self, name) for name in names}, "months": dict(sorted(self.months.items()))}


OnProgress = Callable[[Tally], None]


def archive(
    services: Services,
    before: date,
    actor: str,
    *,
    going_on: GoingOn = lambda: True,
    on_progress: OnProgress = lambda _: None,
    dry_run: bool = False,
    batch: int = BATCH,
) -> Tally:
    """Move what ended before a month; `before` is the first day of the month, in UTC.

    Workers never wait for a run: it skips rows that another transaction has locked, and a later run moves them.
    Each charge is moved as a whole, so a run can be interrupted. Raises CannotArchive for a month within the last
    KEPT_MONTHS, and while this process may decide nothing.
    """
    _refuse_young(before, services.clock.now())
    with services.engine.begin() as db:
        if not may_decide(services, db):
            raise CannotArchive(
                Code.HELD,
                CANNOT_DECIDE,
            )
    run = _Run(services, datetime(before.year, before.month, 1, tzinfo=UTC), dry_run, batch)
    try:
        for step in (run.charges, run.notices):
            while going_on() and step():
                on_progress(run.tally)
        run.tally.is_whole = run.is_over
    finally:
        if not dry_run:
            with services.engine.begin() as db:
                event_log.record(
                    db, actor, "archive", f"{before:%Y-%m}", None, services.clock.now(), **run.tally.facts()
                )
    log.info("archived what ended before %s: %s", f"{before:%Y-%m}", run.tally.facts())
    return run.tally


def _refuse_young(before: date, now: datetime) -> None:
    years, month = divmod(now.year * 12 + now.month - 1 - KEPT_MONTHS, 12)
    newest = date(years, month + 1, 1)
    if before > newest:
        raise CannotArchive(
            Code.INVALID,
            f"{before:%Y-%m} is too young: refunds, chargebacks and the reconciler reach back, so {KEPT_MONTHS} "
            f"months stay; the newest month that may be given now is {newest:%Y-%m}",
        )


@dataclass(slots=True)
class _Run:
    services: Services
    before: datetime
    dry_run: bool
    batch: int
    tally: Tally = field(default_factory=Tally)
    last_charge: int = 0
    last_notice: int = 0
    is_over: bool = False

    def charges(self) -> bool:
        """Move the next batch of charges with their attempts, events and notices; False when none is left."""
        with self.services.engine.begin() as db:
            page = archives.charges_after(db, self.last_charge, self.before, self.batch)
            if page is None or page.is_too_young:
                return False
            ended = list(archives.ended_before(db, page.ids, self.before, lock=not self.dry_run))
            moved = self._count(db, ended) if self.dry_run else self._put_away(db, ended)
            hit(Failpoint.ARCHIVING_WRITTEN, str(page.last))
        self.tally.looked_at += len(page.ids)
        self.tally.add(ended, moved)
        self.last_charge = page.last
        return True

    def notices(self) -> bool:
        """Move the next batch of notices that concern no renewal, or came late; False when none is left."""
        with self.services.engine.begin() as db:
            page = archives.notices_after(db, self.last_notice, self.before, NOTICES)
            if page is None or page.is_too_young:
                self.is_over = True
                return False
            ids = archives.other_notices(db, page.ids, self.before, lock=not self.dry_run)
            moved = len(ids) if self.dry_run else archives.put_notices_away(db, ids)
        self.tally.notices += moved
        self.last_notice = page.last
        return True

    def _put_away(self, db: Connection, ended: list[Ended]) -> Moved:
        if not ended:
            return Moved()
        now = self.services.clock.now()
        moved = archives.put_away(db, ended, archives.attempts_of(db, ended), now)
        keys = [charge.key for charge in ended]
        notices = archives.put_notices_away(db, archives.notices_about(db, keys, self.before, lock=True))
        return Moved(moved.attempts, moved.events, notices)

    def _count(self, db: Connection, ended: list[Ended]) -> Moved:
        ids = archives.attempts_of(db, ended)
        notices = archives.notices_about(db, [charge.key for charge in ended], self.before, lock=False)
        return Moved(len(ids), archives.count_events(db, ids), len(notices))
