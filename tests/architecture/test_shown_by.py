"""docs/reference/resilience.md names a test for what it says, and each of them is there."""

import re
from collections import Counter
from pathlib import Path

from tests import resilience

ROOT = Path(__file__).resolve().parents[2]


def test_each_test_that_the_table_of_faults_names_is_there() -> None:
    page = (ROOT / "docs/reference/resilience.md").read_text()
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", page)
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert missing == []
    rows = [line for line in page.splitlines() if line.startswith("| ") and "| fault |" not in line]
    assert [row for row in rows if not re.search(r"`tests/|`make |crash table", row)] == []


def test_the_record_of_the_last_run_has_the_rows_of_the_page_and_none_that_failed() -> None:
    """`make resilience` writes it again."""
    rows = resilience.rows()
    recorded = resilience.recorded()
    assert list(recorded) == [(row.part, row.fault) for row in rows]
    assert resilience.RECORD.read_text() == resilience.record(rows, recorded)
    assert [fault for (_, fault), ended in recorded.items() if "failed" in ended] == []


def test_a_row_passed_only_when_all_of_its_tests_passed() -> None:
    first, second = ("tests/a.py", "test_a"), ("tests/b.py", "test_b")
    row = resilience.Row("part", "fault", (first, second))
    passed = Counter(passed=2)
    assert resilience.verdict(row, {first: passed, second: passed}) == "passed"
    assert resilience.verdict(row, {first: passed}) == "2 passed, 1 not run"
    assert resilience.verdict(row, {first: passed, second: Counter(failed=1)}) == "2 passed, 1 failed"
    assert resilience.verdict(row, {first: passed, second: Counter(skipped=1)}) == "2 passed, 1 skipped"


def test_a_row_of_the_crash_table_is_shown_by_its_own_tests() -> None:
    tests = {test for row in resilience.rows() for test in row.tests}
    assert ("tests/crashes/test_copies.py", "test_row_15_a_copy_that_is_started_elsewhere_sends_nothing") in tests
