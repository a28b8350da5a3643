"""The bounded long run: every invariant holds, a seed repeats it, and without a guard it breaks."""

from tests.model.driving import Size
from tests.model.longrun import long_run
from tests.model.shops import quiet, run_in_memory


def test_a_bounded_long_run_ends_with_every_invariant_whole() -> None:
    counts = long_run(seed=1, charges=20_000, jobs=2)
    assert counts["charges"] >= 20_000
    for met in ("kills", "restores", "double", "held", "repaired", "stops", "flushes", "card changes"):
        assert counts[met] > 0, f"the run met no {met}, so it shows nothing about them"


def test_a_seed_repeats_its_run() -> None:
    quiet()
    assert run_in_memory("again", Size()) == run_in_memory("again", Size())
