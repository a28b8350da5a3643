"""The engine of a test: when the test ends, no thread of it leaves a connection open."""

import threading
from typing import Any

from tests.services import end_engine
from worker.store.engine import make_engine


def test_a_connection_that_a_thread_still_holds_is_closed_with_its_engine(database: str) -> None:
    engine = make_engine(database, 5, "again-test")
    held, ending, opened = threading.Event(), threading.Event(), list[Any]()

    def hold() -> None:
        with engine.connect() as db:
            opened.append(db.connection.dbapi_connection)
            held.set()
            ending.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    threading.Timer(0.1, ending.set).start()
    end_engine(engine)
    thread.join()
    assert opened[0].closed
