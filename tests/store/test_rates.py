"""The rate cap: grants are one interval apart, whoever asks."""

import pytest

from worker.services import Services
from worker.store.charging import rates


def test_grants_are_one_interval_apart(services: Services) -> None:
    waits = []
    for _ in range(5):
        with services.engine.begin() as db:
            waits.append(rates.grant(db, "main", 2, 60))
    assert waits[0] == pytest.approx(0, abs=0.01)
    # Half a second apart, less the little time that passed between the asks.
    for place, wait in enumerate(waits):
        assert wait is not None
        assert 0.5 * place - 0.45 <= wait <= 0.5 * place + 0.01


def test_who_would_wait_too_long_is_sent_away_and_moves_nothing(services: Services) -> None:
    def ask(patience: float) -> float | None:
        with services.engine.begin() as db:
            return rates.grant(db, "main", 0.01, patience)

    assert ask(1) == pytest.approx(0, abs=0.01)
    assert ask(1) is None
    assert ask(1) is None
    wait = ask(200)
    assert wait is not None
    assert 95 < wait <= 100


def test_accounts_do_not_wait_for_each_other(services: Services) -> None:
    with services.engine.begin() as db:
        rates.grant(db, "main", 0.01, 1)
        assert rates.grant(db, "other", 0.01, 1) == pytest.approx(0, abs=0.01)
