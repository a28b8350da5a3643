"""Every kind of event by its name."""

from collections.abc import Mapping

from schedules.outbox import events
from schedules.outbox import payment_events as payments

_ALL: tuple[type[events.Event], ...] = (
    events.ChargeUpcoming, events.ChargePaid, events.ChargeFailed, events.ChargeUncollectible,
    events.ChargeWaived, events.ChargeCanceled, events.ChargeHeld, events.ChargePaidAfterEnd,
    events.ChargeRefunded, events.RefundRefused, events.LastWarning, events.DunningEnded,
    events.SubscriptionBegan, events.SubscriptionPastDue, events.SubscriptionSuspended,
    events.SubscriptionRecovered, events.SubscriptionPaused, events.SubscriptionResumed,
    events.SubscriptionChanged, events.SubscriptionCanceled, events.SubscriptionHeld, events.CardNeedsUpdate,
    events.CardChanged, events.CardExpiring, events.AttemptUnknown, events.AccountStopped,
    events.ChannelRefused, events.BatchStopped,
    payments.PaymentRefunded, *payments.FOUND.values(),
)  # fmt: skip
KINDS: Mapping[str, type[events.Event]] = {event.kind: event for event in _ALL}
