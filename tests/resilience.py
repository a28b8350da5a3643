"""`python -m tests.resilience`: run the tests that docs/reference/resilience.md names, and record the outcomes.

The rows are read from the page. What is recorded has no times and nothing of the machine: two runs that end alike
leave the same page.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reference/resilience.md"
RECORD = ROOT / "docs/reference/resilience-run.md"
CRASHES = "tests/crashes"
NOT_RUN = "not run"
NO_TEST = "no test of its own"  # a row that a command alone shows
HEAD = """# Outcomes of the faults

`make resilience` records here how the tests of each row of [the faults](resilience.md) ended.
`make resilience ROWS="failover pooler"` runs and records only the rows whose fault or tests have one of these
words. `python -m tests.resilience --report FILE` runs nothing, and reads what `pytest --junitxml=FILE` wrote
for all tests. Neither runs `make bench`, `make chaos` and `make test-oldest`, which some rows name.

| part | fault | outcome |
|---|---|---|
"""
_TEST = re.compile(r"`(tests/\S+\.py)::(test_\w+)`")
_CRASHES = re.compile(r"crash table, rows? (\d+)(?: and (\d+))?")
Test = tuple[str, str]  # file and function


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the tables of faults."""

    part: str
    fault: str
    tests: tuple[Test, ...]


def rows() -> list[Row]:
    """Every row of the page, in its order."""
    found: list[Row] = []
    part = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            part = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| fault |"):
            fault, _, shown_by = line.strip("| ").rsplit(" | ", 2)
            named = [(file, name) for file, name in _TEST.findall(shown_by)]
            crashes = [number for numbers in _CRASHES.findall(shown_by) for number in numbers if number]
            found.append(Row(part, fault, tuple(named + [test for row in crashes for test in _crash_tests(row)])))
    return found


def _crash_tests(row: str) -> list[Test]:
    """The tests of a row of docs/reference/crash-table.md: their names begin with its number."""
    return [
        (f"{CRASHES}/{file.name}", name)
        for file in sorted((ROOT / CRASHES).glob("test_*.py"))
        for name in re.findall(rf"^def (test_row_{row}_\w+)", file.read_text(), flags=re.MULTILINE)
    ]


def recorded() -> dict[tuple[str, str], str]:
    """How each row ended when it was recorded last, by part and fault."""
    if not RECORD.exists():
        return {}
    lines = [line.strip("| ").split(" | ") for line in RECORD.read_text().splitlines() if line.startswith("| ")]
    return {(part, fault): ended for part, fault, ended in lines if part != "part"}


def wanted(every: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """The rows with tests whose fault or tests have one of these words; all without words."""
    texts = [
        (row, " ".join((row.part, row.fault, *(f"{file} {name}" for file, name in row.tests)))) for row in every
    ]
    return [row for row, text in texts if row.tests and (not words or any(word in text for word in words))]


def run(tests: Sequence[Test]) -> dict[Test, Counter[str]]:
    """Run these tests, and count how each ended: once for each of its parameters."""
    with tempfile.TemporaryDirectory(prefix="again-resilience-") as folder:
        report = Path(folder) / "report.xml"
        names = [f"{file}::{name}" for file, name in tests]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", f"--junitxml={report}"]
        subprocess.run([*command, *names], cwd=ROOT, check=False)
        return _read(report)


def _read(report: Path) -> dict[Test, Counter[str]]:
    ended: dict[Test, Counter[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test = case.attrib["classname"].replace(".", "/") + ".py", case.attrib["name"].partition("[")[0]
        kinds = {child.tag for child in case}
        how = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        ended.setdefault(test, Counter())[how] += 1
    return ended


def verdict(row: Row, ended: Mapping[Test, Counter[str]]) -> str:
    """How a row ended, in words: `passed` when every test of it ran and passed."""
    if not row.tests:
        return NO_TEST
    total = sum((ended.get(test, Counter({NOT_RUN: 1})) for test in row.tests), Counter[str]())
    if set(total) == {"passed"}:
        return "passed"
    return ", ".join(f"{total[how]} {how}" for how in ("passed", "failed", "skipped", NOT_RUN) if total[how])


def record(every: Sequence[Row], verdicts: Mapping[tuple[str, str], str]) -> str:
    """The page of the verdicts, with its closing line."""
    lines = [(row, verdicts.get((row.part, row.fault), NOT_RUN if row.tests else NO_TEST)) for row in every]
    count = Counter(ended for row, ended in lines if row.tests)
    closing = f"{count['passed']} of {sum(count.values())} rows with tests passed."
    return HEAD + "".join(f"| {row.part} | {row.fault} | {ended} |\n" for row, ended in lines) + f"\n{closing}\n"


def main(arguments: Sequence[str]) -> int:
    """Run the rows with these words, or all; 0 when each of them passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="rows whose fault or tests have one of these words; else all")
    parser.add_argument(
        "--report", type=Path, help="a JUnit XML report of the tests: read it instead of running them"
    )
    asked = parser.parse_args(arguments)
    words: list[str] = asked.words
    every = rows()
    chosen = wanted(every, words)
    if not chosen:
        sys.exit(f"no row of {PAGE.relative_to(ROOT)} has one of: {' '.join(words)}")
    tests = sorted({test for row in chosen for test in row.tests})
    ended = run(tests) if asked.report is None else _read(asked.report)
    verdicts = {(row.part, row.fault): verdict(row, ended) for row in chosen}
    RECORD.write_text(record(every, recorded() | verdicts))
    for row in chosen:
        print(f"{row.part}: {row.fault}: {verdicts[row.part, row.fault]}")
    passed = sum(how == "passed" for how in verdicts.values())
    print(f"{passed} of {len(chosen)} rows passed; {RECORD.relative_to(ROOT)} has the record")
    return 0 if passed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
