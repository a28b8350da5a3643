"""The meaning of each request field, for the command line and `make reference`; and the fields of each answer."""

from collections.abc import Mapping

# By the field's name; by verb and field where a verb's field means something else than others of its name.
REQUEST_FIELDS: Mapping[str, str] = {
    "account": "Name of the gateway account; the main one unless given.",
    "actor": "Who asks, for the audit.",
    "after": "The cursor `next` of the page before; the first page unless given.",
    "amount": "Minor units of the currency: 9900 for 9,900 KRW, 1234 for 12.34 USD.",
    "anchor": "Local date `YYYY-MM-DD` that periods are counted from.",
    "another": "Permit a further subscription to the plan.",
    "charge": "Key of the charge.",
    "currency": "ISO 4217 code of the currency, such as KRW.",
    "customer_uid": "Billing key: the gateway's id of the stored card.",
    "email": "E-mail address of the customer, at most 64 characters; sent to the gateway with each charge.",
    "end_subscriptions": "End the subscriptions that the card pays, too.",
    "external_ref": "What the system before called the subscription.",
    "key": "Key of the charge or of the subscription.",
    "limit": "At most so many rows; 1 to 100.",
    "name": "Name of the customer, at most 16 characters.",
    "now": "End at once instead of at the end of the running period.",
    "of": "A billing key of the customer whose further card this is.",
    "other_currency": "Permit a price in another currency.",
    "period_no": "Number of the period; null for the next one.",
    "plan": "Code of the plan; its newest version is taken.",
    "policy": "Code of the dunning policy. `once` gives up after a decline.",
    "query": (
        "An id of Again, the gateway or the shop, the beginning of a name, an e-mail address or a key, or the "
        "last digits of a telephone or card number."
    ),
    "reason": "Why, for the audit.",
    "request_key": "The caller's own key of this request; the same request under it is carried out once.",
    "subscription": "Key of the subscription.",
    "tel": "Telephone number of the customer, at most 16 characters; sent to the gateway with each charge.",
    "time": "Local time `HH:MM`; null for the plan's.",
    "trial_again": "Give the plan's trial again to a customer who has had it.",
    "why.key": "A customer_uid, the key of a charge or subscription, a merchant_uid, or what `find` finds once.",
    "what": "What to undo: `end` or `skip`; null for the one that exists.",
    "change_card.customer_uid": "Billing key of another card of the same customer.",
    "charge_adhoc.name": "Name of the charge on the card statement, at most 40 characters.",
    "move_anchor.anchor": "First local date `YYYY-MM-DD` of the next period; later ones are counted from it.",
    "refund_charge.another": "Permit a refund beside one that Again does not know.",
    "refund_charge.subscription": "What becomes of the subscription: `keep`, `end_now` or `end_at_period`.",
}


def meaning(verb: str, field: str) -> str:
    """The meaning of a field of a verb."""
    return REQUEST_FIELDS.get(f"{verb}.{field}") or REQUEST_FIELDS[field]


_NEXT = "next_period_no, next_due_at, next_amount, currency"
_MOVED = (
    "subscription, period_no, period_date, next_due_at, amount, currency, due_at_before, amount_before, "
    "currency_before, opened"
)
_REFUND = "request_key, merchant_uid, amount, currency, state, words, ended_at"
# The fields of an answer beside `ok`, in their order.
ANSWERS: Mapping[str, str] = {
    "charge_adhoc": "charge, status, is_new, held_why",
    "charge_status": (
        "charge, customer_uid, subscription, amount, currency, status, held_why, closed_why, "
        "request_key, due_at, next_attempt_at, closed_at, attempts, merchant_uid, attempt_state, reason, "
        "decline_class"
    ),
    "find": "matches, more",
    "why": "why",
    "subscription_standing": "served, subscriptions",
    "customer_subscriptions": "subscriptions, next",
    "customer_charges": "charges, next",
    "customer_cards": "cards, next",
    "try_charge": "charge",
    "release": "key",
    "release_refused": "released, amounts",
    "waive": "charge",
    "cancel_charge": "charge",
    "paid_elsewhere": "charge",
    "add_customer": "customer_uid, card_name, card_number, pg_provider",
    "card_changed": "tried",
    "delete_card": "customer_uid, subscriptions_ended, deleted_at, at_gateway, code",
    "subscribe": (
        "subscription, version, anchor, period_no, next_due_at, amount, currency, trial_days, trial_used_by"
    ),
    "unsubscribe": "subscription, ends_at, charges_canceled, canceled, unclear, opened, stops",
    "pause": "subscription, opened, stops",
    "resume": f"subscription, periods_not_charged, {_NEXT}",
    "undo": f"subscription, undone, ended_at, skipped_below, debts_tried, opened, {_NEXT}",
    "skip": (
        "subscription, period_no, period_date, due_at, not_charged, opened, following_period_no, "
        "next_due_at, next_amount, currency"
    ),
    "move_anchor": _MOVED,
    "move_time": _MOVED,
    "change_plan": f"{_MOVED}, version, version_before",
    "change_card": f"subscription, tried, moved, under_way, left, debts, opened, {_NEXT}",
    "refund_charge": f"{_REFUND}, is_new",
    "refund_status": _REFUND,
}
