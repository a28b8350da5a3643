"""The baselines run, clean up, and say what they measured; how fast they are is no test's matter."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import create_engine, inspect

from worker.embedded import EmbeddedServices

ROOT = Path(__file__).resolve().parents[2]
RACE = {"name", "charges", "seconds", "per_second", "cpu_ms_per_charge", "processes", "concurrency"}
TICK = {"tick_cpu_ms", "tick_wall_ms", "lag_p50_s", "lag_p99_s", "fill_s", "start_s", "reload_s"}


class Gateway(BaseHTTPRequestHandler):
    """Approves every charge after 5 ms."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(0.005)
        paid = {"status": "paid", "imp_uid": f"imp_{asked['merchant_uid']}", **asked}
        body = json.dumps({"code": 0, "message": None, "response": paid}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def quick_gateway() -> Iterator[str]:
    """The address of a gateway that approves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


def run(baseline: str, *options: str) -> Any:
    """What the baseline prints in its last line."""
    command = [sys.executable, "-m", f"benchmarks.baselines.{baseline}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def schemas_and_tables(database: str) -> list[str]:
    """What stands in a database."""
    engine = create_engine(database)
    found = inspect(engine)
    names = [*found.get_schema_names(), *found.get_table_names()]
    engine.dispose()
    return names


def keys(broker: str) -> set[bytes]:
    """The keys in the broker, but for kombu's own list that all queues share."""
    with Redis.from_url(broker) as client:
        return set(client.scan_iter()) - {b"_kombu.binding_deadlines"}


def race(baseline: str, embedded: EmbeddedServices, database: str, gateway: str) -> Any:
    """Forty charges, two processes of two."""
    return run(
        baseline, "--database-url", database, "--broker-url", embedded.broker_url, "--gateway", gateway,
        "--charges", "40", "--processes", "2", "--concurrency", "4",
    )  # fmt: skip


def test_the_hand_written_program_collects_every_charge(
    embedded: EmbeddedServices, empty_database: str, quick_gateway: str
) -> None:
    figures = race("handwritten", embedded, empty_database, quick_gateway)
    assert set(figures) == RACE | {"client"}
    assert (figures["name"], figures["charges"], figures["concurrency"]) == ("hand-written", 40, 4)
    assert not [name for name in schemas_and_tables(empty_database) if "handwritten" in name]


def test_the_durable_engine_collects_every_charge(
    embedded: EmbeddedServices, empty_database: str, quick_gateway: str
) -> None:
    figures = race("durable", embedded, empty_database, quick_gateway)
    assert set(figures) == RACE
    assert (figures["name"], figures["charges"], figures["concurrency"]) == ("dbos", 40, 4)
    assert not [name for name in schemas_and_tables(empty_database) if "durable" in name or "dbos" in name]


@pytest.mark.skipif(
    sys.version_info >= (3, 15), reason="sqlalchemy-celery-beat needs ephem, which has no wheel for Python 3.15"
)
def test_both_schedulers_tick_send_and_leave_nothing(embedded: EmbeddedServices, empty_database: str) -> None:
    before = keys(embedded.broker_url), schemas_and_tables(empty_database)
    options = ["--database-url", empty_database, "--broker-url", embedded.broker_url, "--entries", "50"]
    figures = run("schedulers", *options)
    assert set(figures) == {"entries", "redbeat", "sqlalchemy_celery_beat"}
    assert set(figures["redbeat"]) == set(figures["sqlalchemy_celery_beat"]) == TICK
    assert (keys(embedded.broker_url), schemas_and_tables(empty_database)) == before


def test_a_baseline_without_a_database_fails_in_words(embedded: EmbeddedServices) -> None:
    command = [
        sys.executable, "-m", "benchmarks.baselines.durable", "--database-url", "postgresql+psycopg://x@127.0.0.1:1/x",
        "--broker-url", embedded.broker_url, "--gateway", "http://127.0.0.1:1", "--charges", "1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed: " in done.stderr
