"""Crash rows 14 and 15: a database that was put back from an old backup, and a copy that was started elsewhere."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.crashes import dumps
from tests.crashes.shop import BRISK, OPS, PATIENCE, WORKERS, Shop
from worker.cli.local.stack import Standing
from worker.clock import wait_until
from worker.embedded import PostgresServer
from worker.embedded.postgres import DATABASE
from worker.store.charging import kill_switch
from worker.store.outbox import event_log


@pytest.mark.parametrize("place", ["anew", "in_place"])
def test_row_14_a_restored_database_sends_nothing_that_was_paid_after_its_backup(
    shop: Shop, tmp_path: Path, place: str
) -> None:
    """Guard: the hold. Without it the second customer pays twice, under the uid that was declined the first time.

    Restored into a database made anew, the fingerprint stops it; in place, the mark in the broker does.
    """
    before, declined, after = f"before-{place}", f"declined-{place}", f"after-{place}"
    shop.let_end(shop.customer(before))
    shop.kill(WORKERS)
    keys = {
        declined: shop.customer(declined, card="approve_on_try", k=2, shape="B"),
        after: shop.customer(after),
    }
    for key in keys.values():
        assert wait_until(lambda key=key: shop.first_charge(key) is not None, PATIENCE)  # type: ignore[misc]
    backup = dumps.dump(postgres(shop), DATABASE, tmp_path)
    shop.installation.restart(WORKERS)
    for key in keys.values():
        shop.let_end(key)
    assert [attempt["state"] for attempt in shop.attempts(keys[declined])] == ["declined", "paid"]
    assert wait_until(lambda: mark(shop) >= newest_event(shop), PATIENCE)

    calls = shop.charges_sent()
    for name in ("beat", OPS, WORKERS):
        shop.kill(name)
    shop.engine.dispose()
    if place == "anew":
        dumps.make_empty(postgres(shop), DATABASE)
    dumps.restore(postgres(shop), backup, DATABASE)
    assert [shop.attempts(key) for key in keys.values()] == [[], []]
    shop.mend()
    if place == "anew":
        for key in keys.values():
            shop.publish(key)
        assert wait_until(lambda: refusals(shop) == len(keys), PATIENCE)
        shop.installation.told("adopt", "--why", "restored from last night's backup")
    assert wait_until(lambda: is_on_hold(shop), PATIENCE)
    shop.pass_time(timedelta(seconds=float(BRISK["AGAIN_QUIET_TIME"]) + 1))
    assert wait_until(lambda: not is_on_hold(shop), PATIENCE)
    for key in keys.values():
        shop.let_end(key)
    assert shop.charges_sent() == calls
    shop.books_agree(before, declined, after)
    fresh = f"fresh-{place}"
    shop.let_end(shop.customer(fresh))
    shop.books_agree(fresh)


def test_row_15_a_copy_that_is_started_elsewhere_sends_nothing(shop: Shop, tmp_path: Path) -> None:
    """Guard: the fingerprint, which holds the database's own identity."""
    shop.kill(WORKERS)
    key = shop.customer("row15")
    assert wait_until(lambda: shop.first_charge(key) is not None, PATIENCE)
    dumps.make_empty(postgres(shop), "copy")
    dumps.restore(postgres(shop), dumps.dump(postgres(shop), DATABASE, tmp_path), "copy")
    calls = shop.charges_sent()
    place = {
        "AGAIN_DATABASE_URL": postgres(shop).url_of("copy"),
        "AGAIN_BROKER_URL": shop.installation.settings["AGAIN_BROKER_URL"].removesuffix("/0") + "/1",
    }
    settings = shop.installation.settings | place
    with Standing(tmp_path / "copy", settings=settings, named_services=False, logs=tmp_path) as copy:
        shop.publish(key, broker_url=place["AGAIN_BROKER_URL"])
        log = tmp_path / "worker-charges-1.log"
        assert wait_until(lambda: "belongs to another environment" in log.read_text(), PATIENCE)
        copy.check()
    assert shop.charges_sent() == calls
    shop.installation.restart(WORKERS)
    shop.let_end(key)
    assert shop.charges_sent() == calls + 1
    shop.books_agree("row15")


def refusals(shop: Shop) -> int:
    """How often a worker has refused to send from a database that is not its own."""
    return sum(shop.log(f"{WORKERS}-{number}").count("belongs to another environment") for number in (1, 2))


def postgres(shop: Shop) -> PostgresServer:
    """The shop's database server."""
    assert shop.standing.services is not None
    return shop.standing.services.postgres


def is_on_hold(shop: Shop) -> bool:
    """Whether the restored database still waits."""
    with shop.engine.begin() as db:
        return kill_switch.hold(db) is not None


def newest_event(shop: Shop) -> int:
    """How far the books have come."""
    with shop.engine.begin() as db:
        newest = event_log.newest_event(db)
    return newest[0] if newest is not None else 0


def mark(shop: Shop) -> int:
    """How far they had come when the mark in the broker was written; the newest of them."""
    names = shop.broker.keys("again.mark.*")
    return max(int((shop.broker.get(name) or b"0").split()[0]) for name in names)
