"""Recovered money over days, tries and customers lost, side by side: as a PNG, and in characters."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schedules.errors import Code, RuleBroken
from worker.synthetic.outcomes import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1f5fa8", "#d95f02", "#7a7a7a", "#1b9e77", "#9e3a8c", "#b58900")
STYLES = ("-", "--", "-.", ":", "-", "--")  # told apart without colours too
MARKERS = "●○△□◇▽"
ROWS = 17  # lines of the terminal's plot
BAR = 40  # characters of its longest bar
NAMED = "A model result, no evidence from a shop"


class NoPicture(RuleBroken, code=Code.HELD):
    """A picture that cannot be drawn here."""


def png(results: Sequence[Result], where: Path) -> None:
    """Write the curves as a PNG."""
    figure = blank(11, 5)
    curves, tries, lost = figure.subplots(1, 3, width_ratios=(5, 1.5, 1.5))
    figure.suptitle(f"{NAMED}: dunning policies on a synthetic population", fontsize=14)
    _draw_curves(curves, results)
    _draw_bars(tries, "tries for each recovery", results, [one.tries_for_each_recovery or 0 for one in results])
    _draw_bars(lost, "customers lost, %", results, [one.lost_share for one in results])
    save(figure, where)


def blank(width: float, height: float) -> "Figure":
    """An empty picture of so many inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise NoPicture(
            "a PNG needs matplotlib, which is not installed; install it with: pip install 'again[plots]'"
        ) from None
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def save(figure: "Figure", where: Path) -> None:
    """Write a picture as a PNG."""
    try:
        figure.savefig(where, format="png")
    except OSError as error:
        raise NoPicture(f"picture {where} cannot be written: {error.strerror}; name another file") from None


def _draw_curves(axes: "Axes", results: Sequence[Result]) -> None:
    for at, result in enumerate(results):
        style, colour = STYLES[at % len(STYLES)], COLOURS[at % len(COLOURS)]
        label = f"{result.name}: {result.recovered:.1f} %"
        axes.plot(result.curve, style, color=colour, linewidth=2.2, label=label)
    axes.set_xlabel("days since the first decline", fontsize=12)
    axes.set_ylabel("recovered, % of the failed sum", fontsize=12)
    axes.set_xlim(0, max(result.days for result in results))
    axes.set_ylim(0, 100)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=12, loc="upper left", title="recovered in the end", title_fontsize=11)


def _draw_bars(axes: "Axes", title: str, results: Sequence[Result], heights: Sequence[float]) -> None:
    places = range(len(results))
    bars = axes.bar(places, heights, color=[COLOURS[at % len(COLOURS)] for at in places])
    axes.bar_label(bars, fmt="%.1f", fontsize=11)
    axes.set_title(title, fontsize=12)
    axes.set_xticks(places, [result.name for result in results], rotation=35, ha="right", fontsize=11)
    axes.tick_params(axis="y", labelsize=11)
    axes.margins(y=0.12)


def characters(results: Sequence[Result], width: int) -> str:
    """All that the PNG shows, in characters: a sign for each policy."""
    signs = "   ".join(f"{MARKERS[at % len(MARKERS)]} {result.name}" for at, result in enumerate(results))
    tries = [(result.tries_for_each_recovery or 0.0) for result in results]
    return "\n\n".join(
        [
            f"{signs}\n\n{_curve_lines(results, width)}",
            _bar_lines("tries for each recovery", tries),
            _bar_lines("customers lost, %", [result.lost_share for result in results]),
        ]
    )


def _curve_lines(results: Sequence[Result], width: int) -> str:
    days = max(result.days for result in results)
    columns = max(20, min(width - 8, 2 * days))
    top = max(10.0, *(result.recovered for result in results))
    field = [[" "] * (columns + 1) for _ in range(ROWS)]
    for at, result in reversed(list(enumerate(results))):
        for column in range(columns + 1):
            percent = result.recovered_by(round(column * days / columns))
            field[ROWS - 1 - round(percent / top * (ROWS - 1))][column] = MARKERS[at % len(MARKERS)]
    lines = [
        f"{top * (ROWS - 1 - row) / (ROWS - 1):5.0f} ┤{''.join(line).rstrip()}" for row, line in enumerate(field)
    ]
    ruler = f"      └{'─' * (columns + 1)}\n       0{f'day {days}':>{columns}}"
    return "\n".join(["recovered, % of the failed sum, over days since the first decline", *lines, ruler])


def _bar_lines(title: str, lengths: Sequence[float]) -> str:
    most = max(*lengths, 1e-9)
    bars = (
        f"       {MARKERS[at % len(MARKERS)]} {'█' * round(length / most * BAR)} {length:.1f}"
        for at, length in enumerate(lengths)
    )
    return "\n".join([title, *bars])
