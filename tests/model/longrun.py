"""A long seeded run of the model, shop after shop: `python -m tests.model.longrun --charges 1000000 --seed 1`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from multiprocessing import get_context

from tests.model.driving import Size
from tests.model.invariants import Broken
from tests.model.memory import Refusal
from tests.model.shops import quiet, run_in_memory

SHOP = Size()
CHUNK = 10  # shops between two lines of progress, for each process
TOLD = ("charges", "calls", "payments", "processes", "kills", "restores")


class Stopped(AssertionError):
    """A shop in which an invariant broke, with the command that shows it again."""


def run_shops(seed: int, numbers: Iterable[int]) -> Counter[str]:
    """Run these shops of a seed; stops at the first in which an invariant breaks."""
    counts: Counter[str] = Counter()
    with quiet():
        for number in numbers:
            try:
                counts.update(run_in_memory(f"{seed}/{number}", SHOP))
            except (Broken, Refusal) as broken:
                again = f"python -m tests.model.longrun --seed {seed} --shop {number}"
                raise Stopped(f"{broken}\nto see it again: {again}") from broken
    return counts


def long_run(seed: int, charges: int, jobs: int) -> Counter[str]:
    """Run shops until there are so many charges; the same for a seed, whatever the number of processes."""
    counts: Counter[str] = Counter()
    chunks = (range(first, first + CHUNK) for first in count(0, CHUNK))
    began = time.monotonic()
    # Not forked: the threads that processes live on would not come along.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        while counts["charges"] < charges:
            at_once = list(islice(chunks, jobs))
            for part in pool.map(run_shops, [seed] * jobs, at_once):
                if counts["charges"] < charges:
                    counts.update(part)
            told = ", ".join(f"{counts[name]:,} {name}" for name in TOLD)
            print(f"{time.monotonic() - began:7.0f} s: {told}", file=sys.stderr, flush=True)
    return counts


def main() -> int:
    """Run what the command line asks for; 1 when an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.longrun", description=__doc__)
    parser.add_argument("--charges", type=int, default=1_000_000, help="stop when so many charges have been run")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same run")
    parser.add_argument("--jobs", type=int, default=2, help="processes that run shops side by side")
    parser.add_argument("--shop", type=int, help="run this one shop of the seed, and no other")
    asked = parser.parse_args()
    began = time.monotonic()
    try:
        if asked.shop is not None:
            counts = run_shops(asked.seed, [asked.shop])
        else:
            counts = long_run(asked.seed, asked.charges, asked.jobs)
    except Stopped as stopped:
        print(f"AN INVARIANT BROKE: {stopped}", file=sys.stderr)
        return 1
    for name, number in sorted(counts.items()):
        print(f"{name:20} {number:>12,}")
    print(f"{'seconds':20} {time.monotonic() - began:>12,.0f}")
    print("every charge has ended, is held, or has a finding; no debt was paid twice without one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
