"""Delivery: send waiting events to the shop's webhook, each until it is accepted or dead."""

import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import assert_never

from schedules.outbox.deliveries import next_try_at
from schedules.outbox.events import event_id, in_json
from worker.services import Services
from worker.store.charging import kill_switch
from worker.store.outbox import deliveries
from worker.store.outbox.deliveries import Taken
from worker.webhooks.port import Accepted, Answer, Gone, Message, NotTaken, Receiver

log = logging.getLogger("again.delivery")
BATCH = 10
LEASE = timedelta(minutes=5)  # longer than a batch of calls that all time out
ENOUGH = 3  # failed events in a row after which the receiver counts as unreachable


def deliver_due(services: Services, going_on: Callable[[], bool] = lambda: True) -> int:
    """Send the due events, longest waiting first, until none is left or the receiver is unreachable.

    Return how many it accepted. Concurrent calls lease different events (SKIP LOCKED). A process that dies after
    the answer leaves the event to be sent again: at least once, with the same id.
    """
    receiver = services.receiver
    if receiver is None:
        return 0  # without a receiver, events wait
    accepted, missed = 0, 0
    while missed < ENOUGH and going_on() and (taken := _take(services)):
        for place, event in enumerate(taken):
            if missed == ENOUGH or not going_on():
                _give_back(services, taken[place:])
                break
            if _deliver(services, receiver, event):
                accepted, missed = accepted + 1, 0
            else:
                missed += 1
    return accepted


def _take(services: Services) -> Sequence[Taken]:
    now = services.clock.now()
    with services.engine.begin() as db:
        # A copy of the database sends nothing; during a hold, events may be outdated.
        if kill_switch.permission(db, kill_switch.ALL_ACCOUNTS).foreign(services.identity, services.clock):
            return ()
        return deliveries.take_due(db, now, now + LEASE, BATCH)


def _give_back(services: Services, unsent: Sequence[Taken]) -> None:
    with services.engine.begin() as db:
        deliveries.give_back(db, unsent, services.clock.now())


def _deliver(services: Services, receiver: Receiver, event: Taken) -> bool:
    """Send one event and write the result; return whether the receiver accepted it."""
    # A receiver refuses a signature with a wrong time: with a moved clock, use the real time.
    answer = receiver.send(message_of(event), services.clock.real())
    now = services.clock.now()
    fate = _fate(event, answer, now)
    with services.engine.begin() as db:
        written = deliveries.write(db, event, answer.words, **fate)
    name = f"event {event.id}, {event.kind} of {event.subject}"
    if not written:
        log.warning("%s: another process has leased it since; %s is not written", name, answer.words)
    elif "dead_at" in fate:
        log.error("%s is dead at try %d: %s; see `again events --dead`", name, event.tries + 1, answer.words)
    elif "next_try_at" in fate:
        log.warning("%s was not taken, next try %s: %s", name, fate["next_try_at"], answer.words)
    else:
        log.debug("%s is delivered: %s", name, answer.words)
    return isinstance(answer, Accepted)


def _fate(event: Taken, answer: Answer, now: datetime) -> dict[str, datetime]:
    match answer:
        case Accepted():
            return {"delivered_at": now}
        case Gone():
            return {"dead_at": now}
        case NotTaken():
            at = next_try_at(event_id(event.dedupe_key), event.tries + 1, now)
            return {"next_try_at": at} if at is not None else {"dead_at": now}
        case _:
            assert_never(answer)


def message_of(event: Taken) -> Message:
    """Return the event for sending, the same for each try."""
    body = {
        "type": event.kind,
        "timestamp": in_json(event.created_at),
        "version": event.version,
        "data": event.payload,
    }
    return Message(event_id(event.dedupe_key), json.dumps(body, ensure_ascii=False, separators=(",", ":")))
