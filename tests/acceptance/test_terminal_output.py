"""What others have written reaches a terminal, a log line and a spreadsheet as text, and never as a command."""

import io
import json
import logging
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.texts import escaped, escaped_in_json
from tests.acceptance.again import told
from worker import logs
from worker.cli.terminal.output import escaping_output, print_facts, print_json, print_table
from worker.cli.terminal.tables import cell, print_csv, read_csv, text_of, to_write, write
from worker.services import Services
from worker.store.outbox import event_log
from worker.task_api import answers, verbs
from worker.task_api.verbs import Context
from worker.textfiles import UnreadableText, read_text

CLI = Path(__file__).resolve().parents[2] / "worker/cli"
HOSTILE = "kim\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\rroot"
SIGNS = "\x1b\x07\x9b\u202e\r"
FORMULAS = ["=1+1", '=HYPERLINK("http://x","y")', "+8210", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1+1", "'=1"]


def is_harmless(text: str) -> bool:
    """Whether no sign of the hostile text is in it."""
    return not any(sign in text for sign in SIGNS)


def test_a_terminal_gets_no_command_from_a_table_a_fact_a_line_or_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guard: a task's actor or reason cannot move the cursor, set a title or hide what a person reads."""
    with escaping_output():
        print_table("audit", ("actor", "why"), [(HOSTILE, "x")])
        print_facts(f"charge {'x'}", {"words": HOSTILE})
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        print_json({"actor": HOSTILE})
    shown = capsys.readouterr()
    assert is_harmless(shown.out + shown.err)
    assert shown.out.count("\\x1b[2J") == 3
    assert json.loads(shown.out[shown.out.rindex("{") :]) == {"actor": HOSTILE}


def test_a_fact_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts("charge", {"words": "declined\n  status: paid"})
    assert capsys.readouterr().out.splitlines() == ["charge", "  words: declined\\n  status: paid"]


def test_what_an_earlier_version_has_stored_is_shown_escaped(services: Services, database: str) -> None:
    with services.engine.begin() as db:
        event_log.record(db, HOSTILE, "release", "x", HOSTILE, datetime(2026, 1, 1, tzinfo=UTC))
    settings = {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
    }  # fmt: skip
    for arguments in (["audit"], ["audit", "--json"], ["export", "audit", "--jsonl"]):
        assert is_harmless(told(*arguments, settings=settings))


def test_every_console_is_made_in_one_place() -> None:
    """Guard: a command that writes to the terminal beside the one place would not be escaped."""
    for file in CLI.rglob("*.py"):
        text = file.read_text()
        assert file.name == "output.py" or " Console(" not in text, file
        assert "sys.__std" not in text, file


@given(st.text())
def test_an_escaped_text_has_no_command_and_json_says_the_same(text: str) -> None:
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in escaped(text, lines=False))
    assert json.loads(escaped_in_json(json.dumps(text, ensure_ascii=False))) == text


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, at DEBUG; the tests' own logs are as before at the end."""
    root, ours = logging.getLogger(), logging.getLogger("again")
    before = root.handlers[:], root.level, ours.level
    logs.log_to_stderr("DEBUG", "text")
    stream = io.StringIO()
    cast("logging.StreamHandler[io.StringIO]", root.handlers[0]).setStream(stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def fail(words: str) -> None:
    """Raise an error with these words."""
    raise ValueError(words)


def test_nobody_forges_a_log_line(lines: io.StringIO) -> None:
    """Guard: a newline in a field's name, a value or an error begins no line of the log."""
    forged = "x\n2026-01-01 00:00:00,000 ERROR   again.settling: forged"
    context = cast("Context", None)  # a refused message uses no context
    answer = answers.answer(context, verbs.waive, (), {forged: "y", "charge": "c", "actor": "a", "reason": "r"})
    assert answer["errors"][0]["field"].startswith("x\\n2026-01-01")
    logging.getLogger("again.x").warning("%s", HOSTILE)
    try:
        fail(forged)
    except ValueError:
        logging.getLogger("again.x").exception("it failed")
    logged = lines.getvalue()
    assert is_harmless(logged)
    assert not [line for line in logged.splitlines() if line.startswith("2026-01-01")]


def test_a_json_log_line_has_no_command() -> None:
    record = logging.LogRecord("again.x", logging.INFO, "f", 1, "%s\n", (HOSTILE,), None)
    line = logs.JsonLines().format(record)
    assert is_harmless(line)
    assert json.loads(line)["message"] == HOSTILE + "\n"


@pytest.mark.parametrize(
    "name", ["httpx", "httpcore.http11", "celery.concurrency.base", "celery.worker.consumer", "kombu.x", "redis"]
)
def test_at_debug_no_library_logs_a_message_or_a_request(lines: io.StringIO, name: str) -> None:
    """Guard: e-mails and telephones of customers stand in messages and requests, and in no log."""
    logging.getLogger(name).debug("TaskPool: Apply (kwargs {'email': 'ann@shop.example', 'tel': '010-1234-5678'})")
    logging.getLogger("again.x").debug("ours")
    assert "ann@shop.example" not in lines.getvalue()
    assert "ours" in lines.getvalue()


@pytest.mark.parametrize("name", ["a\0b", "\0"])
def test_a_nul_in_a_field_s_name_is_answered(name: str) -> None:
    answer = answers.answer(cast("Context", None), verbs.waive, (), {name: "x"})
    assert answer["ok"] is False
    assert "\0" not in str(answer)


def test_a_nul_in_a_path_is_an_error_in_words() -> None:
    with pytest.raises(UnreadableText, match=r"a\\x00b cannot be read"):
        read_text(Path("a\0b"))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_takes_no_text_for_a_formula(text: str, tmp_path: Path) -> None:
    """Guard: a customer's name runs nothing in the spreadsheet of whoever opens an export."""
    with to_write(tmp_path / "out.csv") as stream:
        write(stream, ["name", "amount"], [{"name": text, "amount": -5}], as_lines=False)
    first, second = (tmp_path / "out.csv").read_bytes().decode().split("\r\n", 1)
    assert first == "name,amount"
    assert second.lstrip('"').startswith("'")
    assert second.endswith(",-5\r\n")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        (line,) = read_csv(stream, lambda _: None)
    assert line.columns == {"name": text, "amount": "-5"}


@given(st.text() | st.from_regex(r"'{0,3}\s{0,2}[=+@-].*"))
def test_an_import_undoes_what_an_export_did(text: str) -> None:
    written = str(cell(text))
    assert text_of(written) == text
    assert written.lstrip()[:1] not in {"=", "+", "-", "@"}


def test_reports_as_csv_hold_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv([{"pg": "=1+1", "count": 2}])
    assert capsys.readouterr().out == "pg,count\r\n'=1+1,2\r\n"


def test_an_export_is_for_its_user_alone(tmp_path: Path) -> None:
    """Guard: customers and payments are not readable by everybody on the machine."""
    (tmp_path / "there").touch(0o644)
    for name in ("new", "there"):
        with to_write(tmp_path / name) as stream:
            stream.write("x")
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_csv_that_standard_output_cannot_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: a file that a program reads holds no other characters than ours."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with escaping_output(), pytest.raises(UnicodeEncodeError):
        print_csv([{"name": "월간"}])
