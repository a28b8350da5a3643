"""What each field of an event means, by its name; `make reference` and `again events schema` show it."""

from collections.abc import Mapping

Payload = Mapping[str, object]
"""The fields of an event as the shop receives them: a JSON object, whose form is that of the event's class."""

EVENT_FIELDS: Mapping[str, str] = {
    "account": "Name of a gateway account.",
    "amount": "Minor units that are owed, were paid or were refunded; of `subscription.changed`, the next charge.",
    "batch": "Key of the batch.",
    "card_name": "Brand of the card.",
    "card_number": "Masked number of the card.",
    "channel": "The PG and the contract with it under which cards are stored, as `name.MID`.",
    "charge": "Key of the charge, for `again show`.",
    "currency": "ISO 4217 code of the currency, such as KRW.",
    "customer_uid": "Billing key whose card it is.",
    "decline_class": "Class of the decline.",
    "due_at": "When the charge is due.",
    "expires_on": "Last day on which the card is valid.",
    "final": "What follows for the subscription when the last try fails.",
    "finding": "Number of the finding, for `again findings`.",
    "gives_up_at": "When the last try is made.",
    "imp_uid": "The gateway's id of the payment; empty when there is none.",
    "merchant_uid": "Id of the attempt at the gateway; null when the charge was paid by other means.",
    "needs_card": "Whether the next try waits for an act of the customer.",
    "next_attempt_at": "When the next try is made; null when none is planned.",
    "next_due_at": "When the subscription is charged next; null when it is paused or ends.",
    "old_amount": "Minor units of the next charge before the change; null when there was none.",
    "old_currency": "Currency of the next charge before the change; null when there was none.",
    "old_due_at": "When the next charge was due before the change; null when there was none.",
    "plan": "Code of the plan that the subscription is charged by from now on.",
    "reason": "The gateway's text, without card numbers.",
    "recovered": "Whether the charge had been declined before it was paid.",
    "refunded": "Minor units of the payment that have been refunded in total.",
    "request_key": "The shop's key of an ad-hoc charge or of a refund; null for a renewal.",
    "subscription": "Key of the subscription; null for an ad-hoc charge.",
    "unknown_since": "Since when the outcome has been unknown.",
    "usable_until": "Until when the shop should serve the customer.",
    "was": "Status that the charge had.",
    "what": "What was changed: anchor, time, plan, card, skip or undo.",
    "why": "The reason, as text for a person.",
    "words": "The reason, as text for a person.",
}
