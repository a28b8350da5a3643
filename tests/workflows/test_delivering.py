"""Events reach the shop's own address: signed, at least once, and without holding anything up."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from standardwebhooks import Webhook

from schedules.outbox.deliveries import WAITS
from schedules.outbox.events import AccountStopped, ChargeHeld, ChargePaid, Event
from tests.factories import move, move_to
from tests.receiver import AMPLE, HANGS, OTHER_SECRET, SECRET, Shop, open_shop
from worker.clock import MovedClock, SystemClock
from worker.outbox import replays
from worker.outbox.delivery import BATCH, ENOUGH, LEASE, deliver_due
from worker.services import Services
from worker.store.outbox import event_log
from worker.store.tables import outbox
from worker.webhooks.port import Answer, Message, Receiver
from worker.webhooks.standard import StandardWebhook

PAID = ChargePaid(
    request_key=None,
    charge="r1", subscription=None, customer_uid="ann", merchant_uid="u1", amount=9900, currency="KRW",
    recovered=False,
)  # fmt: skip

ONE_SECOND = replace(AMPLE, read=1)


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shop that takes everything until it is told otherwise."""
    with open_shop() as opened:
        yield opened


@pytest.fixture
def telling(services: Services, shop: Shop) -> Iterator[Services]:
    """Services that tell the shop; it is really now, for the library looks at the time of a signature."""
    move_to(services, SystemClock().now())
    receiver = shop.receiver()
    yield replace(services, receiver=receiver)
    receiver.close()


def owe(services: Services, event: Event = PAID, dedupe: str = "r1/paid") -> None:
    """An event that waits."""
    with services.engine.begin() as db:
        event_log.enqueue_event(db, event, dedupe, services.clock.now())


def owe_many(services: Services, count: int) -> None:
    """So many events that wait."""
    for number in range(count):
        owe(services, ChargeHeld(charge=f"r{number}", why="a reason"), f"r{number}/held")


def rows(services: Services) -> list[dict[str, Any]]:
    """All events, oldest first."""
    with services.engine.begin() as db:
        return [dict(row) for row in db.execute(select(outbox).order_by(outbox.c.id)).mappings()]


def test_an_event_is_signed_and_the_library_verifies_it(telling: Services, shop: Shop) -> None:
    owe(telling)
    assert deliver_due(telling) == 1
    (sent,) = shop.sent
    told = sent.event
    assert (told["type"], told["version"], told["data"]["amount"]) == ("charge.paid", 1, 9900)
    assert datetime.fromisoformat(told["timestamp"]) == telling.clock.now()
    (row,) = rows(telling)
    assert row["delivered_at"] == telling.clock.now()
    assert (row["tries"], row["next_try_at"], row["last_answer"]) == (1, None, "HTTP 204")
    assert deliver_due(telling) == 0


def test_each_secret_signs_so_that_one_can_be_rotated(services: Services, shop: Shop) -> None:
    move_to(services, SystemClock().now())
    receiver = shop.receiver(OTHER_SECRET, SECRET)
    owe(services)
    deliver_due(replace(services, receiver=receiver))
    receiver.close()
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(shop.sent[0].body, shop.sent[0].headers)["type"] == "charge.paid"


def test_what_was_not_taken_is_sent_again_by_the_same_id(telling: Services, shop: Shop) -> None:
    shop.answers.append((500, {}, b"a bug of ours"))
    owe(telling)
    assert deliver_due(telling) == 0
    (row,) = rows(telling)
    assert (row["tries"], row["last_answer"]) == (1, "HTTP 500: a bug of ours")
    assert WAITS[0] <= row["next_try_at"] - telling.clock.now() <= WAITS[0] * 1.1
    assert deliver_due(telling) == 0
    move(telling, seconds=6)
    assert deliver_due(telling) == 1
    first, second = shop.sent
    assert (first.id, first.body) == (second.id, second.body)
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]


