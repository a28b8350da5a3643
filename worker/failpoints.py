"""Failpoints between the steps that move money: each does nothing, unless a test has set an action."""

from collections.abc import Callable
from enum import StrEnum


class Failpoint(StrEnum):
    """Where a process may be killed or frozen so that a promise of the crash table is put to the test."""

    OPENING_WRITTEN = "opening.written"  # charges are inserted, nothing is committed
    OPENING_COMMITTED = "opening.committed"  # charges are there, no message is
    DISPATCHING_QUEUED = "dispatching.queued"  # charges are marked as queued, no message is sent
    DISPATCHING_PUBLISHED = "dispatching.published"  # the broker has the messages
    CHARGING_BEGUN = "charging.begun"  # a message was taken, nothing is claimed
    CHARGING_CLAIMED = "charging.claimed"  # the attempt and its lease are committed
    CHARGING_LOOKED = "charging.looked"  # the pre-send check allows the call, which has not begun
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


Action = Callable[[Failpoint, str], None]


def _do_nothing(failpoint: Failpoint, subject: str) -> None:
    """The action outside of tests."""


_action: Action = _do_nothing


def hit(failpoint: Failpoint, subject: str = "") -> None:
    """Run the action of a failpoint for a charge or uid; outside of tests it does nothing."""
    _action(failpoint, subject)


def on_hit(action: Action | None) -> None:
    """Set the action of every failpoint of this process, or none again. No setting and no command calls this."""
    global _action  # one for each process, as the failpoints are
    _action = action or _do_nothing
