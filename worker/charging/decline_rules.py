"""Classify a decline by its text when it is settled, and again when the rules have changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from schedules.charging.outcomes import Declined, GatewayPayment, Outcome, PaymentState
from schedules.dunning.declines import Placed, classify
from schedules.dunning.settling import placed_columns
from worker.rules import rulebook
from worker.services import Services
from worker.store.charging import declines

BATCH = 1000  # rows that are read and written in one transaction, some 100 ms


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reclassification has come."""

    looked_at: int
    changed: int
    left: int


def placed(outcome: Outcome, stored_at: str | None) -> Placed | None:
    """Classify the text of a decline by the PG that sent it, or else by the PG that stores the card."""
    if not isinstance(outcome, Declined):
        return None
    return classify(outcome.reason, outcome.pg_provider or stored_at, rulebook())


def is_definite(reason: str | None, pg_provider: str | None) -> bool:
    """Whether the text of a declined attempt proves that nothing was paid, by the rules of this version."""
    return classify(reason, pg_provider, rulebook()).definite


def read_again(payment: GatewayPayment, stored_at: str | None) -> GatewayPayment:
    """A payment from the gateway's records, marked unclear when its text is no definite answer for its PG."""
    if payment.state is not PaymentState.FAILED or payment.unclear:
        return payment
    found = classify(payment.fail_reason, payment.pg_provider or stored_at, rulebook())
    return replace(payment, unclear=not found.definite)


def reclassify(
    services: Services, batch: int = BATCH, going_on: Callable[[], bool] = lambda: True
) -> Iterator[Progress]:
    """Reclassify every decline that the rules of this version have not classified, each batch in a transaction.

    Each classified row carries the version of the rules, so that a stopped run continues where it was.
    """
    version = rulebook().version
    with services.engine.begin() as db:
        left = declines.count_stale(db, version)
    after, looked_at, changed = 0, 0, 0
    yield Progress(looked_at, changed, left)
    while going_on():
        with services.engine.begin() as db:
            rows = declines.take_stale(db, version, after, batch)
            for row in rows:
                anew = placed_columns(classify(row.reason, row.pg_provider, rulebook()))
                changed += anew["decline_class"] != row.decline_class
                declines.place(db, row.id, anew)
        if not rows:
            return
        after, looked_at = rows[-1].id, looked_at + len(rows)
        yield Progress(looked_at, changed, max(left - looked_at, 0))
