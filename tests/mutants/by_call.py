"""The guards of what may leave beside an earlier call: the text that is taken away, and the test."""

from tests.mutants.table import Mutant, drop_index

ONE_CALL = "workflows/test_one_call_for_a_card.py::"
RECORDLESS = "workflows/test_recordless_declines.py::"

BY_CALL: tuple[Mutant, ...] = (
    drop_index(
        "card: one call at a time for each stored card",
        "one_call_at_a_time_for_each_card",
        ONE_CALL + "test_of_two_claims_at_the_same_moment_the_later_one_waits",
    ),
    Mutant(
        "card: a call that is claimed alone names its card",
        ONE_CALL + "test_no_other_charge_of_the_card_leaves_during_a_call_and_the_next_is_queued_at_its_end",
        "worker/charging/attempt_charge.py",
        "charge.billing_key_id if charge.keyed_in is None else None",
        "None",
    ),
    Mutant(
        "card: a call that is claimed in a group names its card",
        ONE_CALL + "test_a_charge_that_is_asked_for_during_the_only_call_of_its_card_waits_for_its_end",
        "worker/store/charging/fast_path.py",
        ":now, :now, t.card\n",
        ":now, :now, NULL\n",
    ),
    Mutant(
        "card: a uid that is sent again waits for another call of the card",
        ONE_CALL + "test_a_uid_that_is_sent_again_waits_for_a_call_that_is_written_at_the_same_moment",
        "worker/charging/attempt_charge.py",
        "    except card_calls.CardInUse:\n",
        "    except ZeroDivisionError:\n",
    ),
    Mutant(
        "card: the end of a call lets the next charge of the card be queued",
        ONE_CALL + "test_whatever_ends_the_call_the_next_charge_of_the_card_is_queued",
        "worker/charging/settle.py",
        "            dunning.wake_next_of_card(db, charge, now)\n",
        "            pass\n",
    ),
    Mutant(
        "card: a claim that is given back lets the next charge of the card be queued",
        ONE_CALL + "test_a_claim_that_is_given_back_unsent_lets_the_next_charge_of_the_card_be_queued",
        "worker/charging/attempt_charge.py",
        "            dunning.wake_next_of_card(db, current, now)\n",
        "",
    ),
    Mutant(
        "card: a charge that waits for a call is not queued meanwhile",
        ONE_CALL + "test_no_other_charge_of_the_card_leaves_during_a_call_and_the_next_is_queued_at_its_end",
        "worker/charging/dunning.py",
        "    charges.change(db, charge.id, queued_until=now + BEHIND_CALL)\n",
        "    charges.change(db, charge.id, queued_until=None)\n",
    ),
    Mutant(
        "doubt: an attempt that ended without a record is asked about before the next call",
        RECORDLESS + "test_a_late_payment_of_the_first_sending_is_found_before_a_new_uid_leaves",
        "worker/store/charging/asked_before_sending.py",
        '    AND (a.sends > 1 OR a.unknown_since IS NOT NULL)"""\n',
        '    AND a.sends < 0"""\n',
    ),
    Mutant(
        "doubt: it is asked about anew before each call",
        RECORDLESS + "test_without_a_late_payment_a_new_uid_leaves_and_the_earlier_one_is_asked_about_before_each",
        "worker/store/charging/asked_before_sending.py",
        " OR c.asked_at < a.settled_at OR c.asked_at < :asked_since)",
        ")",
    ),
    Mutant(
        "doubt: an answer lasts for a minute",
        RECORDLESS + "test_an_answer_does_not_last_while_the_process_is_frozen_before_its_claim",
        "worker/store/charging/asked_before_sending.py",
        " OR c.asked_at < :asked_since)",
        ")",
    ),
    Mutant(
        "doubt: without an answer nothing leaves",
        RECORDLESS + "test_nothing_leaves_while_it_is_unclear_whether_the_first_sending_is_paid",
        "worker/charging/prior_attempts.py",
        "    if found is None:\n        return False\n    found = [",
        "    if found is None:\n        return True\n    found = [",
    ),
    Mutant(
        "doubt: a payment that is not finished may hold money",
        RECORDLESS + "test_nothing_leaves_while_it_is_unclear_whether_the_first_sending_is_paid",
        "schedules/charging/unknown_outcomes.py",
        "    return not payment.sandbox and not is_given_back\n",
        '    return payment.status == "paid" and not payment.sandbox and not is_given_back\n',
    ),
    Mutant(
        "doubt: a record in a text that decides nothing keeps the uid",
        RECORDLESS + "test_a_record_in_a_text_that_decides_nothing_keeps_the_uid",
        "schedules/charging/unknown_outcomes.py",
        "        return payment.unclear\n",
        "        return False\n",
    ),
    Mutant(
        "doubt: what is unclear beside an unresolved attempt keeps it from leaving",
        RECORDLESS + "test_an_unsent_second_uid_is_not_sent_before_the_first_is_asked_about",
        "worker/charging/prior_attempts.py",
        "        is_written = alone or not isinstance(verdict.outcome, Unknown)\n",
        "        is_written = True\n",
    ),
    Mutant(
        "doubt: an answer that was not written is no answer",
        RECORDLESS + "test_an_answer_that_was_not_written_is_asked_for_again",
        "worker/charging/prior_attempts.py",
        "            is_written = settled is not None",
        "            is_written = True",
    ),
    Mutant(
        "restore: a process of another environment ends no hold",
        "workflows/test_restoring.py::test_a_process_of_another_environment_ends_no_hold",
        "worker/reconciliation/restore.py",
        "    if not may_end_it:\n        return CANNOT_DECIDE\n",
        "",
    ),
)
