"""One shop for all crash tests, whole again after each of them."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.acceptance.again import ROOT
from tests.crashes import process
from tests.crashes.shop import BRISK, Shop
from tests.installation import installed
from worker.clock import MovedClock

START = datetime(2026, 10, 20, 6, 0, tzinfo=UTC)  # some days before Berlin's clocks go back
PROGRAM = (sys.executable, "-m", process.__name__)


@pytest.fixture(scope="package")
def standing_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """All processes, ready to die on order."""
    orders = tmp_path_factory.mktemp("orders")
    clock = tmp_path_factory.mktemp("clock") / "clock"
    MovedClock(clock).move_to(START)
    settings = {"PYTHONPATH": str(ROOT), process.FOLDER: str(orders), "AGAIN_CLOCK_FILE": str(clock)}
    with installed(BRISK | settings, PROGRAM) as installation:
        shop = Shop(installation, orders)
        shop.set_time(START)
        yield shop
        shop.mend()


@pytest.fixture
def shop(standing_shop: Shop) -> Iterator[Shop]:
    """The shop, with everything running and nothing ordered."""
    yield standing_shop
    standing_shop.mend()
