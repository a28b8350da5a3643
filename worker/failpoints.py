"""Named points between the steps that move money: inert, unless a process under test has put a visitor there."""

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """Where a process may be killed or frozen so that a promise of the crash table is put to the test."""

    OPENING_WRITTEN = "opening.written"  # charges are inserted, nothing is committed
    OPENING_COMMITTED = "opening.committed"  # charges are there, no message is
    DISPATCHING_QUEUED = "dispatching.queued"  # charges are marked as queued, no message is sent
    DISPATCHING_PUBLISHED = "dispatching.published"  # the broker has the messages
    CHARGING_BEGUN = "charging.begun"  # a message was taken, nothing is claimed
    CHARGING_CLAIMED = "charging.claimed"  # the attempt and its lease are committed
    CHARGING_LOOKED = "charging.looked"  # the last look allows the call, which has not begun
    CHARGING_ANSWERED = "charging.answered"  # the gateway has answered, nothing is written
    SETTLING_WRITTEN = "settling.written"  # the answer is written, not committed
    SETTLING_COMMITTED = "settling.committed"  # the answer is committed, the message not acknowledged
    ASKING_CLAIMED = "asking.claimed"  # the right to ask is committed
    ASKING_ANSWERED = "asking.answered"  # the gateway has said what it knows, nothing is written
    RECONCILING_READ = "reconciling.read"  # a window of the gateway's list is read, nothing is written
    RECONCILING_WRITTEN = "reconciling.written"  # its findings are committed
    TAKING_OVER_MEANT = "taking_over.meant"  # the takeover is committed, the timer still runs
    TAKING_OVER_REVOKED = "taking_over.revoked"  # the timer was stopped, nothing has begun here
    REFUNDING_CLAIMED = "refunding.claimed"  # a refund is committed to, nothing is sent
    REFUNDING_ANSWERED = "refunding.answered"  # the gateway has answered the refund, nothing is written
    ARCHIVING_WRITTEN = "archiving.written"  # a batch is moved, not committed


Visitor = Callable[[Point, str], None]


def _nobody(point: Point, subject: str) -> None:
    """What stands at every point outside of tests."""


_visitor: Visitor = _nobody


def reach(point: Point, subject: str = "") -> None:
    """Say that a point is reached, by the charge or uid that is worked on; costs a call, and does nothing."""
    _visitor(point, subject)


def visit_with(visitor: Visitor | None) -> None:
    """Put a visitor at every point of this process, or none again. No setting and no command leads here."""
    global _visitor  # one for each process, as the points are
    _visitor = visitor or _nobody
