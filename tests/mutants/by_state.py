"""The guards of verbs: what a verb must look at before it changes a subscription."""

from tests.mutants.table import Mutant

ADJUSTING = "workflows/test_adjusting.py::"
STATES = "workflows/test_verb_states.py::"
LATE = "workflows/test_late_money.py::"
CHANGES = "workflows/test_card_changes.py::"

BY_STATE: tuple[Mutant, ...] = (
    Mutant(
        "by state: a plan change keeps the day of the month",
        ADJUSTING + "test_a_plan_change_keeps_the_day_of_the_month",
        "worker/customers/adjust.py",
        "anchor_no=number, anchor_day=month_day)",
        "anchor_no=number, anchor_day=None)",
    ),
    Mutant(
        "by state: opening counts from the day of the month that was asked for",
        ADJUSTING + "test_a_plan_change_keeps_the_day_of_the_month",
        "worker/store/customers/subscriptions.py",
        "self.skip_to or 0, self.anchor_day)",
        "self.skip_to or 0, None)",
    ),
    Mutant(
        "by state: an unpaid attempt lets its debt move to the current card",
        CHANGES + "test_a_card_changed_during_the_call_is_tried_at_once_when_the_old_one_does_not_pay",
        "worker/charging/settle.py",
        "if answer.is_surely_unpaid and",
        "if False and",
    ),
    Mutant(
        "by state: a claim that was held back lets its debt move to the current card",
        CHANGES + "test_a_claim_that_was_held_back_moves_too",
        "worker/charging/attempt_charge.py",
        "            move_to_current_card(db, current, now)\n",
        "",
    ),
    Mutant(
        "by state: an answer that is no decline sees a card change that is being written",
        CHANGES + "test_a_card_change_that_is_being_written_is_seen_by_the_answer",
        "worker/charging/settle.py",
        "        if not isinstance(outcome, Unknown):\n",
        "        if isinstance(outcome, Declined | Paid):\n",
    ),
    Mutant(
        "by state: a claim that is held back sees a card change that is being written",
        CHANGES + "test_a_card_change_that_is_being_written_is_seen_by_the_answer",
        "worker/charging/attempt_charge.py",
        "subscriptions.lock_of_charge(db, claimed.charge_id)",
        "subscriptions.lock_of_charge",
    ),
    Mutant(
        "by state: a card's cap counts that card's own declines",
        CHANGES + "test_the_declines_of_the_old_card_do_not_count_for_the_cap_of_the_new_one",
        "worker/store/charging/declines.py",
        "        c.card_since.is_(None) | (a.last_sent_at >= c.card_since),\n",
        "",
    ),
    Mutant(
        "by state: a debt of another account stays with its card",
        CHANGES + "test_a_debt_of_another_account_stays_with_its_card",
        "worker/customers/adjust.py",
        "    if charge.account != card.account:\n",
        "    if False:\n",
    ),
    Mutant(
        "by state: a new card does not collect from a customer who left",
        CHANGES + "test_a_new_card_does_not_collect_what_was_declined_before_a_customer_left",
        "worker/customers/cards.py",
        "if dunning.is_stopped(charge):",
        "if False:",
    ),
    Mutant(
        "by state: a late decline of the old card does not start the new one for a customer who left",
        CHANGES + "test_a_new_card_does_not_collect_what_was_declined_before_a_customer_left",
        "schedules/dunning/decisions.py",
        "    if debt.old_card and not debt.stopped:\n",
        "    if debt.old_card:\n",
    ),
    Mutant(
        "by state: what the catch-up cap puts off is opened before a pause",
        STATES + "test_a_pause_over_a_backlog_charges_each_missed_period_at_the_pace_of_the_cap",
        "worker/renewals/open_charges.py",
        "= open_all_due(own, due.series, due.cursor, now)",
        "= (found := open_periods(own, due.series, due.cursor, now)), (now,) * len(found.charges)",
    ),
    Mutant(
        "by state: an end that is taken back starts its debts' ladders",
        STATES + "test_an_end_that_is_taken_back_lets_its_debts_be_tried_again",
        "worker/customers/adjust.py",
        "tried = dunning.start_ladders(db, row.id, now)",
        "tried = 0",
    ),
    Mutant(
        "by state: a payment after a cancellation is told",
        STATES + "test_an_end_while_a_call_is_unknown_says_so_and_a_later_payment_is_told",
        "schedules/dunning/settling.py",
        "is_late=not charge.status.is_owed or charge.is_of_canceled,",
        "is_late=not charge.status.is_owed,",
    ),
    Mutant(
        "by state: an ended subscription is refused every verb",
        STATES + "test_an_ended_subscription_is_refused_every_verb_and_its_end_stays",
        "schedules/subscriptions/verbs.py",
        "State.ENDED: is_ended,",
        "State.ENDED: False,",
    ),
    Mutant(
        "by state: another card behind a billing key is announced",
        "workflows/test_announcing.py::test_another_card_behind_the_billing_key_is_announced",
        "worker/customers/cards.py",
        "            announce_anew(db, announced, now)\n",
        "",
    ),
    Mutant(
        "by state: a card change announces no charge before its time",
        "workflows/test_announcing.py::test_another_card_announces_no_charge_before_its_time",
        "worker/outbox/announcements.py",
        'if row.told_as.startswith(f"{next_charge}/"):',
        "if True:",
    ),
    Mutant(
        "by state: each period of a pause has a row",
        STATES + "test_each_period_of_a_pause_has_a_row_that_says_why_it_is_not_charged",
        "worker/renewals/open_charges.py",
        "opening.charges]\n    keys = set(charges.open_many(db, rows))\n    subscriptions.change(",
        "()]\n    keys = set(charges.open_many(db, rows))\n    subscriptions.change(",
    ),
    Mutant(
        "by state: a period of a pause is not charged",
        STATES + "test_each_period_of_a_pause_has_a_row_that_says_why_it_is_not_charged",
        "schedules/subscriptions/cursor.py",
        "cursor.due_at, plan.price, waived=waived))",
        "cursor.due_at, plan.price))",
    ),
    Mutant(
        "by state: an end writes the periods of the pause before it",
        STATES + "test_an_end_of_a_paused_subscription_writes_the_periods_of_the_pause",
        "worker/customers/enrollment.py",
        "    row, passed = pass_over_paused(db, row, why_paused(db, row.id), now)\n",
        "    passed = ()\n",
    ),
    Mutant(
        "late money: a payment after the end is a finding",
        LATE + "test_a_payment_after_a_cancellation_is_a_finding_with_its_event",
        "worker/charging/late_payments.py",
        "    if uid is None:\n",
        "    if True:\n",
    ),
    Mutant(
        "late money: the reconciler does not end it",
        LATE + "test_the_reconciler_does_not_end_it",
        "worker/store/reconciliation/findings.py",
        "    query = query.where(f.kind.in_(judged))\n",
        "",
    ),
    Mutant(
        "late money: it ends when all is refunded, and not before",
        LATE + "test_a_refund_by_its_charge_ends_it_when_all_is_back",
        "worker/refunds/refund_payment.py",
        "        if is_whole:\n            late_payments",
        "        if True:\n            late_money",
    ),
    Mutant(
        "by state: a moved anchor forgets the day of the month before",
        ADJUSTING + "test_another_day_is_another_day_after_a_plan_change",
        "worker/customers/adjust.py",
        "anchor_no=row.next_period_no, anchor_day=None)",
        "anchor_no=row.next_period_no)",
    ),
)
