"""/metrics, /healthz and /readyz of a process, on a port of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.again import plain_environment
from tests.rabbit import free_ports
from tests.working import working
from worker.clock import wait_until
from worker.embedded import EmbeddedServices

# A process that serves, and nothing else of Again's. It takes a line for each change of its state.
SERVES = """
import sys
from worker.runtime import alive, metrics
from worker.runtime.outages import broker

obstacle = None
its = metrics.Served("worker", "1.2", lambda: obstacle, (broker,))
print(metrics.serve("127.0.0.1", 0, its), flush=True)
for line in sys.stdin:
    match line.split(maxsplit=1):
        case ["obstacle", words]:
            obstacle = words.strip()
        case ["outage", words]:
            broker.failed(words.strip())
        case ["idle", seconds]:
            alive.note_idle(float(seconds))
    print("done", flush=True)
"""


class Serving:
    """What the process answers on its port."""

    def __init__(self, port: int, process: "subprocess.Popen[str] | None" = None) -> None:
        self.port, self._process = port, process

    def suffers(self, line: str) -> None:
        """Change its state."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def get(self, path: str) -> tuple[int, str]:
        """The status and the body of a path."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def figures(self) -> dict[str, float]:
        """The values of the metrics without labels."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {each.name: each.value for family in families for each in family.samples if not each.labels}


@contextmanager
def running() -> Iterator[Serving]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVES], env=plain_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Serving(int(process.stdout.readline()), process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def serving() -> Iterator[Serving]:
    """A process that serves."""
    with running() as process:
        yield process


def test_a_process_that_works_is_healthy_and_ready_and_has_figures(serving: Serving) -> None:
    for path in ("/healthz", "/readyz"):
        status, sentence = serving.get(path)
        assert (status, "runs; its main loop began a round" in sentence) == (200, True)
    figures = serving.figures()
    assert (figures["again_healthy"], figures["again_ready"], figures["again_idle_seconds"]) == (1, 1, 0)
    assert figures["process_cpu_seconds_total"] > 0
    text = serving.get("/metrics")[1]
    built = next(each for each in text_string_to_metric_families(text) if each.name == "again_build_info")
    assert [each.labels for each in built.samples] == [{"version": "1.2", "kind": "worker"}]
    assert len([line for line in text.splitlines() if not line.startswith("#")]) < 150


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("obstacle this database belongs to another environment", "belongs to another environment"),
        ("outage connection refused", "the broker has failed for"),
    ],
)
def test_what_no_restart_ends_makes_a_process_unready_and_not_unhealthy(
    serving: Serving, line: str, words: str
) -> None:
    """Guard: an outage of the database or the broker must not restart every process."""
    serving.suffers(line)
    status, sentence = serving.get("/readyz")
    assert (status, words in sentence) == (503, True)
    assert serving.get("/healthz")[0] == 200
    figures = serving.figures()
    assert (figures["again_healthy"], figures["again_ready"]) == (1, 0)


def test_a_process_that_finishes_nothing_is_unhealthy_as_again_alive_says(serving: Serving) -> None:
    serving.suffers("idle 400")
    for path in ("/healthz", "/readyz"):
        status, sentence = serving.get(path)
        assert (status, "has finished none for 400 s; restart it" in sentence) == (503, True)


def test_another_path_is_told_what_there_is(serving: Serving) -> None:
    assert serving.get("/") == (404, "there are /metrics, /healthz, /readyz\n")


def test_a_port_that_is_taken_is_refused_in_words(serving: Serving) -> None:
    code = "from worker.runtime.metrics import Served, serve; serve('127.0.0.1', {}, Served('beat', '1', str, ()))"
    done = subprocess.run(
        [sys.executable, "-c", code.format(serving.port)],
        env=plain_environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert "give each process of a machine a port of its own" in done.stderr


def test_a_worker_with_a_port_is_healthy_and_soon_ready(
    embedded: EmbeddedServices, migrated_template: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    setting = {"AGAIN_METRICS_PORT": str(port)}
    with working(embedded, migrated_template, embedded.broker_url, tmp_path, **setting) as worker:
        its = Serving(port)
        assert its.get("/healthz")[0] == 200
        assert wait_until(lambda: its.get("/readyz")[0] == 200, 120)
        assert f"worker (process {worker.pid}) runs" in its.get("/readyz")[1]
        assert 'kind="worker"' in its.get("/metrics")[1]
