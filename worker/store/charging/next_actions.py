"""The rule that every open charge has a next action, and the charges that break it.

The next action of an open charge has a time: its next attempt, the lease or the next look-up of an attempt under
way, or the next look at a debt that waits for a card. Any other open charge is held: `again held` lists it with
the reason, and an event with that reason was enqueued.
"""

from sqlalchemy import Connection, exists, func, literal, or_, select, text

from schedules.charging.charges import AttemptState
from schedules.outbox.events import ChargeHeld
from schedules.requests.batches import BatchState, held_words
from worker.store.tables import IN_FLIGHT, archived_outbox, attempts, batches, charges, outbox

_UNDER_WAY = [AttemptState.SENDING.value, AttemptState.UNKNOWN.value]


def stranded(db: Connection, limit: int) -> list[tuple[int, str]]:
    """Lock and return open charges without a next attempt, a call under way, a hold or a wait; expected none."""
    c, a = charges.c, attempts.c
    attempt = exists().where(a.charge_id == c.id, a.state.in_(_UNDER_WAY))
    query = select(c.id, c.key).where(text(IN_FLIGHT), ~attempt).limit(limit).with_for_update(skip_locked=True)
    return [(row.id, row.key) for row in db.execute(query)]


def untold(db: Connection, limit: int) -> list[tuple[str, str]]:
    """Lock held charges without an event for their reason and return key and reason; there should be none.

    The charges that a stopped batch holds share the event of their batch.
    """
    c, b = charges.c, batches.c
    told = or_(*(
        exists().where(o.subject == c.key, o.kind == ChargeHeld.kind, o.payload["why"].astext == c.held_why)
        for o in (outbox.c, archived_outbox.c)
    ))  # fmt: skip
    words = func.replace(literal(held_words("{key}")), "{key}", b.key)
    of_batch = exists().where(b.state == BatchState.STOPPED.value, c.held_why == words)
    query = select(c.key, c.held_why).where(c.held_why.is_not(None), ~told, ~of_batch).order_by(c.id).limit(limit)
    return [(row.key, row.held_why) for row in db.execute(query.with_for_update(skip_locked=True, of=charges))]
