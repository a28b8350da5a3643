"""The services that tests run against: real PostgreSQL and Valkey, started once for each test process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from tests.doubles import ScriptedGateway
from tests.factories import START
from tests.services import drop_database, end_engine, fresh_database, session_services
from worker.clock import FixedClock
from worker.config import Settings
from worker.embedded import EmbeddedServices
from worker.operations import operate
from worker.services import Services
from worker.store.engine import make_engine
from worker.store.operations import revisions
from worker.wiring import fingerprint_in

TESTS = Path(__file__).parent

# The folders whose files take long. They begin first: short files fill the end of a run on several processes.
LONG = ("acceptance", "benchmarks", "scenarios", "crashes", "model", "mutants")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by their folders; `--no-loadscope-reorder` keeps this order."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    return LONG.index(folder) if folder in LONG else len(LONG)


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedServices]:
    """PostgreSQL and Valkey for this test process, thrown away afterwards."""
    with session_services() as services:
        yield services


@pytest.fixture(scope="session")
def migrated_template(embedded: EmbeddedServices) -> str:
    """A database with our tables, to be copied for each test."""
    url = fresh_database(embedded)
    engine = create_engine(url)
    revisions.migrate(engine)
    engine.dispose()
    return url


@pytest.fixture
def empty_database(embedded: EmbeddedServices) -> Iterator[str]:
    """The address of a database without tables."""
    url = fresh_database(embedded)
    yield url
    drop_database(embedded, url)


@pytest.fixture
def database(embedded: EmbeddedServices, migrated_template: str) -> Iterator[str]:
    """The address of a database of this test's own, at the newest revision."""
    url = fresh_database(embedded, template=migrated_template)
    yield url
    drop_database(embedded, url)


@pytest.fixture
def gateway() -> ScriptedGateway:
    """A gateway that approves everything until it is told otherwise."""
    return ScriptedGateway()


@pytest.fixture
def services(database: str, gateway: ScriptedGateway) -> Iterator[Services]:
    """Workflows' services on a real database, with a clock that stands and a gateway that is scripted."""
    settings = Settings(
        _env_file=None, environment="test", database_url=database, broker_url="redis://127.0.0.1:1/0",
        portone_url="http://127.0.0.1:1", portone_key="key", portone_secret="secret", rate=0,
    )  # fmt: skip
    engine = make_engine(settings.sqlalchemy_url, 20, "again-test")
    made = Services(settings, FixedClock(START), engine, {"main": gateway}, fingerprint_in(settings))
    operate.bind_if_new(made, "test")
    yield made
    end_engine(engine)
