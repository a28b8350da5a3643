"""Decide whether one process works, from the record that it last wrote: the rules of `again alive`."""

from dataclasses import dataclass

from schedules.operations.health import SILENT_AFTER, STUCK_AFTER

LONGEST_OBSTACLE = 300  # characters of one that are recorded


@dataclass(frozen=True, slots=True)
class AliveRecord:
    """The record that a process writes every few seconds. Times are seconds of the machine's monotonic clock."""

    kind: str
    pid: int
    written_at: float
    looped_at: float  # start of the newest round of its main loop
    waits_for: str | None  # what its main loop waits for, without a time limit
    idle: float  # seconds without progress while there was work
    obstacle: str | None  # why it takes no charges

    @property
    def name(self) -> str:
        """The program and its process id."""
        return f"{self.kind} (process {self.pid})"


def fault(record: AliveRecord, now: float) -> str | None:
    """Return why a running process must be restarted; None when it works.

    External causes do not count: an unreachable database, broker or gateway, a stop, a hold.
    """
    silent = now - record.written_at
    if not 0 <= silent < SILENT_AFTER:
        return f"{record.name} has recorded nothing for {silent:.0f} s: it hangs; restart it"
    looped = now - record.looped_at
    if record.waits_for is None and looped >= STUCK_AFTER:
        return f"the main loop of {record.name} has stood still for {looped:.0f} s; restart it"
    if record.obstacle is None and record.idle >= STUCK_AFTER:
        return f"messages wait for {record.name}, and it has finished none for {record.idle:.0f} s; restart it"
    return None


def state(record: AliveRecord, now: float) -> str:
    """Describe in one sentence what a process without a fault does."""
    if record.waits_for is not None:
        return f"{record.name} runs, and waits for {record.waits_for}"
    if record.obstacle is not None:
        return f"{record.name} runs, and takes no charges: {record.obstacle}"
    return f"{record.name} runs; its main loop began a round {max(0.0, now - record.looped_at):.0f} s ago"
