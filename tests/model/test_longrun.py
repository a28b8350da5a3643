"""The bounded long run: every invariant holds, everything is met, and a seed repeats its run."""

from tests.model.driving import Size
from tests.model.longrun import long_run
from tests.model.shops import run_in_memory


def test_a_bounded_long_run_keeps_every_invariant() -> None:
    counts = long_run(seed=1, charges=12_000, jobs=2)
    for met in ("kills", "restores", "double", "held", "repaired", "stops", "flushes", "card changes"):
        assert counts[met] > 0, f"the run met no {met}, so it shows nothing about them"


def test_a_seed_repeats_its_run() -> None:
    assert run_in_memory("again", Size()) == run_in_memory("again", Size())
