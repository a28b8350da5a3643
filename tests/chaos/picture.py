"""A picture of a run: charges that have ended over time, and the blows under it."""

from pathlib import Path
from typing import Any

WIDTH, HEIGHT, MARGIN, STRIP = 900, 420, 60, 60
COLOURS = (
    "#c0392b",
    "#8e44ad",
    "#2980b9",
    "#16a085",
    "#d35400",
    "#7f8c8d",
    "#2c3e50",
    "#27ae60",
    "#f39c12",
    "#e84393",
)


def draw(where: Path, report: dict[str, Any]) -> None:
    """Write the picture as SVG."""
    settled, struck = report["settled"], report["struck"]
    seconds = max([at for at, _ in settled] + [1.0])
    most = max([count for _, count in settled] + [1])
    names = sorted(report["blows"])

    def x(at: float) -> float:
        return float(MARGIN + at / seconds * (WIDTH - 2 * MARGIN))

    def y(count: float) -> float:
        return float(HEIGHT - STRIP - MARGIN - count / most * (HEIGHT - STRIP - 2 * MARGIN))

    line = " ".join(f"{x(at):.1f},{y(count):.1f}" for at, count in settled)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 20 * len(names)}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{MARGIN}" y="30" font-size="15">Charges that have ended, while the processes are beaten: '
        f"seed {report['seed']}, {most:,} charges, {seconds:.0f} s</text>",
        f'<polyline points="{line}" fill="none" stroke="#2c3e50" stroke-width="1.5"/>',
        f'<text x="{MARGIN - 8}" y="{y(most):.0f}" text-anchor="end">{most:,}</text>',
        f'<text x="{MARGIN - 8}" y="{y(0):.0f}" text-anchor="end">0</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end">{seconds:.0f} s</text>',
    ]
    for at, blow in struck:
        colour = COLOURS[names.index(blow) % len(COLOURS)]
        top = HEIGHT - STRIP - 20
        parts.append(
            f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{top}" y2="{top + 40}" stroke="{colour}" '
            'stroke-width="1.5"/>'
        )
    for place, name in enumerate(names):
        colour, at = COLOURS[place % len(COLOURS)], HEIGHT + 14 + 20 * place
        parts.append(f'<rect x="{MARGIN}" y="{at - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{MARGIN + 20}" y="{at}">{name} ({report["blows"][name]})</text>')
    where.write_text("\n".join([*parts, "</svg>", ""]))
