"""Any interleaving that Hypothesis can think of, on the product's own workflows and real PostgreSQL."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.model.driving import ANCHOR
from tests.model.gateway import Fate, Weather
from tests.model.postgres import PostgresBooks, shop_on_postgres, stops_on
from tests.model.stage import Choose, Move, Process, Stage
from worker.services import Services

CUSTOMERS = ("ann", "bob")
STEPS = st.integers(1, 14)  # an attempt has 13 stops
PASSING = timedelta(seconds=1)
# Around the lease (300 s), the quiet time (900 s), the asking schedule and the ladder; and shorter than all.
LEAPS = tuple(timedelta(seconds=s) for s in (1, 31, 120, 301, 901, 7200, 86400, 3 * 86400))
DELAYS = {
    Fate.SLOW: timedelta(seconds=450),
    Fate.SHOWN_LATE: timedelta(seconds=550),
    Fate.LATE_PAID: timedelta(hours=30),
}


class Protocol(RuleBasedStateMachine):
    """One shop with two customers; each rule is one step of a process, a person, the broker or the clock."""

    services: Services  # of the one database that all runs use, one after the other
    empty: object  # what it held at first

    def __init__(self) -> None:
        super().__init__()
        self._ended = ExitStack()
        self.backup: object = None
        stage = Stage()
        PostgresBooks(self.services).restore(self.empty)
        self.world = shop_on_postgres(self.services, stage)
        self.world.arrange(CUSTOMERS, (ANCHOR, ANCHOR))
        self._ended.enter_context(stops_on(self.services, stage))
        self.world.move(timedelta(days=1))
        self.world.open_due()
        self.world.top_up()

    @property
    def parked(self) -> list[Process]:
        return self.world.stage.parked

    @precondition(lambda self: not self._locks_are_held())
    @rule(at=st.integers(0, 9), stops=STEPS, move=st.sampled_from((Move.PARK, Move.PARK, Move.KILL, Move.PASS)))
    def a_worker_takes_a_message(self, at: int, stops: int, move: Move) -> None:
        if self.world.broker:
            message = self.world.broker.pop(at % len(self.world.broker))
            self.world.deliver(message, after(stops, move), parks=move is Move.PARK)

    @rule(at=st.integers(0, 9))
    def a_message_comes_twice(self, at: int) -> None:
        if self.world.broker:
            self.world.broker.append(self.world.broker[at % len(self.world.broker)])

    @rule()
    def the_broker_loses_everything(self) -> None:
        self.world.broker.clear()

    @precondition(lambda self: self.parked)
    @rule(at=st.integers(0, 9), stops=STEPS, move=st.sampled_from(tuple(Move)))
    def a_process_goes_on(self, at: int, stops: int, move: Move) -> None:
        process = self._one_of_the_parked(at)
        self.world.stage.go_on(process, after(stops, move))

    @precondition(lambda self: self.parked)
    @rule(at=st.integers(0, 9))
    def a_process_is_killed(self, at: int) -> None:
        self.world.stage.kill(self._one_of_the_parked(at))

    @rule(stops=STEPS, move=st.sampled_from(tuple(Move)))
    def a_beat_rings_for_what_is_due(self, stops: int, move: Move) -> None:
        self.world.open_due(after(stops, move), parks=move is Move.PARK)
        self.world.top_up()

    @rule(stops=STEPS, move=st.sampled_from(tuple(Move)))
    def a_beat_rings_for_what_is_unclear(self, stops: int, move: Move) -> None:
        self.world.sweep(after(stops, move), parks=move is Move.PARK)
        self.world.ask_due()

    @rule(leap=st.sampled_from(LEAPS))
    def time_passes(self, leap: timedelta) -> None:
        self.world.move(leap)

    @rule(fate=st.sampled_from(tuple(Fate)))
    def the_weather_changes(self, fate: Fate) -> None:
        weather = Weather(fate, DELAYS.get(fate, PASSING))
        self.world.gateway.weather = lambda: weather

    @rule(customer=st.sampled_from(CUSTOMERS))
    def a_card_changes(self, customer: str) -> None:
        self.world.gateway.declining ^= {customer}

    @rule(answers=st.booleans())
    def the_gateway_answers_questions_or_not(self, answers: bool) -> None:
        self.world.gateway.answers_asks = lambda: answers

    @precondition(lambda self: not self._locks_are_held())
    @rule(at=st.integers(0, 1))
    def a_customer_leaves(self, at: int) -> None:
        self.world.cancel(self.world.subscriptions[at])

    @rule(stop=st.booleans())
    def charging_is_stopped_or_goes_on(self, stop: bool) -> None:
        if stop:
            self.world.stop_charging()
        else:
            self.world.resume_charging()

    @precondition(lambda self: not self._locks_are_held())
    @rule(stops=STEPS, move=st.sampled_from(tuple(Move)))
    def the_reconciler_works(self, stops: int, move: Move) -> None:
        self.world.reconcile(after(stops, move), parks=move is Move.PARK)

    @rule()
    def a_backup_is_made(self) -> None:
        self.backup = self.world.books.backup()

    @precondition(lambda self: self.backup is not None and not self.world.books.is_on_hold())
    @rule()
    def the_backup_is_restored(self) -> None:
        self.world.restore(self.backup)

    @rule()
    def the_hold_goes_on(self) -> None:
        self.world.lift_hold()

    @invariant()
    def every_charge_is_as_it_must_be(self) -> None:
        self.world.look()

    def teardown(self) -> None:
        try:
            self.world.gateway.weather = Weather
            self.world.gateway.answers_asks = lambda: True
            self.world.gateway.declining.clear()
            self.world.resume_charging()
            self.world.end()
        finally:
            self._ended.close()

    def _locks_are_held(self) -> bool:
        """Whether a process stands inside a transaction, so that others might have to wait for it."""
        return any(process.holds_locks for process in self.parked)

    def _one_of_the_parked(self, at: int) -> Process:
        """Whoever holds locks goes first: as in life, the others wait for it."""
        holding = [process for process in self.parked if process.holds_locks]
        return holding[0] if holding else self.parked[at % len(self.parked)]


def after(stops: int, move: Move) -> Choose:
    """Straight on until the nth stop; there it parks or dies."""
    left = stops

    def choose(stop: str) -> Move:
        nonlocal left
        left -= 1
        return move if left <= 0 else Move.PASS

    return choose


@pytest.fixture
def machine(services: Services) -> Iterator[type[Protocol]]:
    """The state machine on this test's own database."""
    Protocol.services = services
    Protocol.empty = PostgresBooks(services).backup()
    yield Protocol
    del Protocol.services, Protocol.empty


def test_any_interleaving_ends_with_one_payment_for_a_debt_or_a_finding(machine: type[Protocol]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=tuple(HealthCheck),
        ),
    )
