"""Takes one guard away in a copy of the tree, and runs the test that must notice."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.mutants.table import Mutant

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schedules", "worker", "simulator", "migrations", "tests")
FAILED = 1  # pytest's status for tests that ran and failed; anything above is a fault of the run itself
MIGRATION = '''"""Take a guard away."""

from alembic import op

revision = "9999"
down_revision = "{newest}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take it away."""
    op.execute("{statement}")
'''


class RottenTable(Exception):
    """A mutant no longer fits the code: mend the table."""


def copy_tree(folder: Path) -> Path:
    """A copy of the code and its tests, to be spoiled."""
    copy = folder / "copy"
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy / file)
    return copy


def take_away(copy: Path, mutant: Mutant) -> None:
    """Remove the guard from a copy; a text that is not there exactly once is a fault of the table."""
    if mutant.statement:
        versions = copy / "migrations/versions"
        newest = max(path.name.partition("_")[0] for path in versions.glob("[0-9]*.py"))
        (versions / "9999_take_a_guard_away.py").write_text(
            MIGRATION.format(newest=newest, statement=mutant.statement)
        )
        return
    file = copy / mutant.file
    words = file.read_text()
    if words.count(mutant.text) != 1:
        raise RottenTable(
            f"{mutant.guard}: {mutant.text!r} stands {words.count(mutant.text)} times in {mutant.file}"
        )
    file.write_text(words.replace(mutant.text, mutant.becomes))


def was_noticed(copy: Path, mutant: Mutant) -> tuple[bool, str]:
    """Whether the test fails without the guard; with the end of what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider",
         f"tests/{mutant.noticed_by}"],
        cwd=copy, capture_output=True, text=True, check=False, timeout=280, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    end = "\n".join(done.stdout.splitlines()[-15:])
    if done.returncode > FAILED or (done.returncode == FAILED and " failed" not in end.splitlines()[-1]):
        raise RottenTable(f"{mutant.guard}: {mutant.noticed_by} could not be run:\n{end}{done.stderr[-500:]}")
    return done.returncode == FAILED, end


def try_without(mutant: Mutant, folder: Path) -> tuple[bool, str]:
    """Take a guard away in a fresh copy, and see whether its proof fails."""
    copy = copy_tree(folder)
    take_away(copy, mutant)
    return was_noticed(copy, mutant)
