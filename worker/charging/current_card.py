"""Move a debt to the card that its subscription is charged to now."""

from datetime import datetime

from sqlalchemy import Connection

from worker.store.charging import charges
from worker.store.charging.charges import Charge
from worker.store.charging.columns import ChargeColumns
from worker.store.customers import customers

# A debt with another card begins its ladder anew.
NEW_LADDER: ChargeColumns = {"declines": 0, "ladder_began_at": None, "planned_at": None, "unanswered_tries": 0}


def move_to_current_card(db: Connection, charge: Charge, now: datetime) -> Charge:
    """Move a debt, whose attempt was answered unpaid or not sent, to its subscription's card; returns the debt.

    The card was changed while the attempt was under way. A card of another gateway account does not take the debt:
    the attempts before are asked about, and a late payment is refunded, at the debt's own account.
    """
    if not charge.status.is_owed or charge.current_key_id in (None, charge.billing_key_id):
        return charge
    card = customers.key_by_id(db, charge.current_key_id)
    if card is None or card.deleted_at is not None or card.account != charge.account:
        return charge
    move(db, charge, card.id, now)
    moved = charges.locked(db, charge.id)
    if moved is None:
        raise LookupError(f"charge {charge.key} is gone")
    return moved


def move(db: Connection, charge: Charge, billing_key_id: int, now: datetime) -> None:
    """Charge a debt to another billing key from now on."""
    charges.change(db, charge.id, **NEW_LADDER | {"billing_key_id": billing_key_id, "card_since": now})
