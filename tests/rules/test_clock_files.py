"""Which file moves the clock of `again up`: never that of a named database, and never one that goes back."""

from pathlib import Path

import pytest

from worker.cli.local.clock_files import clock_file, keep
from worker.clock import BadClockFile, MovedClock
from worker.embedded import EmbeddedError

DAYS_60 = str(60 * 86_400.0)


def test_a_database_that_is_named_has_no_moved_clock(tmp_path: Path) -> None:
    """Guard: `again up` beside a production database opens no future periods there."""
    (tmp_path / "clock").write_text(DAYS_60)
    assert clock_file(tmp_path, {}, is_embedded=False) is None


def test_a_clock_file_beside_a_database_that_is_named_is_refused(tmp_path: Path) -> None:
    """Guard: nobody moves the clock of a production database by a variable that was left over."""
    (tmp_path / "clock").write_text("0")
    with pytest.raises(EmbeddedError, match=r"AGAIN_CLOCK_FILE '.*clock' is set, and AGAIN_DATABASE_URL"):
        clock_file(tmp_path, {"AGAIN_CLOCK_FILE": str(tmp_path / "clock")}, is_embedded=False)


def test_a_folder_begins_with_a_clock_that_is_not_moved_and_keeps_it(tmp_path: Path) -> None:
    file = clock_file(tmp_path, {}, is_embedded=True)
    assert file == tmp_path / "clock"
    assert file.read_text() == "0"
    file.write_text(DAYS_60)
    assert clock_file(tmp_path, {}, is_embedded=True) == file
    assert file.read_text() == DAYS_60


@pytest.mark.parametrize("name", ["AGAIN_PORTONE_URL", "AGAIN_ACCOUNTS_FILE", "AGAIN_CLOCK_FILE"])
def test_a_clock_that_was_moved_does_not_go_back_for_a_setting(tmp_path: Path, name: str) -> None:
    """Guard: on rows that are 60 days ahead, leases and debts would stall in silence."""
    (tmp_path / "clock").write_text("0")
    other = tmp_path / "other"
    other.write_text("0")
    clock_file(tmp_path, {name: str(other)}, is_embedded=True)
    (tmp_path / "clock").write_text(DAYS_60)
    with pytest.raises(EmbeddedError, match=f"60 d ahead of real time .* go back because {name} is set"):
        clock_file(tmp_path, {name: str(other)}, is_embedded=True)


def test_a_clock_that_another_file_moved_does_not_go_back_without_it(tmp_path: Path) -> None:
    """Guard: a start without AGAIN_CLOCK_FILE goes on where the file that it named ended."""
    clock_file(tmp_path, {}, is_embedded=True)
    other = MovedClock(tmp_path / "other")
    other.move_by(30 * 86_400.0)
    assert clock_file(tmp_path, {"AGAIN_CLOCK_FILE": str(other.path)}, is_embedded=True) == other.path
    assert MovedClock(tmp_path / "clock").moved_by() == other.moved_by()
    other.move_by(31 * 86_400.0)
    keep(tmp_path, other)
    file = clock_file(tmp_path, {}, is_embedded=True)
    assert file is not None
    assert MovedClock(file).moved_by() == other.moved_by()


def test_a_new_folder_begins_where_the_file_that_is_named_is(tmp_path: Path) -> None:
    other = MovedClock(tmp_path / "other")
    other.move_by(-86_400.0)
    assert clock_file(tmp_path, {"AGAIN_CLOCK_FILE": str(other.path)}, is_embedded=True) == other.path
    file = clock_file(tmp_path, {}, is_embedded=True)
    assert file is not None
    assert MovedClock(file).moved_by() == other.moved_by()


def test_a_clock_file_that_was_removed_is_not_begun_anew(tmp_path: Path) -> None:
    """Guard: the rows of a used folder may be ahead."""
    (tmp_path / "simulator.sqlite").touch()
    with pytest.raises(EmbeddedError, match="Write into it by how many seconds it was moved"):
        clock_file(tmp_path, {}, is_embedded=True)
    assert not (tmp_path / "clock").exists()


@pytest.mark.parametrize("text", [None, "noon", ""])
def test_a_clock_without_its_file_tells_no_time(tmp_path: Path, text: str | None) -> None:
    """Guard: a file that is removed while processes run does not set them back to real time."""
    if text is not None:
        (tmp_path / "clock").write_text(text)
    with pytest.raises(BadClockFile, match=r"write by how many seconds .* and rename that"):
        MovedClock(tmp_path / "clock").now()
