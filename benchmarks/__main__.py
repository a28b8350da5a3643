"""`make bench`: everything side by side in one run; benchmarks/results.json, a table and two plots.

`--small` takes figures that mean nothing, in a minute or two: it proves that the benchmarks work.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import beating, charging, flow, growth, opening
from benchmarks.place import PYTHON, LightGateway, placed

HERE = Path(__file__).parent
Results = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much of each thing."""

    charges: int = 20_000
    slow_charges: int = 3000  # of the contenders, of which one takes minutes for as many
    subscriptions: int = 1_000_000
    due: int = 10_000
    history: int = 10_000_000
    batch: int = 4000
    waiting: int = 1_000_000
    plans: int = 10_000
    idle_seconds: float = 30


SMALL = Sizes(600, 60, 2000, 1000, 5000, 500, 3000, 200, 5)


def steps(sizes: Sizes) -> dict[str, Callable[[], Any]]:
    """Every part, by its name in the results."""
    return {
        "floor": lambda: asdict(charging.floor(sizes.charges)),
        "envelopes": lambda: asdict(charging.ours(sizes.charges, envelopes=True)),
        "messages": lambda: asdict(charging.ours(sizes.charges, envelopes=False)),
        "hand_written": lambda: _contender("handwritten", sizes, "--client", "new"),
        "hand_written_kept_client": lambda: _contender("handwritten", sizes, "--client", "kept"),
        "dbos": lambda: _contender("durable", sizes),
        "caps": flow.caps,
        "backlog": lambda: flow.backlog(sizes.waiting, 100),
        "punctuality": lambda: flow.punctuality(min(2000, sizes.waiting), 100),
        "opening": lambda: opening.run(sizes.subscriptions, sizes.due),
        "beat": lambda: beating.ticks(sizes.plans),
        "idle": lambda: beating.idle(sizes.idle_seconds),
        "other_schedulers": lambda: _schedulers(sizes),
        "growth": lambda: growth.run(sizes.history, sizes.batch),
    }


def _contender(module: str, sizes: Sizes, *options: str) -> Any:
    with LightGateway() as gateway, placed(gateway.url) as place:
        words = ["--gateway", gateway.url, "--charges", str(sizes.slow_charges), "--concurrency", "0", *options]
        return _told(module, place.environment, *words)


def _schedulers(sizes: Sizes) -> Any:
    with placed("http://127.0.0.1:1") as place:
        return _told("schedulers", place.environment, "--entries", str(sizes.plans))