def test_after_the_last_wait_it_is_dead_and_a_replay_has_the_same_id(telling: Services, shop: Shop) -> None:
    shop.always = 503
    owe(telling)
    begun = telling.clock.now()
    for wait in (timedelta(0), *WAITS):
        move(telling, seconds=1.1 * wait.total_seconds())
        deliver_due(telling)
    (row,) = rows(telling)
    assert (row["tries"], row["dead_at"], row["next_try_at"]) == (len(WAITS) + 1, telling.clock.now(), None)
    move(telling, days=30)
    assert deliver_due(telling) == 0
    assert len(shop.sent) == len(WAITS) + 1
    shop.always = 204
    move_to(telling, begun)  # the library takes no signature of another day
    assert replays.replay_dead(telling, "ann", "the shop is back") == 1
    assert deliver_due(telling) == 1
    assert {sent.id for sent in shop.sent} == {shop.sent[-1].id}
    assert shop.sent[-1].event["data"]["charge"] == "r1"
    (row,) = rows(telling)
    assert (row["tries"], row["dead_at"]) == (1, None)


def test_a_receiver_that_is_gone_makes_it_dead_at_once(telling: Services, shop: Shop) -> None:
    shop.answers.append(410)
    owe(telling)
    deliver_due(telling)
    (row,) = rows(telling)
    assert (row["tries"], row["last_answer"], row["dead_at"]) == (1, "HTTP 410", telling.clock.now())


def test_an_event_that_hangs_keeps_no_other_from_being_sent(telling: Services, shop: Shop) -> None:
    shop.answers.append(HANGS)
    owe_many(telling, 4)
    with closing(shop.receiver(patience=ONE_SECOND)) as receiver:
        assert deliver_due(replace(telling, receiver=receiver)) == 3
    first, *others = rows(telling)
    assert first["last_answer"] == "ReadTimeout"
    assert first["next_try_at"] > telling.clock.now()
    assert all(row["delivered_at"] for row in others)


def test_a_receiver_that_is_away_ends_the_slice_and_the_rest_waits_untried(telling: Services, shop: Shop) -> None:
    shop.always = 503
    owe_many(telling, BATCH + 2)
    assert deliver_due(telling) == 0
    assert len(shop.sent) == ENOUGH
    tried, rest = rows(telling)[:ENOUGH], rows(telling)[ENOUGH:]
    assert [row["tries"] for row in tried] == [1] * ENOUGH
    assert {(row["tries"], row["next_try_at"]) for row in rest} == {(0, telling.clock.now())}
    shop.always = 204
    assert deliver_due(telling) == BATCH + 2 - ENOUGH


def test_a_slice_that_is_over_sends_no_more(telling: Services, shop: Shop) -> None:
    owe_many(telling, 3)
    looks = iter([True, True, False, False])
    assert deliver_due(telling, lambda: next(looks)) == 1
    assert [row["next_try_at"] for row in rows(telling)] == [None, telling.clock.now(), telling.clock.now()]


class Doing:
    """A receiver that sends for real, and then does something before the answer is written."""

    def __init__(self, real: Receiver | None, then: Callable[[], None]) -> None:
        assert real is not None
        self.real, self.then = real, then

    def send(self, message: Message, now: datetime) -> Answer:
        answer = self.real.send(message, now)
        self.then()
        return answer

    def close(self) -> None:
        pass


class Died(Exception):
    """A worker's end, as near as a test comes to it."""


def die() -> None:
    """Be killed here."""
    raise Died


def test_a_worker_that_dies_before_it_writes_has_its_event_sent_again(telling: Services, shop: Shop) -> None:
    """Guard: the lease runs out. At least once: the receiver sees the same id twice."""
    owe(telling)
    with pytest.raises(Died):
        deliver_due(replace(telling, receiver=Doing(telling.receiver, die)))
    assert deliver_due(telling) == 0
    move(telling, seconds=LEASE.total_seconds())
    assert deliver_due(telling) == 1
    first, second = shop.sent
    assert first.id == second.id


def test_an_answer_is_left_out_when_somebody_else_has_the_event_since(telling: Services, shop: Shop) -> None:
    """Guard: the lease that the answer is written under."""
    shop.answers.extend([500, 204])
    owe(telling)

    def be_late() -> None:
        move(telling, seconds=LEASE.total_seconds())
        assert deliver_due(telling) == 1

    deliver_due(replace(telling, receiver=Doing(telling.receiver, be_late)))
    (row,) = rows(telling)
    assert row["delivered_at"] is not None
    assert (row["tries"], row["last_answer"], row["next_try_at"]) == (1, "HTTP 204", None)


