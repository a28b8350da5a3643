"""Time that passes on one clock, with everything that would run meanwhile."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from tests.factories import collect_due, move_to
from worker.charging import overdue, resolve_unknown
from worker.customers import cards
from worker.outbox import announcements
from worker.services import Services
from worker.store.charging import tallies
from worker.store.tables import outbox

DAY = timedelta(days=1)


def live_until(services: Services, until: datetime) -> None:
    """Let time pass from moment to moment, with everything that would run meanwhile."""
    while services.clock.now() < until:
        collect_due(services)
        resolve_unknown.sweep(services)
        overdue.look_due(services)
        announcements.announce_due(services)
        cards.look_due(services, "main")
        for attempt_id in resolve_unknown.due_asks(services):
            resolve_unknown.ask(services, attempt_id)
        with services.engine.begin() as db:
            moments = (tallies.next_moment(db), tallies.next_telling(db))
        following = min((at for at in moments if at is not None), default=until)
        move_to(services, min(until, max(following, services.clock.now() + timedelta(seconds=1))))


def notices(services: Services) -> list[str]:
    """The notices owed, in order."""
    with services.engine.begin() as db:
        return list(db.execute(select(outbox.c.kind).order_by(outbox.c.id)).scalars())


def kst(year: int, month: int, day: int, hour: int = 9) -> datetime:
    """An instant by the clock in Seoul."""
    return datetime(year, month, day, hour, tzinfo=UTC) - timedelta(hours=9)