def _told(module: str, environment: dict[str, str], *words: str) -> Any:
    command = [PYTHON, "-m", f"benchmarks.baselines.{module}",
               "--database-url", environment["AGAIN_DATABASE_URL"],
               "--broker-url", environment["AGAIN_BROKER_URL"], *words]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parent)
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """Where it was measured; absolute figures mean nothing anywhere else."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE)
    return {
        "commit": commit.stdout.strip(), "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(), "machine": platform.machine(), "system": platform.system(),
        "python": platform.python_version(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }  # fmt: skip


def goals(found: Results) -> Iterator[tuple[str, str, str, bool]]:
    """What was wished, what came of it, and whether that is enough; of the parts that were run."""
    at = found.get
    if (floor := at("floor")) and (ours := at("envelopes")):
        ratio = ours["per_second"] / floor["per_second"]
        yield "a backlog, beside the calls alone", "80% or more", f"{ratio:.0%}", ratio >= 0.8
    if floor and (single := at("messages")):
        ratio = single["per_second"] / floor["per_second"]
        yield "one message a charge, beside the calls alone", "30% or more", f"{ratio:.0%}", ratio >= 0.3
    for name, wish in (("hand_written", 4.0), ("hand_written_kept_client", 4.0), ("dbos", 2.0)):
        if (other := at(name)) and (ours := at("envelopes")):
            ratio = ours["per_second"] / other["per_second"]
            yield (
                f"a backlog, beside {name.replace('_', ' ')}",
                f"{wish:g} times",
                f"{ratio:.1f} times",
                ratio >= wish,
            )
    if (other := at("hand_written_kept_client")) and (single := at("messages")):
        ratio = single["per_second"] / other["per_second"]
        yield "one message a charge, beside hand-written", "not below", f"{ratio:.1f} times", ratio >= 1
    for account, told in (at("caps") or {}).items():
        words = f"{told['most_in_a_second']} in any second of {told['cap']:g}, {told['used']:.1%} used"
        kept = told["most_in_a_second"] <= told["cap"] and told["used"] >= 0.98
        yield f"the cap of account {account}", "never above, 98% used", words, kept
    if told := at("backlog"):
        yield "ad-hoc while renewals wait, p99", "2 s", f"{told['adhoc_p99_s']:.2f} s", told["adhoc_p99_s"] <= 2
        yield (
            "the broker's memory at its most",
            "64 MB",
            f"{told['broker_peak_mb']:.1f} MB",
            told["broker_peak_mb"] < 64,
        )
        pause = told["flush_longest_pause_s"]
        yield "after a flush of the broker", "one sweep", f"{pause:.1f} s without a call", pause < 65
    if told := at("punctuality"):
        late = told["behind_the_cap_p99_s"]
        yield "behind what the cap lets, p99", "60 s", f"{late:.2f} s", late < 60
    if told := at("opening"):
        few, every = told["few"]["seconds"], told["all"]["seconds"]
        yield f"opening {told['few']['due']:,} of {told['subscriptions']:,}", "5 s", f"{few:.1f} s", few < 5
        yield f"opening all {told['all']['due']:,}, two openers", "120 s", f"{every:.0f} s", every < 120
    if told := at("beat"):
        tick, lag = told["tick_cpu_ms"], told["lag_p99_s"]
        yield f"a look of beat with {told['plans']:,} plans", "20 ms", f"{tick:.2f} ms", tick < 20
        yield "a plan's bell after its time, p99", "1 s", f"{lag:.3f} s", lag < 1
    if told := at("idle"):
        spent = told["ours_percent"] + told["servers_percent"]
        yield "everything while nothing is due", "2% of a core", f"{spent:.1f}%", spent < 2
    for step, told in (at("growth") or {"steps": {}})["steps"].items():
        yield f"{step} beside the history", "1.2 times", f"{told['ratio']:.2f} times", told["ratio"] <= 1.2


def print_goals(found: Results) -> None:
    """The table."""
    table = Table(title="benchmarks", title_justify="left")
    for column in ("what", "wished", "found", ""):
        table.add_column(column)
    for what, wish, seen, enough in goals(found):
        table.add_row(what, wish, seen, "yes" if enough else "NO")
    Console().print(table)


def draw(found: Results, folder: Path) -> None:
    """Charges a second of every way, and what each step costs beside history."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ways = ("floor", "envelopes", "messages", "hand_written_kept_client", "hand_written", "dbos")
    ran = [way for way in ways if way in found]
    pictures = {
        "charging": (ran, [found[way]["per_second"] for way in ran], "charges a second"),
        "growth": ([*found.get("growth", {}).get("steps", {})],
                   [told["ratio"] for told in found.get("growth", {}).get("steps", {}).values()],
                   "cost beside the history, in times of the cost without"),
    }  # fmt: skip
    for name, (labels, values, words) in pictures.items():
        if not labels:
            continue
        figure = Figure(figsize=(8, 0.6 * len(labels) + 1.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        bars = axes.barh([label.replace("_", " ") for label in labels][::-1], values[::-1], color="#4472a8")
        axes.bar_label(bars, fmt="%.2f" if name == "growth" else "%.0f", padding=3)
        axes.set_xlabel(words)
        axes.margins(x=0.12)
        figure.savefig(folder / f"{name}.png", dpi=120)


def main() -> None:
    """Run the parts, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="only these")
    parser.add_argument("--small", action="store_true", help="prove that they work, in a minute or two")
    parser.add_argument("--history", type=int, default=Sizes.history, help="settled attempts of growth")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.json and the plots")
    asked = parser.parse_args()
    todo = steps(SMALL if asked.small else Sizes(history=asked.history))
    if unknown := sorted(set(asked.parts) - set(todo)):
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(todo)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "results.json"
    found: Results = json.loads(file.read_text()) if asked.parts and file.is_file() else {}
    found["machine"] = machine()
    for name, step in todo.items():
        if asked.parts and name not in asked.parts:
            continue
        print(f"{datetime.now(UTC):%H:%M:%S} {name}", file=sys.stderr, flush=True)
        found[name] = step()
        file.write_text(json.dumps(found, indent=2) + "\n")
    draw(found, asked.out)
    print_goals(found)
    print(f"written: {file}")


if __name__ == "__main__":
    main()
