"""Each money guard is taken away once, and its proof must fail; `make mutants` does so with every guard."""

from pathlib import Path

import pytest

from tests.mutants.by_account import BY_ACCOUNT
from tests.mutants.by_call import BY_CALL
from tests.mutants.by_customer import BY_CUSTOMER
from tests.mutants.by_database import BY_DATABASE
from tests.mutants.by_group import BY_GROUP
from tests.mutants.by_hand import BY_HAND
from tests.mutants.by_invariant import BY_INVARIANT
from tests.mutants.by_message import BY_MESSAGE
from tests.mutants.by_restore import BY_RESTORE
from tests.mutants.by_text import BY_TEXT
from tests.mutants.runner import ROOT, copy_tree, take_away, try_without
from tests.mutants.table import MUTANTS, Mutant

EVERY = (
    *MUTANTS, *BY_HAND, *BY_MESSAGE, *BY_GROUP, *BY_CUSTOMER, *BY_RESTORE, *BY_INVARIANT, *BY_ACCOUNT,
    *BY_TEXT, *BY_DATABASE, *BY_CALL,
)  # fmt: skip
# One of each kind in every run of the tests: all of them take minutes.
SAMPLE = (
    "one charge for a subscription, period and kind",
    "one unresolved attempt for a charge",
    "one paid attempt for a charge",
    "the fence of an answer",
    "only what was surely not processed is sent again",
    "a new uid only after a definite failure",
    "the hold after a restore",
    "refund: the balance is looked at first",
)


def test_the_table_fits_the_code(tmp_path: Path) -> None:
    """Every text is there exactly once, so that no guard's removal becomes none."""
    for number, mutant in enumerate(EVERY):
        if mutant.file:
            (tmp_path / str(number) / Path(mutant.file).parent).mkdir(parents=True)
            (tmp_path / str(number) / mutant.file).write_text((ROOT / mutant.file).read_text())
            take_away(tmp_path / str(number), mutant)
        address = mutant.noticed_by.partition("::")
        name = address[2]
        assert f"def {name}(" in (ROOT / "tests" / address[0]).read_text(), mutant.noticed_by


def test_every_guard_has_a_name_of_its_own() -> None:
    names = [mutant.guard for mutant in EVERY]
    assert len(set(names)) == len(names)
    assert set(SAMPLE) <= set(names)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.guard in SAMPLE], ids=lambda m: m.guard)
def test_without_the_guard_its_proof_fails(mutant: Mutant, tmp_path: Path) -> None:
    noticed, end = try_without(mutant, tmp_path)
    assert noticed, end


def test_a_copy_that_nothing_was_taken_from_passes(tmp_path: Path) -> None:
    """So that a failure is the guard's absence and nothing else."""
    from tests.mutants.runner import was_noticed

    copy = copy_tree(tmp_path)
    noticed, end = was_noticed(copy, next(m for m in MUTANTS if m.guard == "the fence of an answer"))
    assert not noticed, end
