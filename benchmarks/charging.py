"""Charging: the whole path with two workers, beside the calls alone and two other ways to write it."""

import argparse
import json
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from celery import Celery

from benchmarks import shop
from benchmarks.place import PYTHON, LightGateway, Place, Seen, cpu_of, cpu_of_all, memory_of, placed
from tests.rabbit import program, rabbit
from worker.clock import wait_until

SLOTS = (64, 96, 128)  # threads of one process; the best figure counts
WORKERS = 2
THREADS = 96  # of each worker of Again


@dataclass(frozen=True, slots=True)
class Figure:
    """The figures of one way of charging."""

    name: str
    charges: int
    per_second: float
    cpu_ms: float  # CPU of the charging processes per charge
    words: str = ""


def floor(calls: int) -> Figure:
    """The calls alone, from two processes, at the best number of slots."""
    best: Figure | None = None
    for slots in SLOTS:
        with LightGateway() as gateway:
            programs = [
                subprocess.Popen(
                    [PYTHON, "-m", "benchmarks.floor", "--gateway", gateway.url, "--calls", str(calls // WORKERS),
                     "--slots", str(slots), "--seed", str(seed)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
                for seed in range(WORKERS)
            ]  # fmt: skip
            for program in programs:
                assert program.stdout is not None
                program.stdout.readline()
            for program in programs:
                assert program.stdin is not None
                program.stdin.write("\n")
                program.stdin.flush()
            figures = [json.loads(program.communicate()[0]) for program in programs]
            seen = gateway.seen()
        cpu = sum(each["cpu"] for each in figures) / len(seen.arrivals) * 1e3
        figure = Figure("floor", len(seen.arrivals), seen.per_second, cpu, f"{slots} slots in each of {WORKERS}")
        if best is None or figure.per_second > best.per_second:
            best = figure
    assert best is not None
    return best


def over_rabbitmq(charges: int) -> dict[str, Any] | None:
    """Both ways over quorum queues of RabbitMQ; None without a server on this machine."""
    if program("rabbitmq-server") is None:
        return None
    with rabbit() as node:
        both = {"envelopes": True, "messages": False}
        return {name: asdict(ours(charges, envelopes=so, broker=node.url)) for name, so in both.items()}


def ours(charges: int, *, envelopes: bool, threads: int = THREADS, broker: str | None = None) -> Figure:
    """The whole path: beat sends chores, a worker dispatches, two workers charge."""
    changes = {
        "AGAIN_RATE": "10000", "AGAIN_QUEUE_BOUND": "4000", "AGAIN_CONCURRENCY": str(threads),
    } | ({"AGAIN_BROKER_URL": broker} if broker else {})  # fmt: skip
    with LightGateway() as gateway, placed(gateway.url, **changes) as place:
        shop.on_sale(place)
        shop.charges_due(place, charges)
        workers = [place.start("worker", "--name", f"w{n}@here") for n in range(WORKERS)]
        ready(place)
        before = cpu_of_all([worker.pid for worker in workers])
        servers = [place.embedded.postgres.pid, place.embedded.valkey.pid]
        cpu_of_servers = cpu_of_all([pid for pid in servers if pid])
        cpu_of_gateway = cpu_of(gateway.process.pid)
        if envelopes:
            place.start("beat")
        else:
            _send_each(place)
        place.wait_for("SELECT count(*) FROM charges WHERE status <> 'paid'", 0, 60 + charges / 20)
        seen = gateway.seen()
        cpu = (cpu_of_all([worker.pid for worker in workers]) - before) / charges * 1e3
        database = (cpu_of_all([servers[0] or 0]) + cpu_of_all([servers[1] or 0]) - cpu_of_servers) / charges * 1e3
        gate = (cpu_of(gateway.process.pid) - cpu_of_gateway) / charges * 1e3
        memory = max(memory_of(worker.pid) for worker in workers)
        checked(place, seen, charges)
    name = "envelopes" if envelopes else "one message a charge"
    words = f"servers {database:.2f} ms, gateway {gate:.2f} ms, {threads} threads, {memory:.0f} MB each at most"
    return Figure(name, charges, seen.per_second, cpu, words)


def _send_each(place: Place) -> None:
    """Publish one message for each charge, all at once, so that they wait in the broker."""
    with psycopg.connect(place.url) as db:
        ids = [row[0] for row in db.execute("SELECT id FROM charges ORDER BY next_attempt_at")]
        db.execute("UPDATE charges SET queued_until = now() + interval '1 hour'")
    with Celery(broker=place.environment["AGAIN_BROKER_URL"]) as client, client.producer_or_acquire() as producer:
        producer.auto_declare = False
        client.conf.task_create_missing_queue_type = "quorum"  # Redis ignores it
        for charge in ids:
            client.send_task(
                "again.charge", (charge,), producer=producer, queue="charges.bulk", ignore_result=True
            )


def ready(place: Place, workers: int = WORKERS) -> None:
    """Wait until the log of each worker says that it is ready."""

    def are_ready() -> bool:
        return sum(" ready." in log.read_text() for log in place.logs.glob("worker-*.log")) >= workers

    if not wait_until(are_ready, 60):
        raise SystemExit("the workers were not ready within a minute")


def checked(place: Place, seen: Seen, charges: int) -> None:
    """Exit with an error if a charge was lost or paid twice."""
    if seen.doubles or len(seen.arrivals) != charges:
        raise SystemExit(f"{charges} charges, {len(seen.arrivals)} payments, {seen.doubles} of them double")
    events = place.ask("SELECT count(DISTINCT subject) FROM outbox WHERE kind = 'charge.paid'")
    if events != charges:
        raise SystemExit(f"{charges} charges, {events} notices")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["floor", "envelopes", "messages"], nargs="+")
    parser.add_argument("--charges", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=THREADS)
    arguments = parser.parse_args()
    for what in arguments.what:
        if what == "floor":
            figure = floor(arguments.charges)
        else:
            figure = ours(arguments.charges, envelopes=what == "envelopes", threads=arguments.threads)
        print(json.dumps(asdict(figure)), flush=True)


if __name__ == "__main__":
    main()
