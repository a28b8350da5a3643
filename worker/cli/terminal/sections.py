"""The sections of `again --help` and their commands."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from worker.cli.terminal.output import wants_json

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Set up and run": ("up", "clock", "migrate", "worker", "beat", "listen", "simulator", "demo"),
    "Look": (
        "status", "alive", "find", "show", "why", "customers", "subscriptions", "charges", "attempts", "due",
        "forecast", "held", "unknown", "dates", "report", "audit", "accounts",
    ),
    "Sell": ("plan", "policy", "customer", "card", "subscribe", "unsubscribe"),
    "Change a subscription": (
        "pause", "resume", "skip", "undo", "move-anchor", "move-time", "change-plan", "change-card",
    ),
    "Charge and refund": ("charge", "charge-batch", "batch", "refund", "refunds"),
    "Decide about an open charge": ("try", "release", "waive", "cancel-charge", "paid-elsewhere"),
    "Stop, resume and restore": ("stop-charging", "resume-charging", "adopt"),
    "Compare with the gateway": ("reconcile", "findings"),
    "Declines": ("declines", "simulate-dunning"),
    "Events and messages": ("events", "dead-letters"),
    "Move data in, out and away": ("import", "export", "archive"),
}  # fmt: skip
# Long-running processes with a log; AGAIN_LOG_FORMAT=json makes its lines JSON.
PROCESSES = frozenset({"up", "worker", "beat", "listen", "simulator", "demo"})
LONGEST = 1000  # characters of the first sentence of a help text, so that none is truncated
REST = "Other commands"


class Listed(TyperGroup):
    """A command group whose help lists its commands without truncation."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 # the parser names its arguments
        """Write the sections, with the commands in the order of the table."""
        longest = max(map(len, self.commands))
        for title, names in self.sections():
            rows = [(name.ljust(longest), _first_clause(self.commands[name])) for name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def sections(self) -> Iterator[tuple[str, Sequence[str]]]:
        """The title of each section and its commands."""
        yield "Commands", tuple(self.commands)


class Sectioned(Listed):
    """The top-level group, whose help lists commands in sections."""

    def sections(self) -> Iterator[tuple[str, Sequence[str]]]:
        """The sections of the table; commands without a section come last."""
        for title, names in SECTIONS.items():
            yield title, tuple(name for name in names if name in self.commands)
        placed = {name for names in SECTIONS.values() for name in names}
        yield REST, tuple(name for name in self.commands if name not in placed)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; --json is refused for long-running processes."""
        found = super().resolve_command(ctx, args)
        if found[0] in PROCESSES and wants_json():
            raise typer.BadParameter(
                f"{found[0]} has no --json; set AGAIN_LOG_FORMAT=json, which makes its log lines JSON", ctx
            )
        return found


def _first_clause(command: Any) -> str:
    """What a command does, in one or two lines: the first clause of its help."""
    clause: str = command.get_short_help_str(LONGEST).partition(";")[0]
    return clause.rstrip(".")
