"""A card number is refused on every way in: each field of each task, each text of each command, each file."""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from schedules.batches import COLUMNS, Line, Terms, read_line
from schedules.errors import BadRequest
from schedules.imports import COLUMNS as IMPORTED
from schedules.imports import read_incoming
from tests.factories import LADDER, MONTHLY, on_sale
from worker import answering, cli
from worker.requests import ASKED, Answer, Desk
from worker.workflows import enrolling
from worker.workflows.services import Services

NUMBER = "4111/1111/1111/1111"
TEXT = f"the card is {NUMBER}, he says"
ENDS = ("1111/1111", "11111111")
CASES = [(asked, field.name) for asked in ASKED for field in answering.fields_of(asked)]


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        elif isinstance(command, TyperCommand):
            yield (*path, name), command


def texts() -> Iterator[tuple[str, ...]]:
    """The arguments that give a text with a card number in each place of each command that takes a text."""
    for path, command in commands(cast("TyperGroup", typer.main.get_command(cli.app))):
        for parameter in command.params:
            if not isinstance(parameter, TyperOption):
                yield (*path, TEXT)
            elif not parameter.is_flag:
                yield (*path, parameter.opts[0], TEXT)
                yield (*path, f"{parameter.opts[0]}={TEXT}")


def test_the_walk_over_the_commands_finds_them() -> None:
    found = set(texts())
    assert ("charge", "--why", TEXT) in found
    assert ("plan", "add", f"--name={TEXT}") in found
    assert len(found) > 200


@pytest.mark.parametrize(("asked", "field"), CASES, ids=[f"{asked.__name__}-{field}" for asked, field in CASES])
def test_no_field_of_a_task_takes_a_card_number(
    asked: Callable[..., Answer], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Guard: nothing that a message says is stored, answered or logged with a card number in it."""
    desk = cast("Desk", None)  # a message that is refused reaches no desk
    with caplog.at_level(logging.DEBUG):
        answer = answering.answer(desk, asked, (), {field: TEXT})
    assert answer["ok"] is False
    assert answer["errors"] == [
        {"field": field, "words": "it looks like a card number; those belong to the gateway alone"}
    ]
    assert not any(end in str(answer) + caplog.text for end in ENDS)


@pytest.mark.parametrize("arguments", list(texts()), ids="_".join)
def test_no_argument_of_a_command_takes_a_card_number(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard: nothing that a person types on the command line is stored or shown with a card number in it."""
    monkeypatch.setattr(sys, "argv", ["again", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code == 1
    assert "it looks like a card number" in told.err
    assert not any(end in told.out + told.err for end in ENDS)


def test_the_actor_of_the_environment_is_no_card_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["again", "stop-charging", "--why", "x"])
    monkeypatch.setenv("AGAIN_ACTOR", TEXT)
    with pytest.raises(SystemExit):
        cli.main()
    assert "actor: it looks like a card number" in capsys.readouterr().err


def test_a_reason_that_is_the_name_of_a_file_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "4111-1111-1111-1111").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["again", "stop-charging", "--why", "4111-1111-1111-1111"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "why: it looks like a card number" in capsys.readouterr().err


@pytest.mark.parametrize("column", COLUMNS)
def test_no_column_of_a_batch_takes_a_card_number(column: str) -> None:
    terms = Terms(key="k", name="n", currency="KRW", reason="r", policy="once", canary=0)
    said = {"customer_uid": "ann", "amount": "9900"} | {column: TEXT}
    with pytest.raises(BadRequest) as refused:
        read_line(Line(2, said), terms)
    assert (refused.value.field, "card number" in refused.value.words) == (column, True)


@pytest.mark.parametrize("column", IMPORTED)
def test_no_column_of_an_import_takes_a_card_number(column: str) -> None:
    said = {"customer_uid": "ann", "plan": "monthly", "next_date": "2026-02-28"} | {column: TEXT}
    with pytest.raises(BadRequest) as refused:
        read_incoming(said)
    assert (refused.value.field, "card number" in refused.value.words) == (column, True)


def test_no_plan_and_no_policy_is_named_by_a_card_number(services: Services) -> None:
    with pytest.raises(BadRequest, match="name: it looks like a card number"):
        on_sale(services, statement_name=NUMBER)
    with pytest.raises(BadRequest, match="code: it looks like a card number"):
        on_sale(services, code=NUMBER.replace("/", "-"))
    with pytest.raises(BadRequest, match="policy: it looks like a card number"):
        enrolling.add_policy(services, replace(LADDER, code=NUMBER.replace("/", "-")), "test")
    assert on_sale(services).code == MONTHLY.code
