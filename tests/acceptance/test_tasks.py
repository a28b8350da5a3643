"""Requests by task, sent by programs that have nothing of ours: with Celery alone, and as raw messages."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from schedules.errors import Code
from tests.acceptance.again import again, refused, told_json
from tests.installation import QUICK, Installation, installed
from worker.clock import wait_until
from worker.task_api.request_fields import ANSWERS

# What a shop's own backend would run: Celery and the broker's address, and nothing of ours.
SENDER = """
import json, sys
from celery import Celery

shop = Celery(broker=sys.argv[1], backend=sys.argv[1])
for name, fields in json.loads(sys.argv[2]):
    asked = shop.send_task(name, kwargs=fields, queue="requests")
    print(json.dumps(asked.get(timeout=40)))
ours = {"worker", "schedules", "simulator"} & {name.partition(".")[0] for name in sys.modules}
assert not ours, ours
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    """Everything as `again up` runs it, and a customer with a card."""
    with installed(QUICK) as running:
        for name, card in (("ann", {}), ("dan", {"card": "no_money"})):
            running.simulator("cards", {"customer_uid": name, **card})
            running.told("customer", "add", name)
        yield running


def sent(shop: Installation, *asked: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to requests that a program of its own sends, one after the other."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", SENDER, shop.settings["AGAIN_BROKER_URL"], json.dumps(asked)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer for answer in answers if not answer["ok"] and answer["code"] not in set(Code)] == []
    for (name, _), answer in zip(asked, answers, strict=True):
        documented = set(ANSWERS[name.removeprefix("again.")].split(", "))
        assert not answer["ok"] or answer.keys() - {"ok"} == documented, name
    return answers


def fields(request_key: str, **changes: Any) -> dict[str, Any]:
    """A request for a charge."""
    usual = {"customer_uid": "ann", "amount": 3000, "currency": "KRW", "name": "Fee", "request_key": request_key}
    return usual | {"reason": "late", "actor": "shop"} | changes


def put(shop: Installation, task: str, request: dict[str, Any]) -> redis.Redis:
    """Put a request for a charge into the broker as docs/how-to/tasks.md writes it, without Celery."""
    message = {
        "body": base64.b64encode(json.dumps([[], request, {}]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "again.charge_adhoc", "id": task},
        "properties": {
            "correlation_id": task, "delivery_tag": task, "delivery_mode": 2, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "requests"},
        },
    }  # fmt: skip
    broker = redis.Redis.from_url(shop.settings["AGAIN_BROKER_URL"])
    broker.lpush("requests", json.dumps(message))
    return broker


def logged(shop: Installation) -> str:
    """What the worker that takes requests has logged."""
    return (shop.standing.data / "logs" / "worker-ops.log").read_text("utf-8")


def test_a_charge_is_asked_for_twice_by_another_program_and_paid_once(shop: Installation) -> None:
    first, again_, other = sent(
        shop,
        ("again.charge_adhoc", fields("task-1")),
        ("again.charge_adhoc", fields("task-1")),
        ("again.charge_adhoc", fields("task-1", amount=3001)),
    )
    assert (first["ok"], first["is_new"]) == (True, True)
    assert (again_["charge"], again_["is_new"]) == (first["charge"], False)
    assert (other["ok"], [error["field"] for error in other["errors"]]) == (False, ["request_key"])

    def is_paid() -> bool:
        (status,) = sent(shop, ("again.charge_status", {"request_key": "task-1"}))
        return bool(status["status"] == "paid")

    assert wait_until(is_paid, 30)
    assert [m["amount"] for m in shop.movements("ann")] == [3000]


def test_wrong_arguments_come_back_naming_the_field_and_are_done_with(shop: Installation) -> None:
    answers = sent(
        shop,
        ("again.charge_adhoc", fields("task-2", amount="3000")),
        ("again.charge_adhoc", {"customer_uid": "ann"}),
        ("again.charge_status", {"request_key": "task-2"}),
        ("again.try_charge", {"charge": "nothing", "reason": "x", "actor": "shop", "request_key": "try-1"}),
    )
    assert [error["field"] for error in answers[0]["errors"]] == ["amount"]
    assert {"amount", "request_key", "reason"} <= {error["field"] for error in answers[1]["errors"]}
    assert [(answer["error"], answer["code"]) for answer in answers[2:]] == [("refused", "not_found")] * 2
    broker = redis.Redis.from_url(shop.settings["AGAIN_BROKER_URL"])
    assert wait_until(lambda: broker.llen("requests") == 0 and broker.hlen("unacked") == 0, 30)


def test_a_request_that_meets_no_database_is_kept_until_there_is_one(shop: Installation) -> None:
    """The guard: a request that could not be looked at goes back to the broker; its sender may never ask again."""
    embedded = shop.standing.services
    assert embedded is not None
    embedded.postgres.crash()
    put(shop, "6b0c0f63-2e4f-4a8e-9f7f-0d6a1c2b3e4f", fields("away-1", amount=7000))
    assert wait_until(lambda: "is returned to the broker" in logged(shop), 30)
    embedded.postgres.restart()
    shop.services.engine.dispose()
    assert wait_until(lambda: 7000 in [m["amount"] for m in shop.movements("ann")], 60)
    assert [m["amount"] for m in shop.movements("ann")].count(7000) == 1


def test_a_raw_message_of_any_language_is_enough(shop: Installation) -> None:
    """The message of docs/how-to/tasks.md, put together without Celery."""
    task = "5b0c0f63-2e4f-4a8e-9f7f-0d6a1c2b3e4f"
    broker = put(shop, task, fields("raw-1"))
    assert wait_until(lambda: broker.exists(f"celery-task-meta-{task}") == 1, 30)
    answer = json.loads(broker.get(f"celery-task-meta-{task}") or b"")
    assert (answer["status"], answer["result"]["is_new"]) == ("SUCCESS", True)
    assert 0 < broker.ttl(f"celery-task-meta-{task}") <= 3600


