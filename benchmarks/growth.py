"""The cost of opening, dispatching, claiming and settling, with ten million settled attempts and without."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg

from benchmarks import shop
from benchmarks.place import Place, placed
from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Paid
from worker.charging.claim import Claimed, claim_many
from worker.charging.executor import MOST
from worker.charging.rate_limiter import SlotRequest, request_permits
from worker.charging.settle import Answered, settle_plain
from worker.renewals import enqueue, open_charges

ROUNDS = 9  # of each step on each side, alternating; the medians are compared
MEMORY = "4GB"  # shared buffers on each side, allocated when used
MONTHS = 10  # months of history of each customer
PAST = """
    INSERT INTO charges (key, kind, subscription_id, period_no, billing_key_id, account, amount, currency, name,
        policy_id, status, due_at, attempts, created_at, closed_at)
    SELECT 'r' || substr(md5(who::text), 1, 20) || lpad(to_hex(period), 5, '0'), 'renewal', who, period, who,
        'main', 9900, 'KRW', 'Monthly', 1, 'paid', at, 1, at, at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n,
        LATERAL (SELECT mod(n, %(customers)s::int) + 1 AS who, n / %(customers)s::int + 100 AS period,
            timestamptz '2020-01-01' + n * interval '1 second' AS at) past
"""
PAST_ATTEMPTS = """
    INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at,
        imp_uid, created_at, settled_at)
    SELECT id, 1, 'past' || id, 'paid', 9900, 'KRW', 1, 1, closed_at, 'imps_' || id, closed_at, closed_at
    FROM charges WHERE status = 'paid' AND id > %(after)s
"""
PAST_EVENTS = """
    INSERT INTO attempt_events (attempt_id, at, state, fence)
    SELECT id, settled_at, 'paid', 1 FROM attempts WHERE merchant_uid LIKE 'past%%' AND id > %(after)s
"""
CHUNK = 500_000  # rows of history in one transaction


def run(history: int, batch: int) -> dict[str, Any]:
    """Each step with and without history: milliseconds per charge, and their ratio."""
    customers = max(batch * ROUNDS, history // MONTHS)
    with ExitStack() as places:
        empty, full = (
            places.enter_context(placed("http://127.0.0.1:1", AGAIN_RATE="10000", AGAIN_QUEUE_BOUND=str(batch)))
            for _ in range(2)
        )
        for place in (empty, full):
            _given_memory(place)
            shop.on_sale(place)
            shop.subscribed(place, customers, 0)
        began = time.monotonic()
        for first in range(0, history, CHUNK):
            _remember(full, first, min(history, first + CHUNK) - 1, customers)
            print(f"history: {min(history, first + CHUNK):,} in {time.monotonic() - began:.0f} s", flush=True)
        for place in (empty, full):
            _settled_down(place)
        rounds = [
            [_round(place, number, batch, customers // batch) for place in (empty, full)]
            for number in range(ROUNDS)
        ]
    steps = {}
    for step in rounds[0][0]:
        without, beside = (statistics.median(pair[side][step] for pair in rounds) for side in range(2))
        steps[step] = {"empty_ms": without, "full_ms": beside, "ratio": beside / without}
    return {"history": history, "steps": steps}


def _given_memory(place: Place) -> None:
    """Set the memory of a server for ten million charges; otherwise reads of pages evict each other."""
    with psycopg.connect(place.url, autocommit=True) as db:
        db.execute(f"ALTER SYSTEM SET shared_buffers = '{MEMORY}'")
    place.services.engine.dispose()
    place.embedded.postgres.restart()


def _settled_down(place: Place) -> None:
    """Write the loaded data to disk, so that no later work is measured with the steps."""
    with psycopg.connect(place.url, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")
        db.execute("CHECKPOINT")


def _remember(place: Place, first: int, last: int, customers: int) -> None:
    with psycopg.connect(place.url) as db:
        db.execute("SET session_replication_role = replica")
        row = db.execute("SELECT coalesce(max(id), 0) FROM charges").fetchone()
        db.execute(PAST, {"first": first, "last": last, "customers": customers})
        attempt = db.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchone()
        assert row is not None
        assert attempt is not None
        db.execute(PAST_ATTEMPTS, {"after": row[0]})
        db.execute(PAST_EVENTS, {"after": attempt[0]})
        db.commit()
        db.autocommit = True
        if last % (4 * CHUNK) == 4 * CHUNK - 1 or last < CHUNK:
            db.execute("VACUUM ANALYZE")


def _round(place: Place, number: int, batch: int, every: int) -> dict[str, float]:
    """Run one batch from opening to payment; milliseconds of wall time per charge and step.

    The batch consists of every `every`-th customer, because customers of one day are scattered in real tables.
    """
    services = place.services
    place.execute(
        "UPDATE subscriptions SET next_due_at = now() - interval '1 hour', open_at = now() - interval '1 hour' "
        "WHERE id IN (SELECT %(number)s + %(every)s::int * n FROM generate_series(0, %(last)s::int) n)",
        number=number + 1, every=every, last=batch - 1,
    )  # fmt: skip
    queued: list[int] = []
    claimed: list[Claimed] = []
    milliseconds: dict[str, float] = {}

    def step(name: str, work: Callable[[], object]) -> None:
        before = time.monotonic()
        work()
        milliseconds[name] = (time.monotonic() - before) / batch * 1e3

    def claim() -> None:
        for begin in range(0, batch, MOST):
            answers = claim_many(services, queued[begin : begin + MOST])
            claimed.extend(answer for answer in answers if isinstance(answer, Claimed))

    def permit() -> None:
        for begin in range(0, batch, MOST):
            request_permits(services, [SlotRequest(c.intent.id, "main", 0) for c in claimed[begin : begin + MOST]])

    def settle() -> None:
        for begin in range(0, batch, MOST):
            settle_plain(services, [
                Answered(c.intent, AttemptState.SENDING, Paid(f"imps_{c.intent.id}"))
                for c in claimed[begin : begin + MOST]
            ])  # fmt: skip

    step("opening", lambda: open_charges.open_due(services))
    step(
        "dispatching",
        lambda: enqueue.top_up(services, lambda them: queued.extend(each.charge_id for each in them)),
    )
    step("claiming", claim)
    step("pre-send check", permit)
    step("settling", settle)
    numbers = ",".join(map(str, queued))
    paid = place.ask(f"SELECT count(*) FROM charges WHERE status = 'paid' AND id = ANY('{{{numbers}}}')")
    if not len(queued) == len(claimed) == paid == batch:
        raise SystemExit(f"of {batch} charges {len(queued)} were queued, {len(claimed)} claimed, {paid} paid")
    return milliseconds
