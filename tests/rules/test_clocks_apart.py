"""Another machine's clock, known from what it says."""

import pytest

from worker.clock import SET, OtherClock


def test_the_quickest_answer_tells_most() -> None:
    clock = OtherClock()
    assert clock.here(10.0, 10.001, 1000.0005) == pytest.approx(10.0005)
    # This answer was under way for long; what the quick one said of the clock places it exactly.
    assert clock.here(11.0, 11.040, 1001.002) == pytest.approx(11.002)


def test_a_clock_that_was_set_is_learned_anew() -> None:
    clock = OtherClock()
    clock.here(10.0, 10.001, 1000.0)
    late = clock.here(20.0, 20.010, 1000.0 + 10 + 2 * SET + 1)
    assert 20.0 <= late <= 20.010
    assert clock.here(21.0, 21.001, 1012.1005) == pytest.approx(21.0005)
