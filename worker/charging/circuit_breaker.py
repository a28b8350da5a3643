"""The circuit breaker: stop an account's charging at the first double charge, and when all calls are refused.

When one channel (a PG contract) refuses all calls and others are paid, nothing stops: a person is notified.
"""

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schedules.operations.health import FIX_CHANNEL
from schedules.outbox.events import AccountStopped, ChannelRefused
from worker.store.charging import kill_switch
from worker.store.charging.charges import Charge
from worker.store.charging.kill_switch import Channel
from worker.store.outbox import event_log

log = logging.getLogger("again.circuit_breaker")
BURST = timedelta(minutes=10)
CHANNEL_BURST = timedelta(hours=1)  # a channel has fewer calls than its account
ANSWER_TIME = timedelta(seconds=5)  # that most payments are answered in


def break_account(db: Connection, account: str, why: str, now: datetime) -> None:
    """Stop an account's charging; only `again resume-charging` ends it.

    A person's own stop gets the breaker's reason in its place, so that a person who resumes has read it.
    """
    if kill_switch.stopped_by(db, account) == kill_switch.BREAKER:
        return
    kill_switch.stop(db, account, kill_switch.BREAKER, why, now)
    event_log.record(db, kill_switch.BREAKER, "stop-charging", account, why, now)
    event_log.enqueue_event(
        db, AccountStopped(account=account, why=why), f"{account}/stopped/{now.isoformat()}", now
    )
    log.error("charging is stopped for account %s: %s", account, why)


def count_refusal(db: Connection, charge: Charge, enough: int, now: datetime) -> None:
    """Stop the account when this refusal shows that our set-up is wrong and more calls would be refused too.

    It takes `enough` customers who were refused within ten minutes, no call paid that was sent since five seconds
    before the first of them, and no more customers whose card declined since: a few customers' cards cannot stop
    the others. The five seconds are there because a refusal is answered sooner than a payment: calls that were
    sent with the refused ones may still be under way.

    When the same is true of the charge's channel alone, within an hour, the account goes on and an event is sent.
    """
    first = _refused_since(db, charge.account, enough, now - BURST)
    if first is None:
        _tell_of_channel(db, charge, enough, now)
        return
    why = (
        f"calls for {enough} customers were refused since {first:%Y-%m-%d %H:%M:%S}Z, and none was paid since "
        "then; fix the set-up (`again status` counts the refused charges), then run `again resume-charging`"
    )
    break_account(db, charge.account, why, now)


def channels_that_refuse(
    db: Connection, account: str, enough: int, now: datetime
) -> list[tuple[Channel, datetime]]:
    """The channels of an account that refuse all calls, each with when the first of these calls was sent."""
    since = now - CHANNEL_BURST
    firsts = [
        (channel, _refused_since(db, account, enough, since, channel))
        for channel in kill_switch.refused_channels(db, account, since, enough)
    ]
    return [(channel, first) for channel, first in firsts if first is not None]


def _tell_of_channel(db: Connection, charge: Charge, enough: int, now: datetime) -> None:
    channel = kill_switch.channel_of(db, charge.billing_key_id)
    if channel is None:
        return
    dedupe = f"{charge.account}/{channel}/refused/{now:%Y-%m-%d}"  # once a day while it lasts
    if event_log.is_enqueued(db, dedupe):
        return
    first = _refused_since(db, charge.account, enough, now - CHANNEL_BURST, channel)
    if first is None:
        return
    why = (
        f"calls for {enough} customers were refused since {first:%Y-%m-%d %H:%M:%S}Z, and none on it was paid "
        f"since then; {FIX_CHANNEL}"
    )
    event_log.enqueue_event(db, ChannelRefused(account=charge.account, channel=str(channel), why=why), dedupe, now)
    log.error("channel %s of account %s refuses all calls: %s", channel, charge.account, why)


def _refused_since(
    db: Connection, account: str, enough: int, since: datetime, channel: Channel | None = None
) -> datetime | None:
    """When the first of `enough` refused calls was sent, if no other answer shows that the set-up works."""
    refused = kill_switch.refused_customers(db, account, since, enough, channel)
    if len(refused) < enough:
        return None
    first = min(refused)
    if kill_switch.was_paid_since(db, account, first - ANSWER_TIME, channel):
        return None
    if kill_switch.declined_customers(db, account, first, enough + 1, channel) > enough:
        return None
    return first
