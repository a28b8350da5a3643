"""A shop for each module of crash tests, whole again before each test."""

import sys
from collections.abc import Iterator

import pytest

from tests.acceptance.again import ROOT
from tests.crashes import process
from tests.crashes.shop import BRISK, Shop
from tests.installation import installed

PROGRAM = (sys.executable, "-m", process.__name__)


@pytest.fixture(scope="module")
def standing_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """All processes, ready to die on order."""
    orders = tmp_path_factory.mktemp("orders")
    clock = tmp_path_factory.mktemp("clock") / "clock"
    settings = {"PYTHONPATH": str(ROOT), process.FOLDER: str(orders), "AGAIN_CLOCK_FILE": str(clock)}
    with installed(BRISK | settings, PROGRAM) as installation:
        shop = Shop(installation, orders)
        yield shop
        shop.mend()


@pytest.fixture
def shop(standing_shop: Shop) -> Iterator[Shop]:
    """The module's shop, with everything running and nothing ordered."""
    yield standing_shop
    standing_shop.mend()
