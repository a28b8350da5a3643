"""A slow database: fewer calls are sent, never none; each on a check whose age is bounded, and within the cap."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from benchmarks.delay import DelayProxy
from tests.factories import with_settings
from tests.services import end_engine
from tests.workflows.test_pacing import PAID, Line, claimed_many
from worker.charging.rate_limiter import LATE, Permit, await_permit, interval
from worker.charging.send_queue import SendQueue
from worker.clock import elapsed
from worker.runtime.check_times import LASTS, MOST_LASTS, USUAL, CheckTimes
from worker.services import Services
from worker.store.engine import SESSION, make_engine

CAP = 50.0


@contextmanager
def far_away(services: Services, database: str, round_trip: float) -> Iterator[Services]:
    """The same services, with so many seconds for each round trip to the database."""
    with DelayProxy(database, round_trip) as proxy:
        engine = make_engine(proxy.url, 20, "again-test")
        try:
            engine.connect().close()  # a new connection takes about ten round trips, and is kept
            yield replace(with_settings(services, rate=CAP), engine=engine, check_times=CheckTimes())
        finally:
            end_engine(engine)


@pytest.mark.parametrize("round_trip", [0.04, 0.08, 0.15, 0.7])
def test_calls_leave_though_each_round_trip_takes_long(
    services: Services, database: str, round_trip: float
) -> None:
    """Guard: slots are asked for earlier, and a check counts for longer, as checks take longer."""
    line, claims = Line(), claimed_many(services, 30)
    with far_away(services, database, round_trip) as far:
        sends = SendQueue(far, 30)
        begun_at = elapsed()
        for number, claimed in enumerate(claims):
            sends.submit(line.queued(str(number), claimed, far))
        line.wait_for(30, 30)
        took = elapsed() - begun_at
        deadline = far.settings.call_deadline
    assert [told for _, told in line.told] == [PAID] * 30
    # The cap alone takes 0.6 s; the first slots are missed until it is known how long a check takes.
    assert took < 0.6 + 12 * round_trip + 1
    left = sorted({slot.earliest: slot for _, slot, _ in line.begun}.values(), key=lambda slot: slot.earliest)
    assert min(later.earliest - earlier.earliest for earlier, later in pairwise(left)) > interval(CAP) - LATE
    for (_, slot, _), until in zip(line.begun, line.untils, strict=True):
        assert slot.latest - (until - deadline) <= MOST_LASTS


@pytest.mark.parametrize("round_trip", [0.08, 0.4])
def test_a_charge_that_goes_alone_leaves_though_each_round_trip_takes_long(
    services: Services, database: str, round_trip: float
) -> None:
    (claimed,) = claimed_many(services, 1)
    with far_away(services, database, round_trip) as far:
        assert isinstance(await_permit(far, claimed), Permit)


def test_a_quick_check_counts_for_no_longer_than_before() -> None:
    times = CheckTimes()
    for _ in range(10):
        times.add(USUAL / 2)
    assert (times.extra, times.lasts) == (0.0, LASTS)


def test_a_check_never_counts_for_longer_than_the_bound() -> None:
    times = CheckTimes()
    for _ in range(10):
        times.add(60)
    assert times.lasts == MOST_LASTS


def test_one_slow_check_among_quick_ones_changes_nothing() -> None:
    times = CheckTimes()
    for seconds in (0.01,) * 8 + (3.0,) + (0.01,):
        times.add(seconds)
    assert times.lasts == LASTS


def test_a_slow_database_is_reported_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    times = CheckTimes()
    with caplog.at_level(logging.WARNING):
        for seconds in (0.2,) * 10 + (0.01,) * 10:
            times.add(seconds)
    assert ["slow" in record.getMessage() for record in caplog.records] == [True, False]
    assert not times.is_slow


def test_each_session_has_its_settings_whatever_the_database_prefers(services: Services, database: str) -> None:
    """Guard: JIT compiles each statement of ours for 60 to 700 ms, since its plan looks expensive."""
    name = urlsplit(database).path.lstrip("/")
    with services.engine.begin() as db:
        db.execute(text(f'ALTER DATABASE "{name}" SET jit = on'))
        db.execute(text(f'ALTER DATABASE "{name}" SET enable_seqscan = on'))
    fresh = make_engine(services.settings.sqlalchemy_url, 1, "again-test")
    with fresh.connect() as db:
        found = {name: db.execute(text(f"SHOW {name}")).scalar_one() for name in SESSION}
        db.rollback()
        assert db.execute(text("SHOW jit")).scalar_one() == "off"
    fresh.dispose()
    assert found == SESSION
