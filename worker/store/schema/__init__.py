"""The tables and their guards, as declared; migrations/ brings a database here, and a test compares them."""

from worker.store.schema.base import metadata
from worker.store.schema.billing import (
    OWED,
    UNRESOLVED_STATES,
    attempt_events,
    attempts,
    audit,
    billing_keys,
    charges,
    customers,
    outbox,
    plan_revision,
    plans,
    subscriptions,
)
from worker.store.schema.running import (
    breakers,
    findings,
    gateway_tokens,
    heartbeats,
    installation,
    leases,
    rate_buckets,
    reconciliations,
    stops,
)

__all__ = [
    "OWED",
    "UNRESOLVED_STATES",
    "attempt_events",
    "attempts",
    "audit",
    "billing_keys",
    "breakers",
    "charges",
    "customers",
    "findings",
    "gateway_tokens",
    "heartbeats",
    "installation",
    "leases",
    "metadata",
    "outbox",
    "plan_revision",
    "plans",
    "rate_buckets",
    "reconciliations",
    "stops",
    "subscriptions",
]
