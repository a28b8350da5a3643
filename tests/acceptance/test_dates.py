"""`again dates` says what a rule means; it needs no database and no settings."""

from pathlib import Path

import pytest

from tests.acceptance.again import again, refused, told_json
from worker.runtime.up_environment import FOLDER, Written


def test_a_month_from_the_31st_is_clamped_and_numbered_from_the_anchor() -> None:
    rows = told_json("dates", "--anchor", "2026-01-31", "--unit", "month", "--count", "3")
    assert rows == [
        {"n": 0, "date": "2026-01-31", "at": "2026-01-31T00:00:00Z"},
        {"n": 1, "date": "2026-02-28", "at": "2026-02-28T00:00:00Z"},
        {"n": 2, "date": "2026-03-31", "at": "2026-03-31T00:00:00Z"},
    ]


def test_from_begins_with_the_first_date_on_or_after_it() -> None:
    rows = told_json(
        "dates", "--anchor", "2022-04-30", "--every", "3", "--unit", "month", "--from", "2023-01-01",
        "--count", "2",        "--zone", "UTC", "--time", "00:00",
    )  # fmt: skip
    assert [(row["n"], row["date"]) for row in rows] == [(3, "2023-01-30"), (4, "2023-04-30")]


def test_without_a_zone_it_is_that_of_again_zone() -> None:
    asked = ("dates", "--anchor", "2026-01-31", "--unit", "month", "--count", "1")
    rows = told_json(*asked, settings={"AGAIN_ZONE": "America/New_York"})
    assert rows[0]["at"] == "2026-01-31T14:00:00Z"


def test_without_a_zone_it_is_that_of_the_running_again_up_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    file = Written(folder, {"AGAIN_ZONE": "America/New_York"})
    try:
        done = again("dates", "--anchor", "2026-01-31", "--unit", "month", "--count", "1", cwd=tmp_path)
    finally:
        file.remove()
    assert "2026-01-31 14:00:00Z (09:00 EST)" in done.stdout, done.stderr


def test_an_unknown_zone_of_the_environment_is_refused() -> None:
    asked = ("dates", "--anchor", "2026-01-31", "--unit", "month")
    assert "did you mean 'Asia/Seoul'" in refused(*asked, settings={"AGAIN_ZONE": "Asia/Soul"})


def test_an_overlap_gives_one_date_at_its_first_instant() -> None:
    rows = told_json(
        "dates", "--anchor", "2024-11-02", "--cron", "30 1 * * *", "--zone", "America/New_York", "--count", "3"
    )
    assert [row["at"] for row in rows] == ["2024-11-02T05:30:00Z", "2024-11-03T05:30:00Z", "2024-11-04T06:30:00Z"]


def test_a_gap_moves_the_time_forward() -> None:
    rows = told_json(
        "dates",
        "--anchor",
        "2024-03-10",
        "--unit",
        "day",
        "--zone",
        "America/New_York",
        "--time",
        "02:30",
        "--count",
        "1",
    )
    assert rows[0]["at"] == "2024-03-10T07:30:00Z"


def test_a_cron_text_that_skips_months_is_shown_as_it_is_with_a_warning() -> None:
    done = again("dates", "--anchor", "2024-01-01", "--cron", "0 9 31 * *", "--count", "2", "--json")
    assert done.returncode == 0
    assert '"2024-03-31"' in done.stdout
    assert "skips every month" in done.stderr


def test_the_last_day_of_the_month_is_l() -> None:
    rows = told_json("dates", "--anchor", "2024-01-01", "--cron", "0 0 L * *", "--count", "3")
    assert [row["date"] for row in rows] == ["2024-01-31", "2024-02-29", "2024-03-31"]


def test_a_date_on_a_holiday_moves_and_the_next_does_not() -> None:
    rows = told_json(
        "dates", "--anchor", "2026-01-01", "--unit", "month", "--count", "2", "--shift", "next", "--holidays", "KR"
    )
    assert [row["at"][:10] for row in rows] == ["2026-01-02", "2026-02-02"]
    assert [row["date"] for row in rows] == ["2026-01-01", "2026-02-01"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--anchor", "2026-02-30", "--unit", "day"], "'2026-02-30' is not a date"),
        (["--anchor", "2026-01-31"], "--unit"),
        (["--anchor", "2026-01-31", "--unit", "fortnight"], "fortnight"),
        (["--anchor", "2026-01-31", "--every", "0", "--unit", "day"], "every 0 days"),
        (["--anchor", "2026-01-31", "--unit", "day", "--cron", "0 9 1 * *"], "not both"),
        (["--anchor", "2026-01-31", "--cron", "0 9 30 2 *"], "never fires"),
        (["--anchor", "2026-01-31", "--cron", "0 9 * *"], "4 fields"),
        (["--anchor", "2026-01-31", "--cron", "0 25 * * *"], "cannot be read"),
        (["--anchor", "2026-01-31", "--unit", "day", "--zone", "Asia/Soul"], "did you mean 'Asia/Seoul'"),
        (["--anchor", "2026-01-31", "--unit", "day", "--time", "9am"], "'9am' is not a time"),
        (["--anchor", "2026-01-31", "--unit", "day", "--shift", "next", "--holidays", "XX"], "'XX'"),
        (["--anchor", "9999-12-31", "--unit", "day", "--count", "2"], "9999"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(arguments: list[str], words: str) -> None:
    assert words in refused("dates", *arguments)


def test_it_needs_no_settings(tmp_path: Path) -> None:
    done = again("dates", "--anchor", "2026-01-31", "--unit", "month", "--count", "1", cwd=tmp_path)
    assert done.returncode == 0


def test_a_cron_text_that_fires_often_is_told_that_a_day_is_billed_once() -> None:
    done = again("dates", "--anchor", "2026-01-01", "--cron", "0 9,18 * * *", "--count", "2", "--json")
    assert done.returncode == 0
    assert "fires 2 times a day; a day is billed once, at 09:00" in done.stderr
