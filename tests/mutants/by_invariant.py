"""The guards of whose card paid, of test channels and of held charges: the text taken away, and the test."""

from tests.mutants.table import ASKING, RECONCILING, Mutant

BY_INVARIANT: tuple[Mutant, ...] = (
    Mutant(
        "asking: another customer's card is for a person",
        ASKING + "test_a_paid_record_of_another_customers_card_stops_the_charge",
        "schedules/asking.py",
        "    if payment.is_of_other_than(asked.customer_uids):\n",
        "    if False:\n",
    ),
    Mutant(
        "reconciler: another customer's card is for a person",
        RECONCILING + "test_a_payment_with_another_customers_card_is_found_and_the_debt_is_not_called_paid",
        "schedules/findings.py",
        "    if payment.is_of_other_than(ours.customer_uids):\n",
        "    if False:\n",
    ),
    Mutant(
        "reconciler: a payment on a test channel is not paid later",
        ASKING + "test_a_payment_on_a_test_channel_is_not_found_as_paid_later",
        "schedules/findings.py",
        " or payment.sandbox:\n        return None\n    if ours is None",
        ":\n        return None\n    if ours is None",
    ),
)
