"""What a person reads: words are shown as they are."""

from datetime import UTC, date, datetime, time

import pytest

from schedules.money import Money
from schedules.outcomes import Declined
from tests import factories
from tests.acceptance.again import told
from tests.doubles import ScriptedGateway
from worker.cli.output import print_table
from worker.workflows.services import Services

KEY = "r" + "0123456789" * 2 + "ABCDE"


def test_words_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("reasons", ("why",), [("[CC10] [/oops] [bold]x[/bold]",)])
    assert "[CC10] [/oops] [bold]x[/bold]" in capsys.readouterr().out


def test_a_list_that_no_terminal_shows_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("charges", ("key", "other", "why"), [(KEY, KEY, "word " * 50)])
    assert f"│ {KEY} │ {KEY} │ {'word ' * 49}word" in capsys.readouterr().out


def test_a_key_is_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    print_table("charges", ("key", "other", "why"), [(KEY, KEY, "word " * 50)])
    lines = capsys.readouterr().out.splitlines()
    assert f"│ {KEY} │ {KEY} │ word" in "\n".join(lines)
    assert len(lines) > 20


def test_what_a_day_brings_is_in_the_order_of_time_with_its_sum_as_prices_are_written(
    services: Services, gateway: ScriptedGateway, database: str
) -> None:
    factories.move_to(services, datetime(2089, 12, 31, 6, tzinfo=UTC))
    eve, day = date(2089, 12, 31), date(2090, 1, 1)
    for code, hour, anchor in (("late", 15, eve), ("noon", 12, day), ("early", 7, day)):
        factories.on_sale(services, code=code, billing_time=time(hour), price=Money(1234, "USD"))
        factories.subscribed(services, code, code, anchor)
    gateway.answers.append(Declined("no"))
    factories.collect_due(services)
    settings = {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
    }  # fmt: skip
    lines = told("due", "--on", "2090-01-01", settings=settings).splitlines()
    assert [line.split("│")[2].strip() for line in lines if line.startswith("│")] == ["early", "noon", "late"]
    assert lines[-2] == "3 charges, 37.02 USD"
    assert lines[-1].startswith(
        "account main: 3 calls; at 50 a second they take 0.1 s; none waits longer than 0.0 s;"
    )
