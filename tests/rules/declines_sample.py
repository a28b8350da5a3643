"""Declines labelled by hand, and how the rules classify them; prints the tables of docs/reference/declines.md."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schedules.dunning.declines import DeclineClass, Placed, classify
from worker.rules import rulebook

SAMPLE = Path(__file__).with_name("declines_sample.tsv")
CLASSES = [str(name) for name in DeclineClass]


@dataclass(frozen=True)
class Labelled:
    """One code of an official table, and the class that a person gave it; the second pass is of the first draw."""

    draw: str
    pg: str
    code: str
    text: str
    first_pass: str
    second_pass: str
    label: str

    @property
    def placed(self) -> Placed:
        """What the rules make of it, in the shape in which PortOne hands it on."""
        return classify(f"[{self.code}]{self.text}", self.pg, rulebook())

    @property
    def is_right(self) -> bool:
        """Whether rules and person agree."""
        return self.placed.decline_class == self.label


def sample() -> list[Labelled]:
    """The whole sample, in the order of its file."""
    lines = SAMPLE.read_text("utf-8").splitlines()
    return [Labelled(*line.split("\t")) for line in lines if not line.startswith(("#", "draw\t"))]


def share(rows: Iterable[Labelled]) -> float:
    """The part of these rows that the rules place as the person did."""
    judged = [row.is_right for row in rows]
    return sum(judged) / len(judged)


def by_draw(rows: Sequence[Labelled]) -> str:
    """Right placements by PG, in a column for each draw and one for all."""
    draws = list(dict.fromkeys(row.draw for row in rows))
    lines = [f"| PG | {' | '.join(draws)} | all |", "|---|" + "---|" * (len(draws) + 1)]
    for pg in [*dict.fromkeys(row.pg for row in rows), ""]:
        of_pg = [row for row in rows if pg in ("", row.pg)]
        cells = [_of([row for row in of_pg if draw in ("", row.draw)]) for draw in [*draws, ""]]
        lines.append(f"| {pg or 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _of(rows: Sequence[Labelled]) -> str:
    right = sum(row.is_right for row in rows)
    return f"{right} of {len(rows)}" if rows else "0"


def confusion(rows: Sequence[Labelled]) -> str:
    """How often each label (row) was placed in each class (column)."""
    counts = Counter((row.label, str(row.placed.decline_class)) for row in rows)
    lines = [f"| label | {' | '.join(CLASSES)} |", "|---|" + "--:|" * len(CLASSES)]
    for label in CLASSES:
        lines.append(f"| {label} | {' | '.join(str(counts[label, placed] or '·') for placed in CLASSES)} |")
    return "\n".join(lines)


def sources() -> str:
    """How many rules, codes and wordings of each file come from documents, and which are guesses."""
    lines = ["| file | rules | of them guesses | codes |", "|---|--:|--:|--:|"]
    book = rulebook()
    for file in (*book.others, book.general):
        guesses = sum(rule.source == "guess" for rule in file.rules)
        codes = sum(len(rule.codes) for rule in file.rules)
        lines.append(f"| {file.name} | {len(file.rules)} | {guesses} | {codes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join([by_draw(sample()), confusion(sample()), sources()]))
