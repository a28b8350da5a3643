"""`again events` as a person runs it, its settings, and events of real processes at a shop's address."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.outbox.event_kinds import KINDS
from schedules.outbox.events import ChargeHeld, SubscriptionHeld
from tests.acceptance.again import refused, told, told_json
from tests.factories import START, move
from tests.installation import QUICK, installed
from tests.receiver import HANGS, OTHER_SECRET, SECRET, Shop, open_shop
from worker.clock import wait_until
from worker.config import BadSettings, load_settings
from worker.services import Services
from worker.store.outbox import deliveries, event_log

PLACE = {
    "AGAIN_ENVIRONMENT": "test", "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0", "AGAIN_PORTONE_KEY": "key",
    "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_SECRET": "secret",
    "AGAIN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
}  # fmt: skip
URL = "https://shop.example/hooks/T0KEN"


@pytest.fixture
def settings(services: Services, database: str) -> dict[str, str]:
    """An installation with three events: a dead one, one that was delivered, and one that waits."""
    with services.engine.begin() as db:
        for key, why in (("r1", "a reason"), ("r2", "another")):
            event_log.enqueue_event(db, ChargeHeld(charge=key, why=why), f"{key}/held", START)
        dead, delivered = deliveries.take_due(db, START, START + timedelta(minutes=5), 2)
        deliveries.write(db, dead, "HTTP 410", dead_at=START)
        deliveries.write(db, delivered, "HTTP 204", delivered_at=START)
        waits = SubscriptionHeld(subscription="s1", why="its row breaks a rule")
        event_log.enqueue_event(db, waits, "s1/held", move(services, hours=1))
    return PLACE | {"AGAIN_DATABASE_URL": database}


def numbers(settings: dict[str, str], *options: str) -> list[int]:
    """The numbers of the events that are listed."""
    return [event["id"] for event in told_json("events", *options, settings=settings)]


def test_events_are_listed_newest_first_and_by_what_is_asked_for(settings: dict[str, str]) -> None:
    assert numbers(settings) == [3, 2, 1]
    assert numbers(settings, "--dead") == [1]
    assert numbers(settings, "--waiting") == [3]
    assert numbers(settings, "--kind", "charge.held", "--limit", "1") == [2]
    assert numbers(settings, "--subject", "r1") == [1]
    lines = told("events", settings=settings).splitlines()
    assert [line.split("│")[5].strip() for line in lines if line.startswith("│")] == [
        "waiting", "delivered", "dead",
    ]  # fmt: skip


def test_an_event_is_shown_with_what_came_of_it(settings: dict[str, str]) -> None:
    shown = told_json("events", "show", "1", settings=settings)
    assert shown["payload"] == {"charge": "r1", "why": "a reason"}
    assert (shown["standing"], shown["tries"], shown["last_answer"]) == ("dead", 1, "HTTP 410")
    assert shown["webhook_id"].startswith("evt_")
    words = told("events", "show", "1", settings=settings)
    assert "last answer: HTTP 410" in words
    assert "why: a reason" in words


def test_events_are_replayed_with_a_reason(settings: dict[str, str], services: Services) -> None:
    words = told("events", "replay", "1", "2", "--why", "the shop lost them", settings=settings)
    assert words == "2 events will be delivered from now on\n"
    assert numbers(settings, "--waiting") == [3, 2, 1]
    with services.engine.begin() as db:
        query = text("SELECT verb, subject, why, details FROM audit WHERE verb = 'events.replay' ORDER BY id")
        rows = db.execute(query).all()
    assert [(row.verb, row.subject, row.why) for row in rows] == [
        ("events.replay", "r1", "the shop lost them"), ("events.replay", "r2", "the shop lost them"),
    ]  # fmt: skip
    assert [row.details["was"] for row in rows] == ["dead", "delivered"]


def test_every_dead_event_is_replayed_and_old_ones_are_skipped(settings: dict[str, str]) -> None:
    assert told("events", "replay", "--dead", "--why", "it is back", settings=settings).startswith("1 event ")
    skipped = told("events", "skip", "--before", "2026-01-31T00:30Z", "--why", "too old", settings=settings)
    assert skipped == "1 event will not be delivered\n"
    assert numbers(settings, "--waiting") == [3]
    assert told_json("events", "show", "1", settings=settings)["standing"] == "skipped"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["show", "99"], "there is no event 99; `again events` lists them"),
        (["show", "99999999999999999999"], "less than or equal to 9223372036854775807"),
        (["replay", "1", "99", "--why", "x"], "there is no event 99"),
        (["replay", "--why", "x"], "give the events' numbers, or --dead"),
        (["replay", "1", "--dead", "--why", "x"], "not both"),
        (["replay", "1"], "Missing option '--why'"),
        (["replay", "1", "--why", " "], "say why"),
        (["skip", "--before", "soon", "--why", "x"], "'soon' is not an instant"),
        (["--waiting", "--dead"], "not both"),
        (["--kind", "charge.payed"], "kind 'charge.payed' is not known; there are: charge.upcoming"),
        (["schema", "charge.payed"], "kind 'charge.payed' is not known"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words_and_nothing_is_done(
    settings: dict[str, str], command: list[str], words: str
) -> None:
    assert words in " ".join(refused("events", *command, settings=settings).replace("│", " ").split())
    assert numbers(settings, "--dead") == [1]


def test_the_schemas_need_no_database() -> None:
    assert set(told_json("events", "schema", settings=PLACE)) == set(KINDS)
    schema = told_json("events", "schema", "charge.failed", settings=PLACE)
    assert (schema["title"], schema["version"]) == ("charge.failed", 1)
    assert schema["properties"]["next_attempt_at"]["anyOf"][0]["format"] == "date-time"
    assert "date-time or null" in told("events", "schema", "charge.failed", settings=PLACE)


def whsec(count: int) -> str:
    """A secret of so many bytes."""
    return "whsec_" + base64.b64encode(bytes(count)).decode()


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        (URL, "", "AGAIN_WEBHOOK_URL is set and AGAIN_WEBHOOK_SECRET is not"),
        (URL, SECRET.removeprefix("whsec_"), "secret 1 is not whsec_ and 24 to 64 bytes in base 64"),
        (URL, f"{SECRET} whsec_short", "secret 2 is not whsec_"),
        (URL, whsec(23), "24 to 64 bytes"),
        (URL, whsec(65), "24 to 64 bytes"),
        ("http://shop.example/hooks/T0KEN", SECRET, "it must be https://; http:// is for this machine"),
        ("http://93.184.215.14/T0KEN", SECRET, "it must be https://"),
        ("ftp://shop.example/T0KEN", SECRET, "it must be of the form https://host/path"),
        ("https:///T0KEN", SECRET, "it must be of the form https://host/path"),
        ("https://shop.example:70000/T0KEN", SECRET, "it must be of the form https://host/path"),
        ("https://T0KEN:x@shop.example/", SECRET, "it holds a name or password"),
    ],
)
def test_a_bad_address_or_secret_is_refused_in_words_that_do_not_hold_it(
    url: str, secret: str, words: str
) -> None:
    with pytest.raises(BadSettings) as refusal:
        load_settings(PLACE | {"AGAIN_WEBHOOK_URL": url, "AGAIN_WEBHOOK_SECRET": secret})
    assert words in str(refusal.value)
    assert "T0KEN" not in str(refusal.value)
    assert SECRET.removeprefix("whsec_") not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [URL, "http://localhost:8000/x", "http://127.0.0.1/x", "http://10.1.2.3/x", "http://[::1]:80/x",
     "http://shop:8000/x", "http://shop.shop.svc.cluster.local/x", ""],
)  # fmt: skip
def test_a_good_address_is_taken_and_an_empty_one_is_none(url: str) -> None:
    secrets = f"{SECRET} {OTHER_SECRET}"
    made = load_settings(PLACE | {"AGAIN_WEBHOOK_URL": url, "AGAIN_WEBHOOK_SECRET": secrets})
    assert (made.webhook_url.get_secret_value() if made.webhook_url else "") == url
    assert made.webhook_secrets == (SECRET, OTHER_SECRET)
    assert "T0KEN" not in repr(made)
    assert SECRET not in repr(made)


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shop's own address."""
    with open_shop() as opened:
        yield opened


def test_a_receiver_that_hangs_holds_up_no_charge_and_is_told_when_it_answers(shop: Shop) -> None:
    """Guard: one thread of a worker delivers, whatever beat rings for; opening and dispatching have the others."""
    shop.always = HANGS
    with installed(QUICK | {"AGAIN_WEBHOOK_URL": shop.url, "AGAIN_WEBHOOK_SECRET": SECRET}) as installation:
        with installation.services.engine.begin() as db:
            for number in range(6):
                held = ChargeHeld(charge=f"r{number}", why="so that something is told")
                event_log.enqueue_event(db, held, f"r{number}/held", installation.services.clock.now())
        assert shop.reached.wait(20)
        for number in range(8):
            key = installation.customer(f"hung-{number}", "now")
            installation.wait_for(key, "paid")
        shop.always = 204
        shop.released.set()

        def all_told() -> bool:
            events: list[dict[str, Any]] = installation.told_json("events")
            return len(events) >= 14 and {event["standing"] for event in events} == {"delivered"}

        assert wait_until(all_told, 60, every=1)
    assert {"charge.held", "charge.paid"} <= set(shop.kinds)
