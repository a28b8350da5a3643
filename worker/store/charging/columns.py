"""The columns of charges and attempts that are written."""

from datetime import datetime
from typing import NotRequired, TypedDict


class ChargeColumns(TypedDict, total=False):
    """The columns of a charge that are written after it was opened; one that is left out keeps its value."""

    billing_key_id: int
    card_since: datetime
    status: str
    due_at: datetime
    next_attempt_at: datetime | None
    queued_until: datetime | None
    held_why: str | None
    waits: str | None
    tried_by: str | None
    planned_at: datetime | None
    look_at: datetime | None
    given_up: str | None
    asked_at: datetime | None
    attempts: int
    declines: int
    technical_tries: int
    refusals: int
    unanswered_tries: int
    manual_tries: int
    first_declined_at: datetime | None
    ladder_began_at: datetime | None
    refunded: int
    closed_at: datetime | None
    closed_why: str | None
    unapproved_actor: str | None
    unapproved_os_user: str | None


class NewCharge(TypedDict):
    """The columns of a charge that is opened: the period of a subscription, or a request key."""

    key: str
    kind: str
    subscription_id: NotRequired[int]
    period_no: int
    request_key: NotRequired[str]
    request_fingerprint: NotRequired[str]
    keyed_in: NotRequired[str]
    billing_key_id: int
    account: str
    amount: int
    currency: str
    name: str
    policy_id: int
    status: str
    due_at: datetime
    next_attempt_at: datetime | None
    held_why: NotRequired[str | None]
    created_at: datetime
    closed_at: NotRequired[datetime | None]
    closed_why: NotRequired[str | None]


# The columns that are empty in a charge that has ended.
NOTHING_NEXT: ChargeColumns = {
    "next_attempt_at": None, "queued_until": None, "held_why": None, "waits": None, "look_at": None,
    "tried_by": None, "planned_at": None,
}  # fmt: skip


class NewAttempt(TypedDict):
    """The columns of an attempt that is inserted."""

    charge_id: int
    number: int
    merchant_uid: str
    state: str
    amount: int
    currency: str
    fence: int
    lease_until: datetime | None
    sends: int
    last_sent_at: datetime
    created_at: datetime
    settled_at: datetime | None
    reason: str | None
    unknown_since: NotRequired[datetime | None]
    next_ask_at: NotRequired[datetime | None]
    tried_by: NotRequired[str | None]
    billing_key_id: NotRequired[int | None]
