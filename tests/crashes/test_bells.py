"""Crash row 13: two beats ring at once, two openers open at once, and a local hour comes twice."""

import subprocess
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text

from tests.crashes.process import STOP
from tests.crashes.shop import OPS, PATIENCE, Shop, freeze, thaw
from worker.clock import wait_until
from worker.failpoints import Failpoint
from worker.store.operations import leads, processes

CLOCKS_GO_BACK = date(2026, 10, 25)  # in Berlin, from 03:00 to 02:00: half past two comes at 00:30 and 01:30 UTC
OPEN_DUE, OPEN_MISSED = "again.open_due", "again.open_missed"
FIRST_HALF_PAST_TWO = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
OFTEN = 0.005  # seconds; two beats whose ticks come this close together never lead both


def test_row_13_two_beats_that_both_lead_on_the_day_of_a_double_hour_charge_once(shop: Shop) -> None:
    """Guard: one_charge_for_each_period and a cursor that moves by number; the beats' lease only saves work.

    One beat is frozen before the hour and loses its lead; it rings when it wakes, after the other one has.
    """
    shop.installation.told(
        "plan", "add", "early", "--price", "500", "--currency", "KRW", "--name", "Early", "--every", "1",
        "--unit", "day", "--zone", "Europe/Berlin", "--time", "02:30",
    )  # fmt: skip
    key = shop.customer("row13", "early", anchor=CLOCKS_GO_BACK)
    have_both_ring(shop, FIRST_HALF_PAST_TWO - timedelta(minutes=2), OPEN_MISSED)
    shop.kill(OPS)
    (sleeper,) = shop.standing.children("beat-1")
    freeze_between_transactions(shop, sleeper)
    shop.set_time(FIRST_HALF_PAST_TWO)
    assert wait_until(lambda: leading(shop) > 0 and len(shop.ringing(OPEN_DUE)) == 1, PATIENCE)
    thaw(sleeper)
    assert wait_until(
        lambda: leading(shop) == 2 and len(set(shop.ringing(OPEN_DUE).values())) == 2, PATIENCE, OFTEN
    )
    shop.installation.restart(OPS)
    shop.let_end(key)

    have_both_ring(shop, FIRST_HALF_PAST_TWO + timedelta(hours=1), OPEN_MISSED)
    assert len(shop.movements("row13")) == 1
    have_both_ring(shop, FIRST_HALF_PAST_TWO + timedelta(hours=25), OPEN_DUE)
    assert wait_until(lambda: len(shop.movements("row13")) == 2, PATIENCE)
    shop.wait_until_at_rest("row13")
    shop.installation.told("unsubscribe", key, "--now", "--why", "it would be charged daily in other tests")
    shop.books_agree("row13")


def test_row_13_two_openers_at_once_open_a_period_once(shop: Shop) -> None:
    """Guard: SKIP LOCKED parts the openers, and one_charge_for_each_period stands behind it.

    The first is frozen with its charge written and not committed; the second must neither wait for it nor write.
    """
    shop.order(Failpoint.OPENING_WRITTEN, STOP)
    key = shop.customer("row13b")
    sleeper = shop.struck(Failpoint.OPENING_WRITTEN)
    shop.standing.start("worker-second-ops", "worker", "--queues", "ops,reconcile,requests", "--name", "ops2@%h")
    other = shop.customer("row13c")
    shop.let_end(other)
    assert shop.first_charge(key) is None
    thaw(sleeper)
    shop.let_end(key)
    shop.kill("worker-second-ops")
    shop.books_agree("row13b", "row13c")


def freeze_between_transactions(shop: Shop, beat: subprocess.Popen[bytes]) -> None:
    """Freeze a beat that holds no lock: with the lead's row it would keep others from leading for 30 s."""

    def is_frozen_there() -> bool:
        freeze(beat)
        with shop.engine.connect() as db:
            many = db.execute(text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
                " AND pid <> pg_backend_pid()"
            )).scalar_one()  # fmt: skip
        if many:
            thaw(beat)
        return not many

    assert wait_until(is_frozen_there, PATIENCE)


def leading(shop: Shop) -> int:
    """How many beats are alive and take themselves for the leader; their lease is taken away with each look."""
    with shop.engine.begin() as db:
        leaders = [each for each in processes.seen(db) if each.leads and not each.ended]
        db.execute(text("DELETE FROM leases WHERE name = :beat"), {"beat": leads.BEAT})
    return len(leaders)


def have_both_ring(shop: Shop, at: datetime, bell: str) -> None:
    """Make it this time, have both beats ring, and have what they rang for done at once."""
    shop.kill(OPS)
    before = set(shop.ringing(bell))
    shop.set_time(at)

    def fresh() -> dict[str, str]:
        return {ring: beat for ring, beat in shop.ringing(bell).items() if ring not in before}

    assert wait_until(lambda: leading(shop) == 2 and len(set(fresh().values())) == 2, PATIENCE, OFTEN)
    heard = set(fresh())
    shop.installation.restart(OPS)
    assert wait_until(lambda: not heard & shop.not_done(), PATIENCE)
