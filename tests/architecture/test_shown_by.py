"""docs/resilience.md names a test for what it says, and each of them is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_each_test_that_the_table_of_faults_names_is_there() -> None:
    page = (ROOT / "docs/resilience.md").read_text()
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", page)
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert missing == []
    rows = [line for line in page.splitlines() if line.startswith("| ") and "| fault |" not in line]
    assert [row for row in rows if not re.search(r"`tests/|`make |crash table", row)] == []