def test_every_verb_can_be_asked_for_by_another_program(shop: Installation) -> None:
    who = {"actor": "shop", "reason": "ticket 4711"}
    for uid in ("eve", "eve-2"):
        shop.simulator("cards", {"customer_uid": uid})
    shop.told("plan", "add", "later", "--price", "5000", "--name", "Later", "--unit", "week", "--time", "00:00")
    known, second, begun = sent(
        shop,
        ("again.add_customer", {"customer_uid": "eve", "actor": "shop", "request_key": "new-eve"}),
        (
            "again.add_customer",
            {"customer_uid": "eve-2", "actor": "shop", "of": "eve", "request_key": "new-eve-2"},
        ),
        ("again.subscribe", {"customer_uid": "eve", "plan": "now", "actor": "shop", "request_key": "order-1"}),
    )
    assert known["ok"]
    assert second["ok"]
    key = begun["subscription"]
    charge = shop.wait_for(key, "paid").facts["key"]
    of_it = {"subscription": key, **who}
    day = (shop.services.clock.now() + timedelta(days=9)).date().isoformat()
    answers = sent(
        shop,
        ("again.skip", of_it | {"period_no": 1}),
        ("again.skip", of_it | {"period_no": 1}),
        ("again.undo", of_it | {"what": "skip"}),
        ("again.pause", of_it),
        ("again.resume", of_it),
        ("again.move_anchor", of_it | {"anchor": day}),
        ("again.move_time", of_it | {"time": "23:30"}),
        ("again.move_time", of_it | {"time": None}),
        ("again.change_card", of_it | {"customer_uid": "eve-2"}),
        ("again.change_plan", of_it | {"plan": "later"}),
        ("again.card_changed", {"customer_uid": "eve-2", **who}),
        ("again.refund_charge", {"charge": charge, "request_key": "b", "amount": 900, "currency": "KRW", **who}),
        ("again.unsubscribe", of_it | {"now": True}),
    )
    assert [answer for answer in answers if not answer["ok"]] == []
    assert [answer["period_no"] for answer in answers[:2]] == [1, 1]

    def is_made() -> bool:
        return bool(sent(shop, ("again.refund_status", {"request_key": "b"}))[0]["state"] == "made")

    assert wait_until(is_made, 40)
    wrong = sent(
        shop,
        ("again.waive", {"charge": charge, **who}),
        ("again.cancel_charge", {"charge": charge, **who}),
        ("again.paid_elsewhere", {"charge": charge, **who}),
        ("again.release", {"key": charge, **who}),
        ("again.pause", of_it),
    )
    assert [answer["code"] for answer in wrong] == ["conflict"] * 5
    verbs = [act["verb"] for act in shop.told_json("audit", key)]
    assert {"skip", "undo", "pause", "resume", "move-anchor", "move-time", "change-card", "change-plan"} <= set(
        verbs
    )
    assert verbs.count("skip") == 1
    (same,) = sent(
        shop,
        ("again.subscribe", {"customer_uid": "eve", "plan": "now", "actor": "shop", "request_key": "order-1"}),
    )
    assert same == begun


def test_a_command_and_a_task_under_one_request_key_are_one_request(shop: Installation) -> None:
    shop.simulator("cards", {"customer_uid": "flo"})
    shop.told("customer", "add", "flo", "--request-key", "new-flo")
    told = shop.told_json("subscribe", "flo", "now", "--request-key", "order-flo")
    ended = ("unsubscribe", told["key"], "--now", "--why", "left", "--request-key", "end-flo")
    shop.told(*ended)
    assert shop.told_json("subscribe", "flo", "now", "--request-key", "order-flo") == told | {"is_new": False}
    request = {"customer_uid": "flo", "plan": "now", "actor": "shop", "request_key": "order-flo"}
    (answer,) = sent(shop, ("again.subscribe", request))
    assert answer["subscription"] == told["key"]
    repeated = again(*ended, settings=shop.settings)
    assert (repeated.returncode, "was carried out before" in repeated.stderr) == (0, True)


def test_a_person_charges_and_sees_what_becomes_of_it(shop: Installation) -> None:
    arguments = ("charge", "ann", "5000", "--name", "Fee", "--request-key", "cli-1", "--why", "late")
    dry_run = shop.told(*arguments, "--dry-run")
    assert dry_run.startswith("nothing is done; it would charge 5,000 KRW to ann")
    lines = shop.told(*arguments, "--wait").splitlines()
    assert "5,000 KRW to ann is open" in lines[0]
    assert any("charge.paid" in line for line in lines)
    status = told_json(*arguments, settings=shop.settings)
    assert (status["status"], status["is_new"], status["attempts"]) == ("paid", False, 1)
    assert [m["amount"] for m in shop.movements("ann")].count(5000) == 1


def test_a_person_who_waits_for_a_decline_is_told_why(shop: Installation) -> None:
    arguments = ("charge", "dan", "5000", "--name", "Fee", "--request-key", "cli-2", "--why", "late")
    done = again(*arguments, "--wait", settings=shop.settings)
    assert done.returncode == 1
    assert "is not tried: it is uncollectible" in done.stderr


def test_a_charge_that_cannot_be_is_refused_in_words(shop: Installation) -> None:
    arguments = ("--name", "Fee", "--request-key", "cli-3", "--why", "late")
    assert "zoe" in refused("charge", "zoe", "5000", *arguments, settings=shop.settings)
    assert "amount" in refused("charge", "ann", "-1", *arguments, settings=shop.settings)
