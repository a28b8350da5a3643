"""A database without a free connection for a while: the log has some lines about it, and all is made up for."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql

from tests.installation import QUICK, Installation, installed
from tests.services import drop_database, fresh_database
from worker.clock import wait
from worker.embedded import EmbeddedServices

pytestmark = pytest.mark.timeout(300)
OUTAGE = 8.0  # seconds, for which lines are counted; beat ticks five times a second, and rings for ten chores
MOST_LINES = 6  # of one process in the meantime, fewer than one a second: one for each thing that fails


@pytest.fixture
def shop(embedded: EmbeddedServices) -> Iterator[Installation]:
    """An installation that connects as a role whose connections can be limited: a superuser's cannot."""
    database = fresh_database(embedded)
    with embedded.postgres.connect() as admin:
        admin.execute("CREATE ROLE limited LOGIN")
        name = sql.Identifier(database.partition("@/")[2].partition("?")[0])
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO limited").format(name))
    settings = QUICK | {
        "AGAIN_DATABASE_URL": database.replace("//again@", "//limited@"), "AGAIN_BROKER_URL": embedded.broker_url,
    }  # fmt: skip
    with installed(settings) as installation:
        yield installation
    drop_database(embedded, database)
    with embedded.postgres.connect() as admin:
        admin.execute("DROP ROLE limited")


@contextmanager
def no_connections(embedded: EmbeddedServices) -> Iterator[None]:
    """End all connections of the role, and let it have no new one."""
    with embedded.postgres.connect() as admin:
        admin.execute("ALTER ROLE limited CONNECTION LIMIT 0")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'limited'")
        try:
            yield
        finally:
            admin.execute("ALTER ROLE limited CONNECTION LIMIT -1")


def logs(shop: Installation) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (shop.standing.data / "logs").glob("*.log")}


def test_few_connections_do_not_flood_the_log(shop: Installation, embedded: EmbeddedServices) -> None:
    shop.wait_for(shop.customer("before", "now"), "paid")
    key = shop.customer("meanwhile", "now")
    before = {name: len(words) for name, words in logs(shop).items()}
    with no_connections(embedded):
        shop.services.engine.dispose()
        wait(OUTAGE)
        during = {name: words[before[name] :] for name, words in logs(shop).items()}
    shop.services.engine.dispose()
    for name, words in during.items():
        lines = words.splitlines()
        assert len(lines) <= MOST_LINES, (name, lines)
        if name.startswith("beat"):
            assert "the database fails: " in words
    shop.wait_for(key, "paid", 90)
