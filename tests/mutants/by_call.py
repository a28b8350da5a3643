"""The guards of what may leave beside an earlier call: the text that is taken away, and the test."""

from tests.mutants.table import Mutant

RECORDLESS = "workflows/test_recordless_declines.py::"

BY_CALL: tuple[Mutant, ...] = (
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
)
