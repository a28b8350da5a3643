"""Replay and skip of events by a person, recorded in the audit with a reason."""

from collections.abc import Sequence
from datetime import datetime

from schedules.errors import Code, FixedCode
from schedules.outbox.events import in_json
from worker.services import Services
from worker.store.outbox import deliveries, event_log

ALL_EVENTS = "events"  # the audit's subject for several events


class NoSuchEvent(FixedCode, code=Code.NOT_FOUND):
    """There is no event with this number; nothing was done."""


class Archived(FixedCode, code=Code.CONFLICT):
    """The event was delivered and is archived; nothing was done."""


def replay(services: Services, numbers: Sequence[int], actor: str, why: str) -> None:
    """Replay these events in any state; all of them, or none."""
    now = services.clock.now()
    with services.engine.begin() as db:
        for number in sorted(set(numbers)):
            if deliveries.archived(db, number) is not None:
                raise Archived(f"event {number} was delivered long ago and is archived; it is not sent again")
            event = found(deliveries.by_number(db, number, lock=True), number)
            event_log.record(db, actor, "events.replay", event.subject, why, now,
                         event=number, kind=event.kind, was=event.standing.value, tries=event.tries,
                         over_at=in_json(event.delivered_at or event.dead_at))  # fmt: skip
        deliveries.replay(db, numbers, now)


def replay_dead(services: Services, actor: str, why: str) -> int:
    """Replay every dead event; return how many."""
    now = services.clock.now()
    with services.engine.begin() as db:
        count = deliveries.replay_dead(db, now)
        event_log.record(db, actor, "events.replay", ALL_EVENTS, why, now, dead=count)
    return count


def skip(services: Services, before: datetime, actor: str, why: str) -> int:
    """Skip the waiting events before an instant; they are kept. Return how many."""
    now = services.clock.now()
    with services.engine.begin() as db:
        count = deliveries.skip_before(db, before)
        event_log.record(db, actor, "events.skip", ALL_EVENTS, why, now, before=before.isoformat(), skipped=count)
    return count


def found(event: deliveries.Listed | None, number: int) -> deliveries.Listed:
    """Return the event; raise an error when there is none with this number."""
    if event is None:
        raise NoSuchEvent(f"there is no event {number}; `again events` lists them")
    return event
