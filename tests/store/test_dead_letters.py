"""Dead letters are counted, bounded and can be removed."""

from datetime import timedelta

from worker.broker.messages import DeadLetter, Reason
from worker.services import Services
from worker.store.operations import dead_letters


def letter(number: int, reason: Reason = Reason.BAD_BODY) -> DeadLetter:
    """A refused message."""
    return DeadLetter("requests", reason, 10 + number, f"digest {number}", "again.charge", f"id-{number}")


def test_the_same_message_counts_on_one_row(services: Services) -> None:
    now = services.clock.now()
    with services.engine.begin() as db:
        dead_letters.add(db, [letter(1), letter(1)], now)
        dead_letters.add(db, [letter(1)], now + timedelta(seconds=5))
        (row,) = dead_letters.listed(db, 10)
    assert (row.count, row.first_at, row.last_at) == (3, now, now + timedelta(seconds=5))


def test_what_is_beyond_the_bound_is_summed_up_and_not_lost(services: Services) -> None:
    now = services.clock.now()
    with services.engine.begin() as db:
        for number in range(12):
            dead_letters.add(db, [letter(number)], now + timedelta(seconds=number), kept=5)
        rows = dead_letters.listed(db, 100)
        assert dead_letters.total(db) == 12
        assert [row.digest for row in rows if row.digest] == [f"digest {n}" for n in range(11, 6, -1)]
        assert [row.count for row in rows if not row.digest] == [7]
        assert dead_letters.purge(db) == 12
        assert dead_letters.listed(db, 10) == []
