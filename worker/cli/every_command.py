"""All commands; importing them imports the task API, Celery and SQLAlchemy, which takes a second."""

from worker.cli import (
    batches,
    charging,
    customers,
    onboarding,
    operations,
    outbox,
    reconciliation,
    refunds,
    renewals,
    reporting,
    running,
    status,
    synthetic,
)
from worker.cli.local import clock, up

_MODULES = (
    batches, charging, customers, onboarding, operations, status, outbox, reconciliation, refunds, renewals,
    reporting, clock, running, synthetic, up,
)  # fmt: skip
PARTS = tuple(module.app for module in _MODULES)
