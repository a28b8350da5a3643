"""What a person reads: words are shown as they are."""

import os
from dataclasses import replace
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from schedules.charging.outcomes import Declined
from schedules.money.amounts import Money
from tests import factories
from tests.acceptance.again import told
from tests.doubles import ScriptedGateway
from worker.cli.terminal import dry_run
from worker.cli.terminal.dry_run import HIDDEN, WORDS
from worker.cli.terminal.output import moment, print_facts, print_table, say
from worker.services import DryRunChanges, Services
from worker.store.tables import charges, subscriptions
from worker.task_api.verbs import Context

KEY = "r" + "0123456789" * 2 + "ABCDE"


def test_words_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("reasons", ("why",), [("[CC10] [/oops] [bold]x[/bold]",)])
    assert "[CC10] [/oops] [bold]x[/bold]" in capsys.readouterr().out


def test_a_list_that_no_terminal_shows_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("charges", ("key", "other", "why"), [(KEY, KEY, "word " * 50)])
    assert f"│ {KEY} │ {KEY} │ {'word ' * 49}word" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ("80", f"│ {KEY} │ {KEY} │ word"),
        ("40", f"- key: {KEY}\n  other: {KEY}\n  why: word"),
    ],
)
def test_a_key_is_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, shown: str
) -> None:
    """In columns as far as they fit, else each row as lines."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    print_table("charges", ("key", "other", "why"), [(KEY, KEY, "word " * 50)])
    assert shown in capsys.readouterr().out


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
    for asked in ({"AGAIN_ZONE": "UTC"}, {}):
        shown = told("due", "--on", "2090-01-01", "--zone", "Asia/Kathmandu", settings=settings | asked)
        assert shown.count("+0545)") == 4
        assert "KST" not in shown
    assert "KST" not in told("due", "--on", "2090-01-01", "--zone", "UTC", settings=settings)


def test_a_moment_is_shown_in_utc_with_the_shop_s_time_beside_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AGAIN_")]:
        monkeypatch.delenv(name)
    at = datetime(2026, 11, 30, 15, 30, 59, tzinfo=UTC)
    print_facts("charge", {"due_at": at, "closed_at": "2026-11-30T01:00:00Z", "why": "due 2026-11-30 09:00Z"})
    say(f"it is due {moment(at, ZoneInfo('Europe/Berlin'))}, not on 2026-99-30 09:00Z")
    assert capsys.readouterr().out.splitlines() == [
        "charge",
        "  due at: 2026-11-30 15:30:59Z (12-01 00:30 KST)",
        "  closed at: 2026-11-30 01:00:00Z (10:00 KST)",
        "  why: due 2026-11-30 09:00Z (18:00 KST)",
        "it is due 2026-11-30 15:30:59Z (16:30 CET), not on 2026-99-30 09:00Z",
    ]


def test_a_dry_run_names_amounts_in_the_currency_that_stays(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = DryRunChanges()
    changes.note({"refunded": 0, "currency": "USD"}, {"refunded": 3000, "currency": "USD"})
    assert dry_run.print_if_dry_run(Context(replace(services, dry_run=changes), lambda _: None), "give it back")
    assert capsys.readouterr().out.splitlines()[-1] == "  refunded: 0.00 USD -> 30.00 USD"


def test_a_dry_run_has_words_for_every_column_that_it_may_show() -> None:
    columns = {column.name for table in (charges, subscriptions) for column in table.columns}
    assert columns == HIDDEN | set(WORDS)
    assert not any("_" in words for words in WORDS.values())
