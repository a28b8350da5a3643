"""The guards after a restore, and of fences and leases alone: the text that is taken away, and the test."""

from tests.mutants.table import Mutant

AFTER = "workflows/test_after_restore.py::"

BY_RESTORE: tuple[Mutant, ...] = (
    Mutant(
        "restore: a key that may have been used is asked for before it is sent",
        AFTER + "test_a_payment_that_no_list_shows_is_found_by_asking_for_the_next_uids",
        "schedules/charging/claiming.py",
        "    if earlier.is_unasked:\n        return AskFirst()\n",
        "",
    ),
    Mutant(
        "restore: a first try under a key that must be asked for is not begun",
        AFTER + "test_a_payment_that_no_list_shows_is_found_by_asking_for_the_next_uids",
        "worker/store/charging/claims.py",
        "        (unasked) AS is_unasked,\n",
        "        (unasked AND false) AS is_unasked,\n",
    ),
    Mutant(
        "restore: a charge is not sent while a finding under its key is open",
        AFTER + "test_a_charge_is_held_while_a_finding_under_its_key_is_open",
        "schedules/charging/claiming.py",
        "    if earlier.finding is not None:\n",
        "    if False:\n",
    ),
    Mutant(
        "restore: a key with an ended finding is asked for",
        AFTER + "test_a_finding_under_a_key_makes_its_charge_be_asked_for",
        "worker/store/charging/asked_before_sending.py",
        "        OR EXISTS (SELECT FROM findings f WHERE f.charge_key = c.key)\n",
        "",
    ),
    Mutant(
        "restore: a charge whose attempt is not finished is not queued again",
        AFTER + "test_a_charge_whose_earlier_attempt_is_not_finished_is_asked_about_and_not_queued_again",
        "schedules/charging/claiming.py",
        "        return SendAgain() if earlier.unresolved in SENDABLE else LeaveToAttempt()\n",
        "        return SendAgain()\n",
    ),
    Mutant(
        "restore: look-ups before sending keep no answer from being written",
        AFTER + "test_answers_are_written_while_a_slow_gateway_is_asked_about_other_charges",
        "worker/charging/executor.py",
        '        if not executor.look_ups.begin(account, f"charge {charge_id}", look_up, give_back):\n',
        "        if look_up():\n",
    ),
    Mutant(
        "restore: a part that was given back is not given back again under its key",
        "workflows/test_keys_after_restore.py::"
        "test_a_part_that_was_given_back_after_the_backup_is_not_given_back_again",
        "worker/refunds/refund_payment.py",
        "    if unexplained <= 0 or request.another:\n",
        "    if True:\n",
    ),
    Mutant(
        "card: an issue whose answer was lost is asked about",
        "workflows/test_typed_cards.py::"
        "test_a_card_whose_issue_and_reading_back_were_not_answered_is_asked_about_until_it_is_known",
        "worker/store/customers/customers.py",
        "or_(waits, is_unread, c.unclear_since.is_not(None))",
        "or_(waits, is_unread)",
    ),
    Mutant(
        "card: that an issue must be asked about is written before the call",
        "workflows/test_typed_cards.py::test_the_process_that_issues_a_card_may_die_before_the_answer",
        "worker/customers/issued_keys.py",
        "        customers.change_key(db, key_id, unclear_since=now, ask_at=now + ASKED_AFTER)\n",
        "",
    ),
    Mutant(
        "restore: a typed card is not charged under a key that was used",
        AFTER + "test_a_typed_card_is_not_charged_under_a_key_that_was_used_or_cannot_be_asked_for",
        "worker/customers/card_entry.py",
        "    _refuse_used_key(services, request, holder)\n",
        "",
    ),
    Mutant(
        "restore: what came due meanwhile is asked for before the hold ends",
        "workflows/test_restoring.py::"
        "test_a_period_that_comes_due_while_the_hold_goes_on_is_asked_for_before_it_ends",
        "worker/reconciliation/restore.py",
        "        if charges.owed_after(db, hold.cursor, 1) or subscriptions.any_due(db, now):\n",
        "        if charges.owed_after(db, hold.cursor, 1):\n",
    ),
    Mutant(
        "restore: an attempt that only the gateway knows is unknown until it is settled",
        "workflows/test_restoring.py::"
        "test_an_attempt_found_after_the_backup_is_asked_about_though_its_writer_is_killed",
        "worker/charging/prior_attempts.py",
        '    row |= {"state": AttemptState.UNKNOWN.value, "unknown_since": now, "next_ask_at": now,',
        '    row | {"state": AttemptState.UNKNOWN.value, "unknown_since": now, "next_ask_at": now,',
    ),
    Mutant(
        "restore: a decline that was counted before the backup is not counted again",
        "workflows/test_restoring.py::test_a_decline_that_was_counted_before_the_backup_is_not_counted_again",
        "worker/charging/prior_attempts.py",
        "    if not is_settled_by(found, taken.imp_uid):",
        "    if True:",
    ),
    Mutant(
        "restore: a debt that waits past its end is written with a time to look at it",
        "workflows/test_restoring.py::test_a_decline_found_after_the_patience_of_a_debt_that_waits_is_written",
        "worker/charging/dunning.py",
        "look = _look_at(charge, seen, now)",
        "look = next_look(seen, now)",
    ),
    Mutant(
        "a hold passes from an ended finding to a person in one statement",
        "workflows/test_ended_findings.py::"
        "test_a_hold_passes_from_an_ended_finding_to_a_person_after_the_patience_of_a_debt_that_waits",
        "worker/charging/match_payments.py",
        "    set_aside(db, debt.charge_key, why, now, instead_of=held_why)\n",
        "    charges.change(db, debt.charge_id, held_why=None)\n    set_aside(db, debt.charge_key, why, now)\n",
    ),
    Mutant(
        "the fence of an answer, alone",
        "workflows/test_charging.py::test_an_answer_of_an_earlier_sending_is_not_written_into_a_later_one",
        "worker/store/charging/attempts.py",
        '.where(a.id == attempt.id, a.fence == attempt.fence, a.state.concat("") == before.value)',
        '.where(a.id == attempt.id, a.state.concat("") == before.value)',
    ),
    Mutant(
        "the fence of a duplicate's refund, alone",
        "workflows/test_refunding.py::test_a_refund_whose_lease_has_ended_is_taken_up_by_one_process",
        "worker/store/reconciliation/findings.py",
        "f.id == finding.id, f.fence == finding.fence, f.state == finding.state.value)",
        "f.id == finding.id, f.state == finding.state.value)",
    ),
    Mutant(
        "the quiet time begins when the lease has ended",
        "workflows/test_asking.py::test_the_quiet_time_begins_when_the_lease_has_ended",
        "worker/store/charging/attempts.py",
        "    quiet_since = max(attempt.last_sent_at, attempt.unknown_since or attempt.last_sent_at)\n",
        "    quiet_since = attempt.last_sent_at\n",
    ),
)
