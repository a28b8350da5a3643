"""`again forecast`, as a person and a program read it."""

import csv
import io
import json
import os
import subprocess
from datetime import date, timedelta
from pathlib import Path

import pytest

from schedules.calendar.cadence import Every, Unit
from schedules.charging.outcomes import Declined
from schedules.money.amounts import Money
from tests.acceptance.again import AGAIN, plain_environment, refused, told
from tests.doubles import ScriptedGateway
from tests.factories import START, collect_due, move, on_sale, subscribed
from worker.clock import MovedClock
from worker.services import Services

FEBRUARY = ("forecast", "--from", "2026-02-01", "--to", "2026-02-28")


@pytest.fixture
def shop(services: Services, gateway: ScriptedGateway, database: str, tmp_path: Path) -> dict[str, str]:
    """Two plans in two currencies and a debt, late in January; the settings to look at it."""
    on_sale(services, cadence=Every(1, Unit.WEEK))
    on_sale(services, code="abroad", price=Money(1234, "USD"))
    for number in range(3):
        subscribed(services, f"c{number}", anchor=date(2026, 2, 1 + number))
    subscribed(services, "ann", "abroad")
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    collect_due(services)
    subscribed(services, "lost", "abroad", date(2026, 1, 31))
    gateway.answers.append(Declined("분실 카드"))
    collect_due(services)
    clock = tmp_path / "clock"
    MovedClock(clock).move_to(move(services, hours=1))
    return {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
        "AGAIN_CLOCK_FILE": str(clock),
    }  # fmt: skip


def test_a_person_sees_the_sums_by_day_as_bars_for_each_currency_and_what_is_left_out(
    shop: dict[str, str], tmp_path: Path
) -> None:
    picture = tmp_path / "february.png"
    lines = lines_of(*FEBRUARY, "--plot", str(picture), settings=shop)
    assert "KRW, 2026-02-01 to 2026-02-28" in lines
    assert "USD, 2026-02-01 to 2026-02-28" in lines
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert ["2026-02-01 Sun", "1", "0", "9,900 KRW", "█" * 40] in cells
    assert ["2026-02-01 Sun", "0", "1", "12.34 USD", "█" * 40] in cells
    assert ["2026-02-04 Wed", "", "", "", ""] in cells
    assert len(cells) == 2 * 28
    assert lines[-2:] == [
        "14 charges, 118,800 KRW, 24.68 USD, if every card pays",
        "not in it: 1 charges, 12.34 USD: its card can never pay; it waits for another one",
    ]
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_program_reads_a_line_for_each_charge(shop: dict[str, str]) -> None:
    lines = [json.loads(line) for line in told(*FEBRUARY, "--json", settings=shop).splitlines()]
    assert len(lines) == 14
    (debt,) = [line for line in lines if line["why"] == "try 2, after 1 declines"]
    assert (debt["customer_uid"], debt["amount"], debt["currency"]) == ("ann", 1234, "USD")
    assert (debt["day"], debt["due_at"], debt["at"]) == (
        "2026-02-01",
        _told(START),
        _told(START + timedelta(days=1)),
    )
    first = min((line for line in lines if line["customer_uid"] == "c0"), key=lambda line: line["at"])
    assert first == {
        "charge": f"r{first['subscription']}00000", "customer_uid": "c0", "subscription": first["subscription"],
        "amount": 9900, "currency": "KRW", "day": "2026-02-01", "due_at": "2026-02-01T00:00:00Z",
        "at": "2026-02-01T00:00:00Z", "why": "period 0 of plan monthly version 1",
    }  # fmt: skip


def lines_of(*command: str, settings: dict[str, str]) -> list[str]:
    """What a person reads, line by line."""
    return [line.rstrip() for line in told(*command, settings=settings).splitlines()]


def _told(at: object) -> str:
    return str(at).replace(" ", "T").replace("+00:00", "Z")


def test_sums_and_charges_are_told_as_csv_and_sums_as_json_and_they_agree(shop: dict[str, str]) -> None:
    each = list(csv.DictReader(io.StringIO(told(*FEBRUARY, "--csv", settings=shop))))
    days = list(csv.DictReader(io.StringIO(told(*FEBRUARY, "--csv", "--by-day", settings=shop))))
    document = json.loads(told(*FEBRUARY, "--json", "--by-day", settings=shop))
    assert [{name: str(value) for name, value in day.items()} for day in document["days"]] == days
    for currency, amount in document["sums"].items():
        assert amount == sum(int(line["amount"]) for line in each if line["currency"] == currency)
    assert [(left["charges"], left["amount"]) for left in document["left_out"]] == [(1, 1234)]


def test_without_days_it_is_the_thirty_from_today_and_of_a_plan_only_that(shop: dict[str, str]) -> None:
    lines = lines_of("forecast", "--plan", "abroad", settings=shop)
    assert lines[0] == "USD of plan abroad, 2026-01-31 to 2026-03-01"


def test_nothing_is_foreseen_in_words(shop: dict[str, str]) -> None:
    past = ("--from", "2020-01-01", "--to", "2020-01-31")
    assert told("forecast", *past, settings=shop) == "0 charges, nothing, if every card pays\n"
    assert told("forecast", *past, "--json", settings=shop) == ""


def test_a_reader_that_goes_away_early_is_left_alone(shop: dict[str, str]) -> None:
    away = ["sh", "-c", f'"{AGAIN}" {" ".join(FEBRUARY)} --json | true']
    done = subprocess.run(
        away, env=plain_environment(shop), capture_output=True, text=True, check=False, timeout=90
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lines_go_where_they_are_sent_while_somebody_watches_the_progress(shop: dict[str, str]) -> None:
    terminal, its_end = os.openpty()
    done = subprocess.run(
        [AGAIN, *FEBRUARY, "--json"], env=plain_environment(shop), stdout=subprocess.PIPE, stderr=its_end,
        text=True, check=True, timeout=90,
    )  # fmt: skip
    os.close(its_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 14
    assert "charges" in shown
    assert "customer_uid" not in shown


def test_what_a_day_brings_says_what_is_not_charged(shop: dict[str, str]) -> None:
    lines = lines_of("due", "--on", "2026-02-28", settings=shop)
    assert "not charged" in lines
    assert "its card can never pay" in next(line for line in lines if "│ lost" in line)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--from", "2026-03-01", "--to", "2026-02-01"], "give the earlier day first"),
        (["--from", "2026-03-01", "--to", "2036-02-01"], "longer than five years"),
        (["--to", "9999-12-31", "--from", "9999-12-31"], "after the last possible day"),
        (["--from", "soon"], "'soon' is not a date"),
        (["--plan", "tea"], "plan 'tea' is not known; there are: abroad, monthly"),
        (["--zone", "Mars"], "'Mars'"),
        (["--json", "--csv"], "not both"),
        (["--plot", "/nowhere/x.png"], "/nowhere/x.png"),
    ],
)
def test_what_cannot_be_foreseen_is_said(shop: dict[str, str], options: list[str], words: str) -> None:
    assert words in refused("forecast", *options, settings=shop)
