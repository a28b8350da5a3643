"""The endpoints of one process: /metrics for Prometheus, /healthz and /readyz for its supervisor.

They answer from a thread of their own and ask neither the database nor the broker. /healthz is the check of
`again alive`: it fails for what a restart ends. /readyz also fails while the process cannot work.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schedules.errors import Code, FixedCode
from schedules.operations.alive import fault, state
from worker.clock import SystemClock, elapsed
from worker.runtime import alive, background
from worker.runtime.background import Part
from worker.runtime.outages import Outage

log = logging.getLogger("again.metrics")
SLOWEST_CLIENT = 5.0  # seconds in which a client must have sent its request
TEXT = "text/plain; charset=utf-8"
FORMAT = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus
PATHS = ("/metrics", "/healthz", "/readyz")


class CannotServe(FixedCode, code=Code.HELD):
    """The address of AGAIN_METRICS_HOST and AGAIN_METRICS_PORT cannot be used."""


@dataclass(frozen=True, slots=True)
class Served:
    """The process whose state is served."""

    kind: str
    version: str
    obstacle: Callable[[], str | None]  # why it takes no charges
    outages: Sequence[Outage]  # of what it cannot work without

    def health(self) -> tuple[bool, str]:
        """Whether it works, and a sentence; a restart ends what does not."""
        record, now = alive.current(self.kind, self.obstacle()), elapsed()
        wrong = fault(record, now)
        return wrong is None, wrong or state(record, now)

    def readiness(self) -> tuple[bool, str]:
        """Whether it works and can do its work now, and a sentence."""
        works, sentence = self.health()
        if not works:
            return False, sentence
        record = alive.current(self.kind, self.obstacle())
        if record.obstacle is not None or record.waits_for is not None:
            return False, sentence
        for outage in self.outages:
            if (since := outage.lasts()) is not None:
                return False, f"{record.name} runs, and {outage.what} has failed for {since:.0f} s"
        return True, sentence


class _Collected(Collector):
    """The figures of the process, read when they are scraped."""

    def __init__(self, its: Served) -> None:
        self._its = its

    def collect(self) -> Iterable[Metric]:
        """Yield each figure."""
        record = alive.current(self._its.kind, self._its.obstacle())
        built = GaugeMetricFamily(
            "again_build_info", "Version and kind of the process.", labels=("version", "kind")
        )
        built.add_metric((self._its.version, self._its.kind), 1)
        yield built
        turned = GaugeMetricFamily(
            "again_loop_turn_timestamp_seconds", "When each loop of the process last turned.", labels=("loop",)
        )
        turned.add_metric(("main",), SystemClock().real().timestamp() - (elapsed() - record.looped_at))
        yield turned
        yield GaugeMetricFamily("again_idle_seconds", "Seconds without progress while work waits.", record.idle)
        yield GaugeMetricFamily("again_healthy", "1 while /healthz answers 200.", self._its.health()[0])
        yield GaugeMetricFamily("again_ready", "1 while /readyz answers 200.", self._its.readiness()[0])


class _Server(HTTPServer):
    its: Served
    registry: CollectorRegistry

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 # of the base class
        """Log the error of one request; a client that goes away is none."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("a request to the metrics port failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SLOWEST_CLIENT
    server_version, sys_version = "again", ""

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, generate_latest(self.server.registry), FORMAT)
            case "/healthz":
                self._say(*self.server.its.health())
            case "/readyz":
                self._say(*self.server.its.readiness())
            case _:
                self._answer(404, f"there are {', '.join(PATHS)}\n".encode(), TEXT)

    def _say(self, good: bool, sentence: str) -> None:
        self._answer(200 if good else 503, f"{sentence}\n".encode(), TEXT)

    def _answer(self, status: int, body: bytes, form: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", form)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: there is one every few seconds."""


def serve(host: str, port: int | None, its: Served) -> int | None:
    """Serve the endpoints from a thread, and return the port; without a port, do nothing. Raises CannotServe."""
    if port is None:
        return None
    try:
        server = _Server((host, port), _Handler)
    except OSError as error:
        raise CannotServe(
            f"AGAIN_METRICS_HOST {host!r} and AGAIN_METRICS_PORT {port} cannot be used: {error.strerror}; give "
            "each process of a machine a port of its own"
        ) from None
    server.its, server.registry = its, CollectorRegistry()
    server.registry.register(_Collected(its))
    ProcessCollector(registry=server.registry)
    background.start(Part.METRICS, server.serve_forever)
    return server.server_port
