"""A card number is refused on every way in: each field of each task, each text of each command, each file.

In a text that a person writes freely, in any writing; in an id, as it is printed on a card.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup, TyperOption

from schedules.errors import BadRequest
from schedules.requests.adhoc import VerbRequest
from schedules.requests.batches import COLUMNS, Line, Terms, read_line
from schedules.requests.imports import COLUMNS as IMPORTED
from schedules.requests.imports import read_incoming
from schedules.requests.refunds import RefundRequest
from schedules.texts import FREE_TEXTS
from tests.factories import LADDER, MONTHLY, on_sale
from worker import cli
from worker.customers import enrollment
from worker.services import Services
from worker.task_api import answers
from worker.task_api.verbs import VERBS, Answer, Context

NUMBER = "4111/1111/1111/1111"
TEXT = f"the card is {NUMBER}, he says"
ENDS = ("1111/1111", "1111-1111", "11111111")
PRINTED = ("4111111111111111", "4111-1111-1111-1111")
KEY = "order-664816-69778857"  # its digits, taken together, have a card's first digits and check digit
CASES = [(asked, field.name) for asked in VERBS for field in answers.fields_of(asked)]


def bad_texts(field: str) -> tuple[str, ...]:
    """Texts that this field may not hold."""
    return (*PRINTED, TEXT) if field in FREE_TEXTS else PRINTED


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        elif isinstance(command, TyperCommand):
            yield (*path, name), command


def texts(given: Callable[[str], tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The arguments that give such a text in each place of each command that takes a text."""
    for path, command in commands(cli.command_line()):
        for parameter in command.params:
            if not isinstance(parameter, TyperOption):
                yield from ((*path, text) for text in given("key"))
                yield from ((*path, "--yes", text) for text in given("key"))
            elif not parameter.is_flag:
                option = parameter.opts[0]
                for text in given(option.removeprefix("--")):
                    yield (*path, option, text)
                    yield (*path, f"{option}={text}")


def test_the_walk_over_the_commands_finds_them() -> None:
    found = set(texts(bad_texts))
    assert ("charge", "--why", TEXT) in found
    assert ("plan", "add", f"--name={TEXT}") in found
    assert ("charge", "--request-key", PRINTED[0]) in found
    assert len(found) > 200


@pytest.mark.parametrize(("asked", "field"), CASES, ids=[f"{asked.__name__}-{field}" for asked, field in CASES])
def test_no_field_of_a_task_takes_a_card_number(
    asked: Callable[..., Answer], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Guard: nothing that a message says is stored, answered or logged with a card number in it."""
    context = cast("Context", None)  # a refused message uses no context
    for text in bad_texts(field):
        with caplog.at_level(logging.DEBUG):
            answer = answers.answer(context, asked, (), {field: text})
        assert answer["ok"] is False
        assert answer["errors"] == [
            {"field": field, "words": "it looks like a card number; only the gateway may have those"}
        ]
        assert not any(end in str(answer) + caplog.text for end in ENDS)


@pytest.mark.parametrize(("asked", "field"), CASES, ids=[f"{asked.__name__}-{field}" for asked, field in CASES])
def test_an_id_of_a_task_may_have_groups_of_digits(asked: Callable[..., Answer], field: str) -> None:
    """Guard: a request that was taken before an upgrade, delivered again, is answered and not refused."""
    if field in FREE_TEXTS:
        return
    with contextlib.suppress(ValidationError):  # other fields are left out
        assert answers.read_fields(asked, (), {field: KEY})[field] == KEY


def test_no_argument_of_a_command_takes_a_card_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard: nothing that a person types on the command line is stored or shown with a card number in it."""
    for arguments in texts(bad_texts):
        monkeypatch.setattr(sys, "argv", ["again", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert ended.value.code == 1, arguments
        assert "it looks like a card number" in told.err, arguments
        assert not any(end in told.out + told.err for end in ENDS), arguments


def test_an_id_on_the_command_line_may_have_groups_of_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: every verb takes the ids and request keys that it took before an upgrade."""
    asked = list(texts(lambda field: () if field in FREE_TEXTS else (KEY,)))
    taken: list[list[str]] = []
    parser = SimpleNamespace(main=lambda args, **_: taken.append(args))
    monkeypatch.setattr(cli, "command_line", lambda _: parser)
    for arguments in asked:
        monkeypatch.setattr(sys, "argv", ["again", *arguments])
        with pytest.raises(SystemExit):
            cli.main()
    assert taken == [list(arguments) for arguments in asked]


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
    for text in bad_texts(column):
        said = {"customer_uid": "ann", "amount": "9900"} | {column: text}
        with pytest.raises(BadRequest) as refused:
            read_line(Line(2, said), terms)
        assert (refused.value.field, "card number" in refused.value.words) == (column, True)


@pytest.mark.parametrize("column", IMPORTED)
def test_no_column_of_an_import_takes_a_card_number(column: str) -> None:
    for text in bad_texts(column):
        said = {"customer_uid": "ann", "plan": "monthly", "next_date": "2026-02-28"} | {column: text}
        with pytest.raises(BadRequest) as refused:
            read_incoming(said)
        assert (refused.value.field, "card number" in refused.value.words) == (column, True)


def test_ids_in_files_and_refunds_may_have_groups_of_digits() -> None:
    """Guard: a line that was taken before an upgrade is taken after it."""
    terms = Terms(key=KEY, name="n", currency="KRW", reason="r", policy=KEY, canary=0)
    asked = read_line(Line(2, {"customer_uid": KEY, "amount": "9900", "request_key": KEY}), terms)
    assert (asked.customer_uid, asked.request_key, asked.policy) == (KEY, KEY, KEY)
    said = {"customer_uid": KEY, "plan": KEY, "next_date": "2026-02-28", "external_ref": KEY, "account": KEY}
    incoming = read_incoming(said)
    assert (incoming.customer_uid, incoming.plan, incoming.external_ref) == (KEY, KEY, KEY)
    assert RefundRequest(charge=KEY, money=None, request_key=KEY, reason="r").request_key == KEY
    assert VerbRequest(request_key=KEY, verb="waive", arguments={}).request_key == KEY
    enrollment.check_facts(KEY)


def test_no_plan_and_no_policy_is_named_by_a_card_number(services: Services) -> None:
    with pytest.raises(BadRequest, match="name: it looks like a card number"):
        on_sale(services, statement_name=NUMBER)
    with pytest.raises(BadRequest, match="code: it looks like a card number"):
        on_sale(services, code=NUMBER.replace("/", "-"))
    with pytest.raises(BadRequest, match="policy: it looks like a card number"):
        enrollment.add_policy(services, replace(LADDER, code=NUMBER.replace("/", "-")), "test")
    assert on_sale(services).code == MONTHLY.code
