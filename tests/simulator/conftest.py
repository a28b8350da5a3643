"""A real simulator on a free port, for the tests of this folder and of the gateway."""

from collections.abc import Iterator

import pytest

from tests.simulator.running import RunningSimulator, running_simulator


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    """A simulator of this module's own."""
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: RunningSimulator) -> RunningSimulator:
    """The module's simulator, with everything forgotten."""
    running.tell("reset", {})
    running.forget_token()
    return running
