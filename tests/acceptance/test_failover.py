"""docs/how-to/runbook.md, "A standby was promoted", with a real standby and without a restart of any process."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.installation import QUICK, Installation, installed
from tests.standby import PATIENCE, Pair
from worker.clock import wait_until
from worker.embedded import ValkeyServer, free_port
from worker.store.failures import DATABASE_ERRORS

pytestmark = pytest.mark.timeout(400)
WORKERS = "worker-charges"


@contextmanager
def shop_on(pair: Pair, folder: Path) -> Iterator[Installation]:
    """Two beats, workers and a listener, on whichever of the pair takes writes."""
    broker = ValkeyServer(folder / "valkey")
    broker.start()
    try:
        places = {"AGAIN_DATABASE_URL": pair.url, "AGAIN_BROKER_URL": broker.url}
        with installed(QUICK | places) as installation:
            installation.standing.start("listener", "listen", "--port", str(free_port()))
            try:
                yield installation
            finally:
                (listener,) = installation.standing.children("listener")
                listener.terminate()
                listener.wait()
    finally:
        broker.stop()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its standby."""
    with tempfile.TemporaryDirectory(prefix="again-pair-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        made = Pair(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def shop(pair: Pair, tmp_path: Path) -> Iterator[Installation]:
    """A shop on them."""
    with shop_on(pair, tmp_path) as installation:
        yield installation


def test_after_a_synchronous_failover_running_processes_go_on_once_it_is_adopted(
    pair: Pair, shop: Installation
) -> None:
    pair.wait_for_the_standby()
    before = shop.customer("before", "now")
    shop.wait_for(before, "paid")
    running = pids(shop)
    pair.fail_over()
    shop.services.engine.dispose()  # its connections lead to the lost primary
    assert_nothing_is_sent(shop)
    shop.told("adopt", "--complete", "--why", "failover")
    after = customer(shop, "after")
    shop.wait_for(after, "paid")
    status = shop.told_json("status")
    assert (status["may_send"], status["hold"], status["findings"]) == (True, None, 0)
    assert_all_run_as_before(shop, running)
    assert [len(shop.movements(name)) for name in ("before", "after")] == [1, 1]


def test_after_an_asynchronous_failover_what_the_standby_had_not_received_is_not_charged_again(
    pair: Pair, shop: Installation
) -> None:
    """The payment of `lost` is committed on the primary alone; its debt is on both."""
    for child in shop.standing.children(WORKERS):
        child.kill()
        child.wait()
    lost = shop.customer("lost", "now")
    assert wait_until(lambda: shop.charge(lost) is not None, PATIENCE)
    pair.stop_streaming()
    before = ready_workers(shop)
    shop.standing.restart(WORKERS)
    shop.wait_for(lost, "paid")
    # One that starts while no database takes writes ends with an error; its supervisor starts it again.
    assert wait_until(lambda: all(ready_workers(shop)[name] > before[name] for name in before), PATIENCE)
    running = pids(shop)
    pair.fail_over()
    shop.services.engine.dispose()  # its connections lead to the lost primary
    assert_nothing_is_sent(shop)
    assert status_of(shop, lost) == "open"
    shop.told("adopt", "--why", "failover")
    after = customer(shop, "after")
    shop.wait_for(lost, "paid", 90)
    shop.wait_for(after, "paid", 90)
    assert [len(shop.movements(name)) for name in ("lost", "after")] == [1, 1]
    assert shop.told_json("findings") == []
    assert [act["verb"] for act in shop.told_json("audit", "test")] == [
        "lift-hold",
        "adopt",
        "hold",
        "adopt",
    ]
    status = shop.told_json("status")
    assert (status["may_send"], status["hold"], status["findings"]) == (True, None, 0)
    assert_all_run_as_before(shop, running)


def customer(shop: Installation, name: str) -> str:
    """A customer whose first charge is due now, once the promoted standby takes writes."""
    made: list[str] = []

    def is_made() -> bool:
        try:
            made.append(shop.customer(name, "now"))
        except DATABASE_ERRORS:  # the pool's connections to the former primary are replaced one by one
            return False
        return True

    assert wait_until(is_made, PATIENCE)
    return made[-1]


def ready_workers(shop: Installation) -> dict[str, int]:
    """How often each worker has become ready to take charges."""
    logs = (shop.standing.data / "logs").glob(f"{WORKERS}*.log")
    return {log.stem: log.read_text().count(" ready.") for log in logs}


def status_of(shop: Installation, subscription: str) -> Any:
    """The status of the subscription's first charge."""
    story = shop.charge(subscription)
    return story.facts["status"] if story is not None else None


def assert_nothing_is_sent(shop: Installation) -> None:
    """Status and log say that nothing may be sent, and why."""
    beats = sorted((shop.standing.data / "logs").glob("beat*.log"))
    assert beats
    assert wait_until(lambda: all("another environment" in log.read_text() for log in beats), PATIENCE)
    status = shop.told_json("status")
    assert status["may_send"] is False
    assert "again adopt" in status["why_not"]


def pids(shop: Installation) -> dict[str, int]:
    """Every process of the fleet."""
    return {name: shop.standing.children(name)[0].pid for name in shop.standing.names()}


def assert_all_run_as_before(shop: Installation, running: dict[str, int]) -> None:
    """No process has ended, or become another."""
    shop.standing.check()
    assert pids(shop) == running
    for name in running:
        assert "it is started again" not in (shop.standing.data / "logs" / f"{name}.log").read_text()
