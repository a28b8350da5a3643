"""The guards of whose card paid, of test channels and of held charges: the text taken away, and the test."""

from tests.mutants.table import ASKING, RECONCILING, Mutant

BY_INVARIANT: tuple[Mutant, ...] = (
    Mutant(
        "asking: another customer's card is for a person",
        ASKING + "test_a_paid_record_of_another_customers_card_stops_the_charge",
        "schedules/charging/unknown_outcomes.py",
        "    if payment.is_of_other_than(asked.customer_uids):\n",
        "    if False:\n",
    ),
    Mutant(
        "reconciler: another customer's card is for a person",
        RECONCILING + "test_a_payment_with_another_customers_card_is_found_and_the_debt_is_not_called_paid",
        "schedules/operations/findings.py",
        "    if payment.is_of_other_than(ours.customer_uids):\n",
        "    if False:\n",
    ),
    Mutant(
        "reconciler: a payment on a test channel is not paid later",
        ASKING + "test_a_payment_on_a_test_channel_is_not_found_as_paid_later",
        "schedules/operations/findings.py",
        " or payment.sandbox:\n        return None\n    if ours is None",
        ":\n        return None\n    if ours is None",
    ),
    Mutant(
        "a charge without a next action is set aside",
        ASKING + "test_a_charge_without_a_next_action_is_set_aside_with_an_event",
        "worker/charging/resolve_unknown.py",
        "        for _, key in next_actions.stranded(db, BATCH):\n",
        "        for _, key in next_actions.stranded(db, 0):\n",
    ),
    Mutant(
        "a hold that no event has told of gets its event",
        ASKING + "test_a_held_charge_whose_reason_no_event_has_told_gets_one_event",
        "worker/charging/resolve_unknown.py",
        "            tell_held(db, key, why, now)\n",
        "            pass\n",
    ),
    Mutant(
        "a repair that stops sends the event of the finding's hold",
        RECONCILING + "test_a_repair_that_stops_at_a_row_that_breaks_a_rule_sends_the_event_of_the_hold_once",
        "worker/charging/match_payments.py",
        '            _tell_if_held(services, finding, debt, f"; its row breaks a rule: {broken}")\n',
        "",
    ),
    Mutant(
        "a charge of an account that is not configured is set aside",
        "workflows/test_unsendable.py::test_a_charge_of_an_account_that_is_not_configured_is_set_aside_with_an_event",
        "worker/charging/unsendable.py",
        "            set_aside(db, key, why, now)\n",
        "            pass\n",
    ),
    Mutant(
        "only charges of accounts that are not configured are set aside",
        "workflows/test_unsendable.py::test_charges_of_configured_accounts_are_left_alone",
        "worker/store/charging/unsendable.py",
        " if account not in accounts]",
        "]",
    ),
    Mutant(
        "a hold outlives its finding only with an event",
        RECONCILING + "test_a_debt_whose_finding_ended_without_a_payment_is_set_aside_with_an_event",
        "worker/charging/match_payments.py",
        "            _leave_to_person(db, finding, debt, services.clock.now())\n",
        "",
    ),
    Mutant(
        "a hold that a finding sets is told while it is open",
        RECONCILING + "test_a_debt_whose_finding_ended_without_a_payment_is_set_aside_with_an_event",
        "worker/charging/match_payments.py",
        "        _tell_if_held(services, finding, debt)\n",
        "",
    ),
    Mutant(
        "an unknown attempt of a row that breaks a rule is set aside",
        ASKING + "test_an_unknown_attempt_of_a_row_that_breaks_a_rule_is_set_aside_with_an_event",
        "worker/charging/resolve_unknown.py",
        "        quarantine(services, attempt.charge_id, broken)\n        return None\n",
        "        raise\n",
    ),
)
