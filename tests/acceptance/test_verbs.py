"""Commands that are made from the functions of the task API."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import select

from tests.acceptance.again import again, refused, told, told_json
from tests.factories import move_to, on_sale, subscribed
from worker.cli import command_line
from worker.cli.terminal.answers import print_rest
from worker.cli.terminal.examples import commands_of
from worker.services import Services
from worker.store.tables import audit, charges, outbox, requests, subscriptions
from worker.task_api import answers, verbs

COMMANDS: dict[str, Any] = dict(commands_of(command_line()))
NAMES = {verbs.add_customer: "customer add", verbs.card_changed: "card changed", verbs.try_charge: "try"}
MADE = (
    verbs.pause, verbs.resume, verbs.undo, verbs.skip, verbs.move_anchor, verbs.move_time, verbs.change_plan,
    verbs.change_card, verbs.unsubscribe, verbs.try_charge, verbs.waive, verbs.cancel_charge,
    verbs.paid_elsewhere, verbs.add_customer, verbs.card_changed,
)  # fmt: skip
NOW = "2026-01-31T00:00:00Z"
PERIOD = {"period_no": 2, "due_at": NOW, "amount": 990, "currency": "USD"}


@pytest.mark.parametrize("verb", MADE, ids=lambda verb: verb.__name__)
def test_a_command_takes_each_field_of_its_verb_and_shows_the_verb_s_help(verb: Any) -> None:
    command = COMMANDS[NAMES.get(verb, verb.__name__.replace("_", "-"))]
    taken = {parameter.name for parameter in command.params} - {"dry_run", "as_json", "help"}
    fields = {field.name for field in answers.fields_of(verb)}
    assert taken == {{"reason": "why", "actor": "who"}.get(name, name) for name in fields}
    assert command.help in verb.__doc__


@pytest.fixture
def settings(database: str) -> dict[str, str]:
    """The settings of commands on the test's own database."""
    return {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
    }  # fmt: skip


@pytest.fixture
def key(services: Services) -> str:
    """A subscription whose first period is due far in the future of the commands' clock."""
    move_to(services, datetime(2089, 12, 31, tzinfo=UTC))
    on_sale(services)
    return subscribed(services, anchor=date(2090, 1, 31))


def written(services: Services) -> list[Any]:
    """All rows that a verb may write."""
    with services.engine.begin() as db:
        return [db.execute(select(table)).all() for table in (subscriptions, charges, audit, outbox, requests)]


def test_a_dry_run_of_a_command_writes_nothing(services: Services, settings: dict[str, str], key: str) -> None:
    """Guard: what a person only wants to see changes no subscription."""
    before = written(services)
    for words in (("pause", key), ("skip", key), ("unsubscribe", key, "--now"), ("move-time", key, "21:30")):
        shown = told(*words, "--why", "to see it", "--dry-run", "--request-key", "seen", settings=settings)
        assert "nothing is done; it would" in shown
    assert written(services) == before


def test_a_command_is_carried_out_once_for_its_request_key(settings: dict[str, str], key: str) -> None:
    """Guard: a person who is not sure whether a command was carried out may give it again."""
    skip = ("skip", key, "--why", "no delivery", "--request-key", "skip-1")
    first = told_json(*skip, settings=settings)
    assert "request 'skip-1' was carried out before" in again(*skip, settings=settings).stderr
    assert told_json(*skip, settings=settings) == first | {"is_new": False}
    assert "'skip-1' was used for `skip`" in refused("pause", *skip[1:], settings=settings)
    assert [act["verb"] for act in told_json("audit", key, settings=settings)].count("skip") == 1


def test_only_what_an_act_alone_changes_can_be_tried_in_a_dry_run() -> None:
    """Guard: no command takes --dry-run that calls the gateway, or writes beside its act."""
    of_each = {path: {parameter.name for parameter in command.params} for path, command in COMMANDS.items()}
    assert [path for path in ("customer add", "card changed") if "dry_run" in of_each[path]] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("move-anchor", "key", "2026-02-30"), "'2026-02-30' is not a date; write it like 2026-01-31"),
        (("move-time", "key", "24:00"), "'24:00' is not a time of day; write it like 09:00"),
        (("undo", "key", "--what", "pause"), "'pause' is not one of 'end', 'skip'"),
        (("skip", "key", "--period", "next"), "--period"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(words: tuple[str, ...], expected: str) -> None:
    assert expected in refused(*words, "--why", "a reason")


def test_whatever_an_answer_says_of_charges_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    opened = [
        PERIOD | {"charge": "r1", "closed_why": None},
        PERIOD | {"period_no": 3, "charge": "r2", "closed_why": "skipped"},
    ]
    print_rest({
        "due_at_before": NOW, "amount_before": 1000, "currency_before": "KRW", "amount": 990, "currency": "USD",
        "next_due_at": NOW, "next_amount": 1990, "opened": opened, "stops": PERIOD,
        "debts": [PERIOD | {"charge": "r3", "became": "left"}],
        "canceled": [PERIOD | {"charge": "r4"}], "unclear": [PERIOD | {"charge": "r5"}],
    })  # fmt: skip
    due = "2026-01-31 00:00Z (09:00 KST)"
    assert capsys.readouterr().out.splitlines() == [
        f"next charge: 1,000 KRW, due {due} -> 9.90 USD, due {due}",
        f"charge r3, 9.90 USD, due {due}: it is of another gateway account, and stays with the card before",
        f"next charge: 19.90 USD, due {due}",
        f"period 2, 9.90 USD, was due {due} and is opened as charge r1",
        f"period 3, 9.90 USD, was due {due} and is not charged: skipped",
        f"period 2, 9.90 USD, due {due}, is not charged unless it is resumed before",
        "canceled: charge r4, 9.90 USD",
        "unclear: charge r5, 9.90 USD, may be paid yet; a payment causes the event charge.paid_after_end",
    ]