def test_what_one_delivers_another_does_not_send_too(telling: Services, shop: Shop) -> None:
    shop.answers.append(HANGS)
    slow = shop.receiver(patience=replace(AMPLE, read=30, deadline=31))
    owe(telling)
    first = threading.Thread(target=deliver_due, args=(replace(telling, receiver=slow),))
    first.start()
    assert shop.reached.wait(10)
    assert deliver_due(telling) == 0
    shop.released.set()
    first.join(10)
    slow.close()
    assert len(shop.sent) == 1
    assert rows(telling)[0]["delivered_at"] is not None


def test_many_that_deliver_at_once_send_each_event_once(telling: Services, shop: Shop) -> None:
    """Guard: SKIP LOCKED and the lease."""
    owe_many(telling, 60)
    threads = [threading.Thread(target=deliver_due, args=(telling,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(shop.sent) == len({sent.id for sent in shop.sent}) == 60


def test_without_an_address_events_wait(services: Services) -> None:
    owe(services)
    assert deliver_due(services) == 0
    (row,) = rows(services)
    assert (row["tries"], row["next_try_at"], row["delivered_at"]) == (0, services.clock.now(), None)


def test_a_copy_of_the_database_and_one_on_hold_tell_nobody(telling: Services, shop: Shop) -> None:
    owe(telling)
    assert deliver_due(replace(telling, fingerprint_in=lambda _: "another")) == 0
    with telling.engine.begin() as db:
        db.execute(text("UPDATE installation SET hold_since = now(), hold_from = now(), hold_cursor = 0"))
    assert deliver_due(telling) == 0
    assert shop.sent == []


def test_a_redirect_is_not_followed(telling: Services, shop: Shop) -> None:
    shop.answers.append((302, {"location": shop.url}, b""))
    owe(telling)
    assert deliver_due(telling) == 0
    assert len(shop.sent) == 1
    assert rows(telling)[0]["last_answer"] == "HTTP 302"


def test_little_of_the_receivers_words_is_kept_and_no_card_number(telling: Services, shop: Shop) -> None:
    words = ("4111 1111 1111 1111\x00" + "말" * 500).encode()
    shop.answers.append((500, {}, words))
    owe(telling)
    deliver_due(telling)
    kept = rows(telling)[0]["last_answer"]
    assert kept.startswith("HTTP 500: ********1111 말")
    assert len(kept) <= len("HTTP 500: ") + 200


def test_nobody_listens(telling: Services) -> None:
    nowhere = StandardWebhook("http://127.0.0.1:1/", [SECRET])
    owe(telling)
    assert deliver_due(replace(telling, receiver=nowhere)) == 0
    nowhere.close()
    assert rows(telling)[0]["last_answer"] == "ConnectError"


def test_no_secret_is_logged_or_kept(telling: Services, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shop.answers.extend([500, 410, 204, HANGS])
    owe_many(telling, 5)
    with closing(shop.receiver(patience=ONE_SECOND)) as receiver:
        deliver_due(replace(telling, receiver=receiver))
    assert len(shop.sent) == 5
    key = SECRET.removeprefix("whsec_")
    found = caplog.text + repr(telling.receiver) + json.dumps(rows(telling), default=str)
    assert "is dead at try 1" in found
    assert key not in found
    assert not any(sent.headers["webhook-signature"].partition(",")[2] in found for sent in shop.sent)


def test_a_change_is_told_once(telling: Services, shop: Shop) -> None:
    stopped = AccountStopped(account="main", why="a double")
    owe(telling, stopped, "main/stopped/1")
    owe(telling, stopped, "main/stopped/1")
    assert deliver_due(telling) == 1
    assert rows(telling)[0]["subject"] == "main"


def test_a_signature_has_the_real_time_where_the_clock_is_moved(
    services: Services, shop: Shop, tmp_path: Path
) -> None:
    """Guard: a receiver refuses a signature of another time, so a moved clock signs with the machine's own."""
    clock = MovedClock(tmp_path / "clock")
    clock.move_to(SystemClock().now() + timedelta(days=30))
    receiver = shop.receiver()
    moved = replace(services, clock=clock, receiver=receiver)
    owe(moved)
    assert deliver_due(moved) == 1
    receiver.close()
    (sent,) = shop.sent
    assert datetime.fromisoformat(sent.event["timestamp"]) > SystemClock().now() + timedelta(days=29)
    (row,) = rows(moved)
    assert row["delivered_at"] > SystemClock().now() + timedelta(days=29)
