"""`again worker`, `beat` and `listen`: long-running processes."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedules.errors import Code, FixedCode
from worker.clock import wait
from worker.logs import log_to_stderr
from worker.runtime import alive, background, stop_signal
from worker.runtime.background import Part

if TYPE_CHECKING:
    from worker.operations.heartbeats import Heartbeats
    from worker.services import Services

log = logging.getLogger("again.running")
STOP_MARGIN = 20.0  # seconds that a stop may take beyond one call, to write the outcomes
BREATH = 1.0  # seconds before a worker that ended is started again

app = typer.Typer()


class CannotListen(FixedCode, code=Code.HELD):
    """A package that listening needs is not installed."""


UntilStdinCloses = Annotated[
    bool, typer.Option("--until-stdin-closes", help="Stop, as on SIGTERM, when standard input closes.")
]
AliveFile = Annotated[
    Path | None, typer.Option("--alive-file", help="Where this process records that it works, for `again alive`.")
]


@app.command("worker")
def worker(
    queues: Annotated[str, typer.Option(help="Which queues, with commas; all unless given.")] = "",
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=256, help="Threads; AGAIN_CONCURRENCY unless given.")
    ] = None,
    name: Annotated[str, typer.Option(help="Celery's node name.")] = "again@%h",
    alive_file: AliveFile = None,
    until_stdin_closes: UntilStdinCloses = False,
) -> None:
    """Run a worker until SIGTERM; then it finishes the calls under way and begins no others."""
    from schedules.operations.queues import BULK, CHARGES, QUEUES
    from worker import wiring

    chosen = [queue.strip() for queue in queues.split(",") if queue.strip()] or list(QUEUES)
    unknown = sorted(set(chosen) - set(QUEUES))
    if unknown:
        raise typer.BadParameter(f"queue {', '.join(unknown)} is not known; there are {', '.join(QUEUES)}")
    if concurrency is not None:
        # The number of connections and concurrent calls follows this setting.
        os.environ["AGAIN_CONCURRENCY"] = str(concurrency)
    made = wiring.services()
    _use_our_logs()
    _warn_of_wrong_place(made)
    if until_stdin_closes:
        _stop_when_stdin_closes()
    from worker import restore_detector, tasks
    from worker.tasks import app as celery

    executor = tasks.executor()
    executor.start()
    stop_signal.call_when_told(executor.stop)
    alive.begin(alive_file, "worker", lambda: executor.readiness.obstacle)
    _serve_metrics("worker", lambda: executor.readiness.obstacle)
    background.start(Part.STOP_LIMIT, partial(_limit_stop, made.settings.call_deadline + STOP_MARGIN))
    if {CHARGES, BULK} & set(chosen):
        executor.readiness.look()  # before the first message
        background.start(Part.READINESS, executor.readiness.watch)
    restore_detector.check(celery, made)
    heartbeats = _report_messages(made, chosen)
    threads = made.settings.concurrency
    arguments = [
        "--quiet", "worker", "--pool=threads", f"--concurrency={threads}", f"--queues={','.join(chosen)}",
        f"--hostname={name}", "--without-gossip", "--without-mingle", f"--loglevel={made.settings.log_level}",
    ]  # fmt: skip

    def run() -> None:
        try:
            celery.worker_main(arguments)
        finally:
            executor.finish()

    _restart_until_stop_signal(run, heartbeats)


def _limit_stop(seconds: float) -> None:
    """End the process with a log line when a stop takes so many seconds.

    A supervisor would kill it soon after, without a log line.
    """
    while not stop_signal.wait(1.0):
        pass
    wait(seconds)
    log.error("the worker was told to stop %g s ago and still works; it ends; see `again unknown`", seconds)
    os._exit(background.FAILED)


def _report_messages(made: "Services", queues: Sequence[str]) -> "Heartbeats":
    """Send heartbeats that report when a message was finished, or that none waited."""
    from celery.signals import task_postrun, task_prerun

    from schedules.operations.health import ProcessKind
    from worker import tasks
    from worker.operations.heartbeats import Heartbeats

    in_hand: set[str] = set()

    def has_work() -> bool:
        return bool(in_hand) or tasks.messages_in(*queues) > 0

    readiness = tasks.executor().readiness
    heartbeats = Heartbeats(made, ProcessKind.WORKER, queues, has_work, lambda: readiness.obstacle)

    def begin(task_id: str, **_: object) -> None:
        in_hand.add(task_id)

    def note(task_id: str, **_: object) -> None:
        in_hand.discard(task_id)
        heartbeats.progressed()

    task_prerun.connect(begin, weak=False)
    task_postrun.connect(note, weak=False)
    heartbeats.start()
    return heartbeats


def _restart_until_stop_signal(run: Callable[[], object], heartbeats: "Heartbeats") -> None:
    """Run a worker; when it ends without a stop signal, replace the process by a new one.

    kombu's Redis transport can break a worker whose broker is killed while it holds messages. The rows are
    authoritative, so a new process loses nothing.
    """
    from celery.signals import worker_shutting_down

    signals: list[str] = []

    def note(sig: str, **_: object) -> None:
        signals.append(sig)

    worker_shutting_down.connect(note)
    try:
        run()
    except SystemExit as ended:
        if signals or ended.code:
            raise  # a stop signal, or an error at the start such as a wrong option
    finally:
        heartbeats.stop(in_order=bool(signals))
    if signals:
        return
    # Celery reports success also after a failure.
    log.error("the worker ended without a signal to stop; it is started again")
    wait(BREATH)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 # the same program


@app.command("beat")
def beat(alive_file: AliveFile = None, until_stdin_closes: UntilStdinCloses = False) -> None:
    """Run a beat until SIGTERM; several may run, and one of them is active."""
    from worker import wiring

    made = wiring.services()
    _use_our_logs()
    _warn_of_wrong_place(made)
    if until_stdin_closes:
        _stop_when_stdin_closes()
    from worker.tasks import app as celery

    runner = celery.Beat(
        scheduler="worker.beat:PlanScheduler", loglevel=made.settings.log_level, quiet=True, redirect_stdouts=False
    )
    alive.begin(alive_file, "beat")
    _serve_metrics("beat")
    runner.run()


@app.command("listen")
def listen(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where to listen.")] = 8020,
    trust_proxy: Annotated[
        str,
        typer.Option(
            "--trust-proxy",
            help="Addresses or networks of the proxies in front, with commas: their X-Forwarded-For is believed.",
        ),
    ] = "",
    alive_file: AliveFile = None,
    until_stdin_closes: UntilStdinCloses = False,
) -> None:
    """Receive PortOne's webhooks at /portone until SIGTERM; each only causes a look-up at the gateway."""
    try:
        from schedules.operations.health import ProcessKind
        from worker.listener import Door, networks, server
    except ImportError as error:
        raise CannotListen(f"{error.name} is not installed; install again[listener]") from None
    from worker import tasks, wiring
    from worker.operations.heartbeats import Heartbeats
    from worker.renewals.enqueue import BrokerUnreachable

    made = wiring.services()
    _use_our_logs()
    if until_stdin_closes:
        _stop_when_stdin_closes()
    allowed = networks(made.settings.listener_allow)
    try:
        proxies = networks(trust_proxy)
    except ValueError as error:
        raise typer.BadParameter(f"--trust-proxy {trust_proxy!r}: {error}; give addresses or networks") from None

    def hand_on(merchant_uid: str) -> None:
        try:
            tasks.hand_on(merchant_uid)
        except BrokerUnreachable as error:
            raise ConnectionError(str(error)) from None

    door = Door(allowed, proxies, hand_on)
    print(f"listening at http://{host}:{port}/portone", flush=True)
    # uvicorn ends in order, and then raises the signal again: no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    heartbeats = Heartbeats(made, ProcessKind.LISTENER)
    alive.begin(alive_file, "listener")
    _serve_metrics("listener")
    heartbeats.start()
    try:
        server(door, host, port).run()
    finally:
        heartbeats.stop(in_order=not isinstance(sys.exc_info()[1], Exception))


def _stop_when_stdin_closes() -> None:
    """Stop when standard input closes: when the process at its other end has ended in any way."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    background.start(Part.STDIN, watch)


def _warn_of_wrong_place(made: "Services") -> None:
    from worker import wiring

    wrong = wiring.wrong_place(made)
    if wrong is not None:
        log.warning("%s", wrong)
        return
    wiring.bind_and_warn(made, "start")


def _serve_metrics(kind: str, obstacle: Callable[[], str | None] = lambda: None) -> None:
    from worker import wiring
    from worker.config import installed_version
    from worker.runtime import metrics, outages
    from worker.store import failures

    settings = wiring.settings()
    its = metrics.Served(kind, installed_version(), obstacle, (failures.outage, outages.broker))
    metrics.serve(settings.metrics_host, settings.metrics_port, its)


def _use_our_logs() -> None:
    from celery.signals import setup_logging

    from worker import wiring

    settings = wiring.settings()
    log_to_stderr(settings.log_level, settings.log_format)
    # With a receiver of this signal, Celery sets up no logs.
    setup_logging.connect(_leave_logs_alone)


def _leave_logs_alone(**_: object) -> None:
    pass
