"""Cards that are typed in, as a person does: stored, charged, signed up with, deleted, and to be found nowhere."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis

from tests.acceptance.again import again
from tests.installation import QUICK, Installation, installed

GOOD = {"number": "5333123412341091", "expiry": "2031-07", "birth": "880717", "password_2_digits": "37"}
POOR = GOOD | {"number": "4000000000101092"}  # the simulator's: no money


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    """Everything as `again up` runs it, at the most talkative."""
    with installed(QUICK | {"AGAIN_LOG_LEVEL": "DEBUG"}) as running:
        yield running


def typed(shop: Installation, card: dict[str, str] | str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command that reads a card from standard input."""
    text = card if isinstance(card, str) else json.dumps(card)
    return again(*arguments, settings=shop.settings, typed=text)


def shown(shop: Installation, customer_uid: str) -> Any:
    """What is told of a card."""
    return shop.told_json("card", "show", customer_uid)


def test_a_card_is_stored_shown_replaced_and_deleted(shop: Installation) -> None:
    done = typed(shop, GOOD, "card", "issue", "ann", "--why", "at the desk", "--name", "Ann")
    assert done.returncode == 0, done.stderr
    assert "53331234****1091" in done.stdout
    typed(shop, GOOD | {"number": "5333123412349999"}, "card", "issue", "ann", "--why", "another card")
    told = shown(shop, "ann")
    assert told["here"]["card_number"] == told["at_gateway"]["card_number"] == "53331234****9999"
    assert [act["verb"] for act in told["history"]].count("card.issue") == 2
    assert "would delete the card of ann" in shop.told("card", "delete", "ann", "--why", "he asked", "--dry-run")
    shop.told("card", "delete", "ann", "--why", "he asked")
    assert shown(shop, "ann")["at_gateway"] == {"none": "the gateway has no such key"}


def test_a_card_pays_at_the_desk_once(shop: Installation) -> None:
    arguments = ("card", "pay", "ben", "7000", "--name", "Desk", "--request-key", "desk-1", "--why", "bought")
    for _ in range(2):
        done = typed(shop, GOOD, *arguments)
        assert done.returncode == 0, done.stderr
        assert "7,000 KRW is paid" in done.stdout
    assert [m["amount"] for m in shop.simulator("ledger")["movements"]].count(7000) == 1
    poor = typed(shop, POOR, *arguments[:-3], "desk-2", "--why", "bought")
    assert poor.returncode == 1
    assert "is not paid" in poor.stderr


def test_a_signup_pays_and_begins_or_leaves_nothing(shop: Installation) -> None:
    poor = typed(shop, POOR, "subscribe", "cho", "now", "--card")
    assert poor.returncode == 1
    assert "the first payment failed, so there is no subscription" in poor.stderr
    done = typed(shop, GOOD, "subscribe", "cho", "now", "--card")
    assert done.returncode == 0, done.stderr
    key = done.stdout.split()[1].rstrip(":")
    assert shop.told_json("show", key)["next_period_no"] == 1
    assert [m["amount"] for m in shop.movements("cho")] == [9900]


def test_a_key_of_the_payment_window_is_subscribed_in_one_step(shop: Installation) -> None:
    shop.simulator("cards", {"customer_uid": "dan"})
    shop.wait_for(shop.told_json("subscribe", "dan", "now", "--enroll")["key"], "paid")


@pytest.mark.parametrize(
    "text",
    ["", "5333123412341091", '{"number": "5333123412341091"}', '{"number": 5333123412341091, "expiry": "2031-07"}',
     '{"number": "5333123412341091", "expiry": "2031-07", "cvc": "123"}', json.dumps(GOOD | {"expiry": "07/31"}),
     json.dumps(GOOD | {"number": "53331234"}), "x" * 5000],
)  # fmt: skip
def test_what_is_no_card_is_refused_and_not_repeated(shop: Installation, text: str) -> None:
    done = typed(shop, text, "card", "issue", "eve", "--why", "at the desk")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for secret in ("5333123412341091", "53331234", "07/31", "2031-07", "cvc"):
        assert secret not in done.stderr + done.stdout


def test_nothing_of_a_card_is_in_a_row_a_message_or_a_log(shop: Installation) -> None:
    typed(shop, GOOD, "card", "issue", "zoe", "--why", "at the desk")
    for number, card in enumerate((GOOD, POOR)):
        arguments = ("--name", "Desk", "--request-key", f"trace-{number}", "--why", "bought")
        typed(shop, card, "card", "pay", "yun", "7000", *arguments)
    typed(shop, GOOD, "subscribe", "wes", "now", "--card")
    secrets = [GOOD["number"], POOR["number"], GOOD["expiry"], GOOD["birth"]]
    with psycopg.connect(shop.settings["AGAIN_DATABASE_URL"].replace("+psycopg", "")) as db:
        names = [row[0] for row in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = "\n".join(str(row) for name in names for row in db.execute(f'SELECT * FROM "{name}"'))
    broker = redis.Redis.from_url(shop.settings["AGAIN_BROKER_URL"])
    messages = "\n".join(str(broker.dump(key)) for key in broker.scan_iter())
    logs = "\n".join(
        file.read_text("utf-8", "replace")
        for file in (shop.standing.data / "logs").iterdir()
        if not file.name.startswith("simulator")
    )
    assert "trace-1" in rows
    assert logs
    for secret in secrets:
        for where in (rows, messages, logs):
            assert secret not in where
