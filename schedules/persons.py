"""Who acts, and when two acts are taken as those of one person."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts: the name that was given, and the operating system's user where a command line was used."""

    actor: str
    os_user: str | None = None  # None: by a task, which has none

    def matches(self, other: "Person") -> str | None:
        """What makes the other the same person: the same actor or the same operating system user; else None."""
        if self.actor == other.actor:
            return f"actor {self.actor!r}"
        if self.os_user is not None and self.os_user == other.os_user:
            return f"operating system user {self.os_user!r}"
        return None
