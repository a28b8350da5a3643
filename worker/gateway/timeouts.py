"""How long the gateway's HTTP client waits for each phase of a call."""

from dataclasses import dataclass


class BadGatewaySettings(ValueError):
    """Settings that cannot be worked with; says which and why, never a secret."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of patience for each phase of a call, and for the whole of it."""

    connect: float = 5  # a host that is up answers in well under one
    read: float = 60  # PortOne's own figure for calls that move money: it waits that long for the bank
    write: float = 10  # a request is under 2 kB
    # All of a call: token, sending, a repetition after a 401. Above the read time-out, so that a slow bank
    # is waited for; below the lease, so that no other worker sends meanwhile.
    deadline: float = 75

    def __post_init__(self) -> None:
        for name in ("connect", "read", "write", "deadline"):
            if not getattr(self, name) > 0:
                raise BadGatewaySettings(f"time-out {name} is {getattr(self, name)}; give seconds above 0")
        if self.read >= self.deadline:
            raise BadGatewaySettings(f"read time-out {self.read} is not below the deadline {self.deadline}")
