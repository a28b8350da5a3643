"""Actors, and the rule by which two acts count as those of one person."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """An actor: the given name, and the operating system's user of a command line."""

    actor: str
    os_user: str | None = None  # None for a task

    def matches(self, other: "Person") -> str | None:
        """Return why the other is the same person (same actor or operating system user); None when it is not."""
        if self.actor == other.actor:
            return f"actor {self.actor!r}"
        if self.os_user is not None and self.os_user == other.os_user:
            return f"operating system user {self.os_user!r}"
        return None
