"""`make bench`: everything side by side in one run; benchmarks/results.json, results.md and the plots.

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

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks import beating, charging, distance, flow, growth, hanging, opening
from benchmarks.place import PYTHON, LightGateway, placed

HERE = Path(__file__).parent
Results = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """The size of each part."""

    charges: int = 20_000
    slow_charges: int = 3000  # of the contenders; the slowest takes minutes for them
    subscriptions: int = 1_000_000
    due: int = 10_000
    history: int = 10_000_000
    batch: int = 4000
    waiting: int = 1_000_000
    plans: int = 10_000
    idle_seconds: float = 30


SMALL = Sizes(600, 60, 2000, 1000, 5000, 500, 3000, 200, 5)


def steps(sizes: Sizes) -> dict[str, Callable[[], Any]]:
    """Each part, by its name in the results."""
    return {
        "floor": lambda: asdict(charging.floor(sizes.charges)),
        "envelopes": lambda: asdict(charging.ours(sizes.charges, envelopes=True)),
        "messages": lambda: asdict(charging.ours(sizes.charges, envelopes=False)),
        "rabbitmq": lambda: charging.over_rabbitmq(sizes.charges),
        "hand_written": lambda: _contender("handwritten", sizes, "--client", "new"),
        "hand_written_kept_client": lambda: _contender("handwritten", sizes, "--client", "kept"),
        "dbos": lambda: _contender("durable", sizes),
        "caps": flow.caps,
        "distance": distance.distance,
        "hanging": lambda: hanging.hanging(min(hanging.CHARGES, sizes.charges)),
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
    """The machine of the measurement; absolute figures depend on it."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE)
    return {
        "commit": commit.stdout.strip(), "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(), "machine": platform.machine(), "system": platform.system(),
        "python": platform.python_version(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    what: str
    goal: str
    found: str
    is_enough: bool | None = None  # None without a goal


def goals(found: Results) -> Iterator[Row]:
    """The goals and results of the parts that were run."""
    for rows in (_charging, _flow, _opening, _scheduling, _growth):
        yield from rows(found)


def _charging(found: Results) -> Iterator[Row]:
    names = {"envelopes": ("a backlog", 0.45), "messages": ("one message a charge", 0.2)}
    for name, (words, goal) in names.items():
        if not (ours := found.get(name)):
            continue
        if floor := found.get("floor"):
            ratio = ours["per_second"] / floor["per_second"]
            yield Row(f"{words}, beside the calls alone", f"{goal:.0%} or more", f"{ratio:.0%}", ratio >= goal)
        yield Row(f"{words}: CPU of our processes for each", "lowered", f"{ours['cpu_ms']:.2f} ms")
    for name, figures in (found.get("rabbitmq") or {}).items():
        words = f"{figures['per_second'] / found[name]['per_second']:.0%}" if name in found else ""
        yield Row(f"{names[name][0]} over RabbitMQ, beside Valkey", "", words)
    contenders = {
        "hand_written": ("hand-written", 4.0), "hand_written_kept_client": ("hand-written, client kept", 4.0),
        "dbos": ("DBOS", 2.0),
    }  # fmt: skip
    for name, (words, goal) in contenders.items():
        if not (other := found.get(name)):
            continue
        if ours := found.get("envelopes"):
            ratio = ours["per_second"] / other["per_second"]
            yield Row(f"a backlog, beside {words}", f"{goal:g} times", f"{ratio:.1f} times", ratio >= goal)
        if (single := found.get("messages")) and name != "dbos":
            ratio = single["per_second"] / other["per_second"]
            yield Row(f"one message a charge, beside {words}", "not below", f"{ratio:.1f} times", ratio >= 1)


def _flow(found: Results) -> Iterator[Row]:
    for figures in found.get("distance") or []:
        words = f"{figures['used']:.0%} of the cap used, {figures['most_in_a_second']} calls in any second of 50"
        what = f"a round trip of {figures['round_trip'] * 1000:.0f} ms to the database"
        yield Row(what, "more than none", words, figures["used"] > 0 and not figures["doubles"])
    if figures := found.get("hanging"):
        what = f"{figures['charges']} charges beside {figures['in_doubt']} look-ups of another account that hang"
        ratio = figures["beside_s"] / figures["without_s"]
        words = f"{ratio:.2f} times, {figures['beside_s']:.1f} s with them, {figures['without_s']:.1f} s without"
        yield Row(what, "1.1 times", words, ratio <= 1.1)
    for account, figures in (found.get("caps") or {}).items():
        words = f"{figures['most_in_a_second']} in any second of {figures['cap']:g}, {figures['used']:.1%} used"
        kept = figures["most_in_a_second"] <= figures["cap"] and figures["used"] >= 0.98
        yield Row(f"the cap of account {account}", "never above, 98% used", words, kept)
    if figures := found.get("backlog"):
        waiting = f"{figures['waiting']:,} wait"
        late = figures["adhoc_p99_s"]
        yield Row(f"ad-hoc while {waiting}, p99", "2 s", f"{late:.2f} s", late <= 2)
        peak = figures["broker_peak_mb"]
        yield Row(f"the broker at its most, {waiting}", "64 MB", f"{peak:.1f} MB", peak < 64)
        words = f"{figures['flushed_mended']} of {figures['flushed_queued']} in {figures['flush_mended_s']:.0f} s"
        mended = figures["flushed_mended"] == figures["flushed_queued"] and figures["flush_mended_s"] < 65
        yield Row("what was queued at a flush has left", "one sweep, 65 s", words, mended)
        yield Row("the longest pause after it", "", f"{figures['flush_longest_pause_s']:.2f} s")
    if figures := found.get("punctuality"):
        late = figures["behind_the_cap_p99_s"]
        yield Row("due at one minute, behind the cap, p99", "60 s", f"{late:.2f} s", late < 60)


def _opening(found: Results) -> Iterator[Row]:
    if not (figures := found.get("opening")):
        return
    few, every = figures["few"], figures["all"]
    words = f"opening {few['due']:,} of {figures['subscriptions']:,}"
    yield Row(words, "5 s", f"{few['seconds']:.1f} s", few["seconds"] < 5)
    words = f"opening all {every['due']:,}, two openers"
    yield Row(words, "120 s", f"{every['seconds']:.0f} s", every["seconds"] < 120)
    grown = max(end / first for first, end in every["memory_mb"])
    words = ", ".join(f"{first:.0f} to {end:.0f} MB" for first, end in every["memory_mb"])
    yield Row("memory of the openers, first batch to last", "flat", words, grown < 1.1)


def _scheduling(found: Results) -> Iterator[Row]:
    if figures := found.get("beat"):
        tick, lag, plans = figures["tick_cpu_ms"], figures["lag_p99_s"], f"{figures['plans']:,}"
        yield Row(f"a tick of beat with {plans} plans, CPU", "20 ms", f"{tick:.2f} ms", tick < 20)
        yield Row("a plan's bell after its time, p99", "1 s", f"{lag:.3f} s", lag < 1)
    for name, other in (found.get("other_schedulers") or {}).items():
        if isinstance(other, dict):
            words = f"{other['tick_cpu_ms']:.2f} ms, {other['lag_p99_s']:.3f} s"
            yield Row(f"the same of {name} with {found['other_schedulers']['entries']:,} entries", "", words)
    if figures := found.get("idle"):
        spent = figures["ours_percent"] + figures["servers_percent"]
        yield Row("everything while nothing is due", "2% of a core", f"{spent:.1f}%", spent < 2)


def _growth(found: Results) -> Iterator[Row]:
    if figures := found.get("growth"):
        for step, cost in figures["steps"].items():
            words = f"{step} beside {figures['history']:,} settled"
            yield Row(words, "1.2 times", f"{cost['ratio']:.2f} times", cost["ratio"] <= 1.2)


def report(found: Results, folder: Path) -> None:
    """Print the table, and write it to results.md."""
    table = Table(title="benchmarks", title_justify="left")
    lines = ["| what | wished | found | |", "|---|---|---|---|"]
    for column in ("what", "wished", "found", ""):
        table.add_column(column)
    for row in goals(found):
        verdict = {True: "yes", False: "NO", None: ""}[row.is_enough]
        table.add_row(row.what, row.goal, row.found, verdict)
        lines.append(f"| {row.what} | {row.goal} | {row.found} | {verdict} |")
    Console().print(table)
    at = found["machine"]
    words = f"{at['cores']} cores {at['machine']}, {at['memory_gb']} GB, {at['system']}, Python {at['python']}"
    head = f"# Benchmarks\n\nTaken at commit `{at['commit'][:12]}`, {at['at']}, on {words}.\n\n"
    (folder / "results.md").write_text(head + "\n".join(lines) + "\n")


WAYS = ("floor", "envelopes", "messages", "hand_written_kept_client", "hand_written", "dbos")


def draw(found: Results, folder: Path) -> None:
    """Draw the plots of the parts that were run: charging and its CPU, the caps, and growth."""
    ran = [way for way in WAYS if way in found]
    if "floor" in found and len(ran) > 1:
        floor = found["floor"]["per_second"]
        speeds = {way: found[way]["per_second"] / floor for way in ran}
        _bars(
            folder / "charging.png",
            speeds,
            f"charges a second, in times of the calls alone ({floor:.0f} a second)",
        )
    if ran:
        costs = {way: found[way].get("cpu_ms", found[way].get("cpu_ms_per_charge", 0.0)) for way in ran}
        _bars(folder / "cpu.png", costs, "CPU of its own processes for each charge, ms")
    if growth := found.get("growth"):
        ratios = {step: figures["ratio"] for step, figures in growth["steps"].items()}
        _bars(
            folder / "growth.png",
            ratios,
            f"cost beside {growth['history']:,} settled, in times of the cost without",
        )
    if caps := found.get("caps"):
        _draw_caps(folder / "caps.png", caps)


def _bars(file: Path, values: dict[str, float], words: str) -> None:
    figure = Figure(figsize=(8, 0.6 * len(values) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels = [label.replace("_", " ") for label in values]
    bars = axes.barh(labels[::-1], [*values.values()][::-1], color="#4472a8")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlabel(words)
    axes.margins(x=0.12)
    figure.savefig(file, dpi=120)


def _draw_caps(file: Path, caps: Results) -> None:
    """Calls per second over time, beside the cap."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for figures, color in zip(caps.values(), ("#4472a8", "#c0504d"), strict=False):
        axes.plot(*zip(*figures["by_moment"], strict=True), color=color)
        axes.axhline(figures["cap"], color=color, linestyle="dotted")
    axes.set_xlabel("seconds")
    axes.set_ylabel("calls in the second before")
    axes.set_ylim(0)
    axes.legend([line for name in caps for line in (f"account {name}", "its cap")], loc="center right")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run the parts, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="only these")
    parser.add_argument("--small", action="store_true", help="prove that they work, in a minute or two")
    parser.add_argument("--history", type=int, default=Sizes.history, help="settled attempts of growth")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.json and the plots")
    arguments = parser.parse_args()
    todo = steps(SMALL if arguments.small else Sizes(history=arguments.history))
    if unknown := sorted(set(arguments.parts) - set(todo)):
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(todo)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    found: Results = json.loads(file.read_text()) if arguments.parts and file.is_file() else {}
    found["machine"] = machine()
    for name, step in todo.items():
        if arguments.parts and name not in arguments.parts:
            continue
        print(f"{datetime.now(UTC):%H:%M:%S} {name}", file=sys.stderr, flush=True)
        found[name] = step()
        file.write_text(json.dumps(found, indent=2) + "\n")
    draw(found, arguments.out)
    report(found, arguments.out)
    print(f"written: {file}, results.md and the plots beside it")


if __name__ == "__main__":
    main()
