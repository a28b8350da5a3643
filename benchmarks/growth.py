"""Growth: what opening, dispatching, claiming and settling cost beside ten million settled attempts and none."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks import shop
from benchmarks.place import Place, placed
from schedules.outcomes import Paid
from worker.workflows import dispatching, opening
from worker.workflows.grouping import MOST, Claimed, Groups, Leaving, ask_leave

ROUNDS = 3  # of each step; the quickest counts, for a shared machine only ever adds
PAST = """
    INSERT INTO charges (key, kind, subscription_id, period_no, billing_key_id, account, amount, currency, name,
        policy_id, status, due_at, attempts, created_at, closed_at)
    SELECT 'r' || lpad(to_hex(who), 20, '0') || lpad(to_hex(period), 5, '0'), 'renewal', who, period, who, 'main',
        9900, 'KRW', 'Monthly', 1, 'paid', at, 1, at, at
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
    """The four steps beside no history and beside so much of it; milliseconds for each charge, and their ratio."""
    empty = _measured(0, batch)
    full = _measured(history, batch)
    return {
        "history": history,
        "steps": {
            step: {"empty_ms": empty[step], "full_ms": full[step], "ratio": full[step] / empty[step]}
            for step in empty
        },
    }


def _measured(history: int, batch: int) -> dict[str, float]:
    with placed("http://127.0.0.1:1", AGAIN_RATE="10000", AGAIN_QUEUE_BOUND=str(batch)) as place:
        shop.on_sale(place)
        shop.subscribed(place, batch * ROUNDS, 0)
        began = time.monotonic()
        for first in range(0, history, CHUNK):
            _remember(place, first, min(history, first + CHUNK) - 1, batch * ROUNDS)
            print(f"history: {min(history, first + CHUNK):,} in {time.monotonic() - began:.0f} s", flush=True)
        rounds = [_round(place, number, batch) for number in range(ROUNDS)]
        return {step: min(round_[step] for round_ in rounds) for step in rounds[0]}


def _remember(place: Place, first: int, last: int, customers: int) -> None:
    import psycopg

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


def _round(place: Place, number: int, batch: int) -> dict[str, float]:
    """One batch from its opening to its payment; milliseconds of wall time for each charge and step."""
    services = place.services
    groups = Groups(services)
    first = number * batch + 1
    place.tell(
        "UPDATE subscriptions SET next_due_at = now() - interval '1 hour', open_at = now() - interval '1 hour' "
        "WHERE id BETWEEN %(first)s AND %(last)s", first=first, last=first + batch - 1,
    )  # fmt: skip
    queued: list[int] = []
    claimed: list[Claimed] = []
    told: dict[str, float] = {}

    def step(name: str, work: Callable[[], object]) -> None:
        before = time.monotonic()
        work()
        told[name] = (time.monotonic() - before) / batch * 1e3

    def claim() -> None:
        for begin in range(0, batch, MOST):
            claimed.extend(c for c in groups.claim_many(queued[begin : begin + MOST]) if isinstance(c, Claimed))

    def leave() -> None:
        for begin in range(0, batch, MOST):
            ask_leave(services, [Leaving(c.intent.id, "main", 0) for c in claimed[begin : begin + MOST]])

    def settle() -> None:
        for begin in range(0, batch, MOST):
            groups.settle_many([(c.intent, Paid(f"imps_{c.intent.id}")) for c in claimed[begin : begin + MOST]])

    step("opening", lambda: opening.open_due(services))
    step("dispatching", lambda: dispatching.top_up(services, lambda them: queued.extend(i for i, _ in them)))
    step("claiming", claim)
    step("last look", leave)
    step("settling", settle)
    paid = place.ask(f"SELECT count(*) FROM charges WHERE status = 'paid' AND subscription_id >= {first} "
                     f"AND subscription_id < {first + batch} AND period_no = 0")  # fmt: skip
    if not len(queued) == len(claimed) == paid == batch:
        raise SystemExit(f"of {batch} charges {len(queued)} were queued, {len(claimed)} claimed, {paid} paid")
    return told
