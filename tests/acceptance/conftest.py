"""An installation that the tests of a module share."""

from collections.abc import Iterator

import pytest

from tests.installation import Installation, installed


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """Everything, as `again up` runs it, with two beats."""
    with installed() as running:
        yield running
