"""What every test of the model needs."""

from collections.abc import Iterator

import pytest

from tests.model.shops import quiet


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    """Log nothing during a run, and log again after it."""
    with quiet():
        yield
