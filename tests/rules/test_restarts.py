"""A process that ends is started again a few times, each time later; a long run resets the count."""

import signal

from worker.cli.local.supervision import WAITS, WITHIN, Restarts, how


def test_each_start_waits_longer_until_it_is_enough() -> None:
    restarts = Restarts(lambda: 0.0)
    assert [restarts.ended() for _ in WAITS] == list(WAITS)
    assert restarts.ended() is None
    assert restarts.many == len(WAITS) + 1


def test_what_ran_for_a_while_begins_anew() -> None:
    now = [0.0]
    restarts = Restarts(lambda: now[0])
    for _ in range(50):
        assert restarts.ended() == WAITS[0]
        now[0] += WITHIN + 1


def test_an_end_is_told_in_words() -> None:
    assert how(3) == "exit status 3"
    assert how(-signal.SIGKILL) == "killed by SIGKILL"
    assert how(-63) == "killed by signal 63"
