"""The guards: how each is taken away, and the test that must notice. `make mutants` shows the table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard's removal: a text in a file replaced by another, or a statement run after the migrations."""

    guard: str
    noticed_by: str  # a test by its address, below tests/
    file: str = ""
    text: str = ""
    becomes: str = ""
    statement: str = ""


def drop_constraint(guard: str, table: str, name: str, noticed_by: str) -> Mutant:
    """A guard of the schema that is a constraint."""
    return Mutant(guard, noticed_by, statement=f"ALTER TABLE {table} DROP CONSTRAINT {name}")


def drop_index(guard: str, name: str, noticed_by: str) -> Mutant:
    """A guard of the schema that is an index."""
    return Mutant(guard, noticed_by, statement=f"DROP INDEX {name}")


GUARDS = "store/test_guards.py::"
CHARGING = "workflows/test_charging.py::"
ASKING = "workflows/test_asking.py::"
RECONCILING = "workflows/test_reconciling.py::"
REFUNDING = "workflows/test_refunding.py::"
RESTORING = "workflows/test_restoring.py::"
SETTLING = "workflows/test_settling.py::"
DELIVERING = "workflows/test_delivering.py::"
STORIES = "scenarios/test_dunning.py::"
CLOCKS = "workflows/test_clocks.py::"
ANSWERS = "gateway/test_answers.py::"
SLOTS = "gateway/test_slots.py::"
LOOK = CHARGING + "test_the_last_look_keeps_a_claimed_attempt_from_leaving"

MUTANTS: tuple[Mutant, ...] = (
    # The database decides
    drop_constraint(
        "one charge for a subscription, period and kind",
        "charges",
        "one_charge_for_each_period",
        GUARDS + "test_one_charge_for_each_period",
    ),
    drop_constraint(
        "one charge for a key", "charges", "one_charge_for_each_key", GUARDS + "test_one_charge_for_each_key"
    ),
    drop_constraint(
        "one charge for a request key",
        "charges",
        "one_charge_for_each_request_key",
        GUARDS + "test_one_charge_for_each_request_key",
    ),
    drop_constraint(
        "one attempt for a merchant_uid",
        "attempts",
        "one_attempt_for_each_merchant_uid",
        GUARDS + "test_one_attempt_for_each_merchant_uid",
    ),
    drop_constraint(
        "one attempt for a charge and number",
        "attempts",
        "one_attempt_for_each_number",
        GUARDS + "test_one_attempt_for_each_number",
    ),
    drop_index(
        "one unresolved attempt for a charge",
        "one_unresolved_attempt_for_each_charge",
        GUARDS + "test_one_unresolved_attempt_for_each_charge",
    ),
    drop_index(
        "one paid attempt for a charge",
        "one_paid_attempt_for_each_charge",
        GUARDS + "test_one_paid_attempt_for_each_charge",
    ),
    drop_constraint(
        "a sending attempt has a lease",
        "attempts",
        "ck_attempts_sending_has_a_lease",
        GUARDS + "test_sending_has_a_lease",
    ),
    drop_constraint(
        "an unknown attempt has a next ask",
        "attempts",
        "ck_attempts_unknown_is_asked_about",
        GUARDS + "test_an_unknown_attempt_is_asked_about",
    ),
    drop_constraint(
        "a closed charge has no next attempt",
        "charges",
        "ck_charges_closed_has_no_next_attempt",
        GUARDS + "test_a_closed_charge_has_no_next_attempt",
    ),
    drop_constraint(
        "a debt that waits has a time to look at it",
        "charges",
        "ck_charges_waiting_is_looked_at",
        GUARDS + "test_a_debt_that_waits_is_whole",
    ),
    Mutant(
        "a policy's version is never changed",
        GUARDS + "test_a_policy_s_version_is_written_once_and_never_changed",
        statement="DROP TRIGGER append_only ON policies",
    ),
    drop_constraint(
        "no whole card number in a row",
        "billing_keys",
        "ck_billing_keys_card_number_is_masked",
        GUARDS + "test_a_whole_card_number_is_not_taken",
    ),
    Mutant(
        "the audit is append only",
        GUARDS + "test_history_is_append_only",
        statement="DROP TRIGGER append_only ON audit",
    ),
    Mutant(
        "plan versions are immutable",
        GUARDS + "test_a_plan_version_is_immutable",
        statement="DROP TRIGGER immutable ON plans",
    ),
    drop_constraint(
        "one notice for a change",
        "outbox",
        "one_notice_for_each_change",
        GUARDS + "test_one_notice_for_each_change",
    ),
    Mutant(
        "what an event says is append only",
        GUARDS + "test_what_an_event_says_is_append_only",
        statement="DROP TRIGGER append_only ON outbox",
    ),
    drop_constraint(
        "one finding for a payment",
        "findings",
        "one_finding_for_each_payment",
        RECONCILING + "test_a_finding_is_written_once_however_often_it_is_seen",
    ),
    # Claim, fence and lease
    Mutant(
        "the fence of an answer",
        CHARGING + "test_a_stale_answer_changes_nothing",
        "worker/store/attempts.py",
        '.where(a.id == attempt.id, a.fence == attempt.fence, a.state.concat("") == before.value)',
        ".where(a.id == attempt.id)",
    ),
    Mutant(
        "a charge is claimed only when it is owed, not held, and due",
        CHARGING + "test_a_message_that_comes_between_two_rungs_sends_nothing",
        "worker/workflows/charging.py",
        "    if not (charge.status.is_owed and charge.held_why is None and due):\n        return False\n",
        "",
    ),
    Mutant(
        "only what was surely not processed is sent again",
        CHARGING + "test_an_attempt_in_doubt_is_not_sent_again_though_its_charge_says_it_is_due",
        "worker/store/attempts.py",
        "SENDABLE = (AttemptState.READY, AttemptState.NOT_SENT)",
        "SENDABLE = tuple(AttemptState)",
    ),
    Mutant(
        "a lease is taken only when it has run out",
        CLOCKS + "test_a_lease_that_lives_is_not_taken",
        "worker/store/attempts.py",
        ".where(a.state == AttemptState.SENDING.value, a.lease_until < now)",
        ".where(a.state == AttemptState.SENDING.value)",
    ),
    Mutant(
        "rows before calls",
        CHARGING + "test_the_row_is_committed_before_the_request_leaves",
        "worker/workflows/charging.py",
        "        attempts_made = max(charge.attempts, intent.number)\n",
        "        services.gateway(charge.account).charge(ChargeOrder(charge.customer_uid, intent.merchant_uid, "
        "intent.money, charge.name))\n        attempts_made = max(charge.attempts, intent.number)\n",
    ),
    Mutant(
        "an owed charge with a paid attempt is never sent",
        "workflows/test_quarantine.py::test_an_owed_charge_with_a_paid_attempt_is_never_sent",
        "worker/workflows/charging.py",
        "if attempts.has_paid(db, charge.id):",
        "if False:",
    ),
    Mutant(
        "an account without credentials here is left alone",
        SETTLING + "test_a_charge_of_an_account_without_credentials_here_is_left_alone",
        "worker/workflows/charging.py",
        "if charge.account not in services.gateways:",
        "if False:",
    ),
    Mutant(
        "dispatching: a charge is queued once",
        "workflows/test_dispatching.py::test_each_due_charge_is_queued_once",
        "worker/store/charges.py",
        ".values(queued_until=now + patience)",
        ".values(queued_until=None)",
    ),
    Mutant(
        "dispatching: a broker that is away leaves everything due",
        "workflows/test_dispatching.py::test_a_broker_that_is_away_leaves_everything_due",
        "worker/workflows/dispatching.py",
        "charges.unqueue(db, [charge_id for few in queued.values() for charge_id, _ in few])",
        "pass",
    ),
    Mutant(
        "dispatching: nothing more while nobody takes what waits",
        "workflows/test_dispatching.py::test_nothing_more_is_queued_while_nobody_takes_what_waits",
        "worker/workflows/dispatching.py",
        " or waiting() >= services.settings.queue_bound * len(accounts)",
        "",
    ),
    # The last look
    Mutant(
        "last look: another worker has taken it",
        CLOCKS + "test_a_claim_that_another_worker_took_over_does_not_leave",
        "worker/store/charges.py",
        '(not ours, Obstacle("another worker has taken this attempt")),',
        "",
    ),
    Mutant(
        "last look: the lease outlasts the call",
        CHARGING + "test_the_last_look_sees_a_lease_that_is_too_short_for_the_call",
        "worker/store/charges.py",
        '(not lasts, Obstacle("the lease would run out during the call")),',
        "",
    ),
    Mutant(
        "last look: the charge is owed",
        LOOK,
        "worker/store/charges.py",
        '(not ChargeStatus(self.status).is_owed, Obstacle(f"the charge is {self.status}")),',
        "",
    ),
    Mutant(
        "last look: the charge is not held",
        LOOK,
        "worker/store/charges.py",
        '(self.held_why is not None, Obstacle(f"the charge is held: {self.held_why}")),',
        "",
    ),
    Mutant(
        "last look: the subscription lives",
        LOOK,
        "worker/store/charges.py",
        '(canceled, Obstacle("the subscription is canceled", Then.CANCEL)),',
        "",
    ),
    Mutant(
        "last look: the amount is as it was",
        LOOK,
        "worker/store/charges.py",
        '((self.amount, self.currency) != asked, Obstacle("the amount has changed since", Then.PERSON)),',
        "",
    ),
    Mutant(
        "last look: the due time is reached",
        LOOK,
        "worker/store/charges.py",
        '(self.due_at > now, Obstacle("the charge is not due yet")),',
        "",
    ),
    Mutant(
        "last look: the billing key is there",
        LOOK,
        "worker/store/charges.py",
        '(self.no_card, Obstacle("the billing key was deleted", Then.PERSON)),',
        "",
    ),
    Mutant(
        "last look: the kill switch is off",
        LOOK,
        "worker/store/charges.py",
        "return found or (Obstacle(may_not_send) if may_not_send is not None else None)",
        "return found",
    ),
    Mutant(
        "a canceled subscription's claim comes to an end",
        SETTLING + "test_a_claim_whose_subscription_is_canceled_meanwhile_ends_its_charge",
        "worker/store/charges.py",
        'Obstacle("the subscription is canceled", Then.CANCEL)',
        'Obstacle("the subscription is canceled")',
    ),
    Mutant(
        "the environment's fingerprint",
        CHARGING + "test_a_database_of_another_environment_sends_nothing",
        "worker/store/switches.py",
        "self.fingerprint != fingerprint or not self.is_bound_here",
        "not self.is_bound_here",
    ),
    Mutant(
        "which database it is, asked each time",
        CLOCKS + "test_a_database_that_was_swapped_under_a_running_worker_sends_nothing",
        "worker/store/switches.py",
        "self.fingerprint != fingerprint or not self.is_bound_here",
        "self.fingerprint != fingerprint",
    ),
    Mutant(
        "the hold after a restore",
        RESTORING + "test_nothing_is_sent_while_the_hold_lasts",
        "worker/store/switches.py",
        "if self.hold_since is not None:",
        "if False:",
    ),
    Mutant(
        "the kill switch",
        CHARGING + "test_stopped_charging_goes_on_where_it_was",
        "worker/store/switches.py",
        "return self.foreign(fingerprint, clock) or stopped",
        "return None",
    ),
    Mutant(
        "a clock that is wrong decides nothing",
        CLOCKS + "test_a_machine_whose_clock_is_wrong_opens_claims_and_queues_nothing",
        "worker/store/switches.py",
        "MOST_SKEW = timedelta(seconds=10)",
        "MOST_SKEW = timedelta(days=10)",
    ),
    Mutant(
        "the rate cap",
        CHARGING + "test_the_rate_cap_gives_the_claim_back_unsent",
        "worker/workflows/leaving.py",
        "    if not leave.is_granted:\n        cap",
        "    if False:\n        cap",
    ),
    Mutant(
        "a worker that wakes too late does not send",
        CHARGING + "test_a_worker_that_wakes_too_late_does_not_send",
        "worker/workflows/charging.py",
        "    return gateway.charge(order, until)\n",
        "    return gateway.charge(order)\n",
    ),
    # Reading the answer
    Mutant(
        "code 0 is not paid",
        ANSWERS + "test_what_is_surely_neither_paid_nor_declined_is_unknown",
        "worker/gateway/answers.py",
        '    if payment.status != "paid":',
        "    if False:",
    ),
    Mutant(
        "the amount and currency of the answer",
        ANSWERS + "test_another_amount_currency_or_uid_is_a_mismatch_with_both_values",
        "worker/gateway/answers.py",
        "if (payment.amount, payment.currency) != asked:",
        "if False:",
    ),
    Mutant(
        "the uid of the answer",
        ANSWERS + "test_another_amount_currency_or_uid_is_a_mismatch_with_both_values",
        "worker/gateway/answers.py",
        "if payment.merchant_uid != order.merchant_uid:",
        "if False:",
    ),
    Mutant(
        "a test channel's payment is not paid",
        ANSWERS + "test_a_payment_on_a_test_channel_is_not_paid_unless_the_account_is_one_for_tests",
        "worker/gateway/answers.py",
        "if payment.sandbox and not sandbox:",
        "if False:",
    ),
    Mutant(
        "a failure that names a time-out is unknown",
        ANSWERS + "test_a_failure_that_names_a_time_out_or_a_line_fault_is_unknown_in_both_shapes",
        "worker/gateway/answers.py",
        "    if is_unclear(words, None):",
        "    if False:",
    ),
    Mutant(
        "a used uid is asked about",
        ANSWERS + "test_a_used_uid_is_no_decline_but_something_to_ask_about_whatever_its_code",
        "worker/gateway/answers.py",
        "    if is_used(words):\n",
        "    if False:\n",
    ),
    Mutant(
        "card numbers are masked",
        ANSWERS + "test_what_looks_like_a_card_number_is_masked_in_every_text",
        "worker/gateway/masking.py",
        "text = masked(writable(str(words)))",
        "text = writable(str(words))",
    ),
    Mutant(
        "a call that cannot be waited for in full is not sent",
        "gateway/test_phases.py::test_a_call_that_must_be_over_already_is_not_sent",
        "worker/gateway/calls.py",
        "until = latest if until is None else min(until, latest)",
        "until = latest",
    ),
    Mutant(
        "a call whose slot has passed is not sent",
        SLOTS + "test_a_slot_that_has_passed_sends_nothing_and_the_line_stays",
        "worker/gateway/transport.py",
        "latest = min(under_way.slot.latest, under_way.until)",
        "latest = under_way.until",
    ),
    Mutant(
        "what is begun and cannot be waited for in full is not sent",
        SLOTS + "test_a_charge_whose_answer_could_not_be_waited_for_in_full_is_not_sent",
        "worker/gateway/calls.py",
        "slot = replace(slot, latest=min(slot.latest, latest))",
        "pass",
    ),
    Mutant(
        "a line that the server has closed carries no call",
        SLOTS + "test_a_line_that_is_closed_behind_our_back_is_not_sent_on",
        "worker/gateway/transport.py",
        "if self.idle_since and self._poll.poll(0):",
        "if False:",
    ),
    Mutant(
        "what follows an answer is no answer",
        SLOTS + "test_a_server_that_talks_unasked_is_not_believed",
        "worker/gateway/transport.py",
        "if whole and not self._http.trailing_data[0]:",
        "if whole:",
    ),
    Mutant(
        "a charge that was refused for its token takes another slot",
        SLOTS + "test_after_a_401_the_charge_takes_another_slot_under_a_fresh_token",
        "worker/gateway/calls.py",
        "        elif _is_unauthorized(came):\n            self._calls._do_aside(",
        "        elif False:\n            self._calls._do_aside(",
    ),
    # Unknown never becomes failed by growing old
    Mutant(
        "the quiet time",
        "rules/test_asking.py::test_nothing_found_counts_twice_in_a_row_after_the_quiet_time",
        "schedules/asking.py",
        "    if now - asked.quiet_since < quiet_time:\n",
        "    if False:\n",
    ),
    Mutant(
        "twice in a row",
        ASKING + "test_not_found_counts_only_twice_in_a_row_after_the_quiet_time",
        "schedules/asking.py",
        "QUIET_ANSWERS = 2",
        "QUIET_ANSWERS = 1",
    ),
    Mutant(
        "the quiet time begins when the call was over",
        "rules/test_asking.py::test_the_quiet_time_begins_when_the_call_was_surely_over",
        "schedules/asking.py",
        "    if now - asked.quiet_since < quiet_time:\n",
        "    if now - asked.last_sent_at < quiet_time:\n",
    ),
    Mutant(
        "a paid record wins over a newer failed one",
        ASKING + "test_a_paid_record_wins_over_a_newer_failed_one",
        "schedules/asking.py",
        "    if paid:\n        return _read_paid(paid[0], asked)\n",
        "",
    ),
    Mutant(
        "asking: another amount is for a person",
        ASKING + "test_a_paid_record_with_another_amount_stops_the_charge",
        "schedules/asking.py",
        "if (payment.amount, payment.currency) != (asked.money.amount, asked.money.currency):",
        "if False:",
    ),
    Mutant(
        "asking: two paid records are for a person",
        "rules/test_asking.py::test_another_amount_or_currency_or_two_paid_are_for_a_person",
        "schedules/asking.py",
        "if len(paid) > 1:",
        "if False:",
    ),
    Mutant(
        "two askers ask once",
        ASKING + "test_two_askers_at_once_ask_once",
        "worker/store/attempts.py",
        "a.state == AttemptState.UNKNOWN.value, a.next_ask_at <= now)\n        .values(fence",
        "a.state == AttemptState.UNKNOWN.value)\n        .values(fence",
    ),
    Mutant(
        "a mismatch sets the charge aside",
        CHARGING + "test_an_answer_with_another_amount_stops_the_charge",
        "schedules/dunning.py",
        "return SetAside(reason) if mismatch else AskGateway()",
        "return AskGateway()",
    ),
    Mutant(
        "a new uid only after a definite failure",
        CHARGING + "test_what_was_not_sent_is_sent_again_under_the_same_uid_and_uses_no_rung",
        "worker/workflows/charging.py",
        "    if unresolved is not None:\n",
        "    if False:\n",
    ),
    Mutant(
        "a second payment for one debt is not believed",
        REFUNDING + "test_a_second_payment_that_came_by_asking_ends_when_it_is_given_back",
        "worker/workflows/settling.py",
        "if isinstance(outcome, Paid) and attempts.has_paid(db, charge.id):",
        "if False:",
    ),
    Mutant(
        "a held charge is not given up",
        SETTLING + "test_a_held_charge_is_not_given_up",
        "worker/workflows/dunning.py",
        "if charge.held_why is not None or charge.given_up is not None:",
        "if charge.given_up is not None:",
    ),
    Mutant(
        "the subscription is locked before its charges",
        SETTLING + "test_a_charge_that_is_given_up_and_a_person_who_cancels_do_not_block_each_other",
        "worker/workflows/settling.py",
        "            subscriptions.lock_of_charge(db, attempt.charge_id)\n",
        "            pass\n",
    ),
    # Dunning
    Mutant(
        "the oldest debt of a customer goes first, one at a time",
        STORIES + "test_of_several_debts_the_oldest_goes_first_one_at_a_time_with_one_notice",
        "worker/workflows/charging.py",
        "if begun is None and dunning.gives_way(db, charge, services.clock.now()):",
        "if False:",
    ),
    Mutant(
        "what waited behind a debt is tried when that is over",
        STORIES + "test_what_waited_behind_an_older_debt_is_tried_within_a_minute_of_its_end",
        "worker/workflows/closing.py",
        "    )\n    debts.wake_behind(db, charge_id, now)\n",
        "    )\n",
    ),
    Mutant(
        "a card that can never pay is not tried with the next period",
        STORIES + "test_a_lost_card_is_not_tried_with_the_next_period_either",
        "worker/workflows/dunning.py",
        "        customers.change_key(db, charge.billing_key_id, stopped_as=said.decline_class.value)\n",
        "",
    ),
    Mutant(
        "a card that cannot pay is not tried again by the ladder",
        "rules/test_dunning.py::test_a_card_that_cannot_pay_is_tried_once",
        "schedules/dunning.py",
        "ends = debt.stopped or said.decline_class in NEEDS_CARD",
        "ends = debt.stopped",
    ),
    Mutant(
        "the final action is taken late rather than never",
        STORIES + "test_downtime_over_the_end_of_the_patience_strands_nobody",
        "schedules/standings.py",
        "return [step for at, step in _steps(debt) if at <= now]",
        "return [step for at, step in _steps(debt) if now - timedelta(days=1) < at <= now]",
    ),
    Mutant(
        "a person's try uses up no rung",
        STORIES + "test_a_person_s_try_uses_up_no_rung_and_moves_none",
        "schedules/dunning.py",
        "return Counter.MANUAL if debt.by_person else Counter.RUNG",
        "return Counter.RUNG",
    ),
    Mutant(
        "a person's try leaves the ladder's plan alone",
        STORIES + "test_a_person_s_try_uses_up_no_rung_and_moves_none",
        "schedules/dunning.py",
        "    if debt.by_person:\n",
        "    if False:\n",
    ),
    Mutant(
        "an outage in a ladder uses up no rung",
        "rules/test_dunning.py::test_each_try_moves_one_counter_and_only_the_cards_own_no_moves_the_ladder",
        "schedules/dunning.py",
        "        case NotSent():\n            return Counter.TECHNICAL\n",
        "        case NotSent():\n            return Counter.RUNG\n",
    ),
    Mutant(
        "a card's cap holds back the ladder",
        STORIES + "test_no_card_is_declined_more_often_than_its_cap_within_a_month",
        "worker/workflows/dunning.py",
        "return times[-1] + cap.within if len(times) >= cap.declines else None",
        "return None",
    ),
    Mutant(
        "what a PG says of our set-up stops the account",
        STORIES + "test_a_fault_of_our_set_up_is_told_to_no_customer_and_stops_the_account",
        "worker/workflows/settling.py",
        "        if answer.tells_of_set_up:\n",
        "        if False:\n",
    ),
    Mutant(
        "a paid debt ends its ladder, whoever took the money",
        STORIES + "test_a_debt_that_is_paid_by_another_way_stops_everything_at_once",
        "worker/workflows/closing.py",
        "        next_attempt_at=None,\n",
        "",
    ),
    Mutant(
        "a webhook that is lost strands no card",
        STORIES + "test_a_card_that_nobody_told_us_of_is_found_within_a_day",
        "worker/workflows/dunning.py",
        "    customers.change_key(db, charge.billing_key_id, ask_at=now + CARD_ASKED_AFTER)\n",
        "",
    ),
    Mutant(
        "who is not believed changes nothing",
        STORIES + "test_a_daily_look_that_finds_the_same_card_tries_nothing",
        "worker/workflows/cards.py",
        "if not differs and not believed:",
        "if False:",
    ),
    Mutant(
        "a new version of a policy leaves debts that are being dunned alone",
        STORIES + "test_a_change_of_the_policy_leaves_debts_that_are_being_dunned_alone",
        "worker/store/charges.py",
        ".join(policies, policies.c.id == charges.c.policy_id)",
        ".join(policies, policies.c.id == select(func.max(policies.c.id)).scalar_subquery())",
    ),
    Mutant(
        "the ladder stops when a person ends the subscription",
        STORIES + "test_the_ladder_stops_when_a_person_ends_the_subscription",
        "worker/workflows/enrolling.py",
        '        dunning.stop_ladders(db, row["id"], now)\n',
        "",
    ),
    Mutant(
        "a late no of an old card does not stop the new card",
        STORIES + "test_a_late_no_of_the_old_card_does_not_stop_the_new_one",
        "worker/workflows/dunning.py",
        "old_card=charge.card_changed_at is not None and attempt.last_sent_at < charge.card_changed_at",
        "old_card=False",
    ),
    Mutant(
        "books on hold give no debt up",
        STORIES + "test_books_on_hold_end_nobody_s_subscription",
        "worker/workflows/chasing.py",
        "if not are_ours_and_known(services):",
        "if False:",
    ),
    Mutant(
        "a debt that was given up starves no other subscription",
        STORIES + "test_a_debt_that_was_given_up_keeps_no_other_subscription_from_being_paid",
        "worker/store/debts.py",
        ".where(same | ends | (fresh & c.given_up.is_(None) & (c.refusals == 0)))",
        ".where(c.id > 0)",
    ),
    Mutant(
        "a debt that waits past its end is looked at",
        STORIES + "test_a_debt_released_after_its_end_is_over_comes_to_its_end",
        "worker/workflows/dunning.py",
        "next_look(seen, now) or (None if charge.given_up or charge.held_why else now)",
        "next_look(seen, now)",
    ),
    Mutant(
        "a card said to be mended is not tried each time",
        STORIES + "test_a_card_said_to_be_mended_again_and_again_is_not_tried_each_time",
        "worker/workflows/cards.py",
        "(not is_new and _was_just_declined(db, charge, now))",
        "False",
    ),
    Mutant(
        "a pause ends however its debt ends",
        STORIES + "test_a_paused_subscription_goes_on_when_its_debt_is_waived",
        "worker/workflows/operating.py",
        '    resume_if_nothing_rests(db, charge, f"what it owed was {status}", now)\n',
        "",
    ),
    # Opening
    Mutant(
        "opening: a charge that is there is left alone",
        "workflows/test_opening.py::test_the_unique_key_refuses_a_second_charge_when_the_cursor_was_set_back",
        "worker/store/charges.py",
        "    return statement.on_conflict_do_nothing().returning(charges.c.key)\n",
        "    return statement.returning(charges.c.key)\n",
    ),
    Mutant(
        "opening: the cursor moves",
        "workflows/test_opening.py::test_months_without_a_31st_are_charged_on_their_last_day",
        "worker/workflows/opening.py",
        "        subscriptions.move_cursors(db, openings)\n",
        "",
    ),
    Mutant(
        "opening: what breaks a rule is set aside",
        "workflows/test_quarantine.py::test_a_subscription_that_opening_cannot_work_on_is_set_aside_and_the_others_go_on",
        "worker/workflows/opening.py",
        "            except BROKEN as broken:",
        "            except KeyboardInterrupt as broken:",
    ),
    Mutant(
        "a charge whose row breaks a rule is set aside",
        "workflows/test_quarantine.py::test_a_charge_whose_row_breaks_a_rule_is_set_aside_and_not_tried_each_minute",
        "worker/workflows/charging.py",
        "    except BROKEN as broken:",
        "    except KeyboardInterrupt as broken:",
    ),
    # The reconciler, refunds, the breaker and the hold
    Mutant(
        "reconciler: a call under way is not lost",
        RECONCILING + "test_a_call_under_way_is_not_called_lost",
        "schedules/findings.py",
        "if payment.balance <= 0 or ours.under_way:",
        "if payment.balance <= 0:",
    ),
    Mutant(
        "reconciler: a ghost is confirmed by asking",
        RECONCILING + "test_a_payment_that_only_the_list_leaves_out_is_no_ghost",
        "worker/workflows/windows.py",
        'if not any(payment.status in ("paid", "cancelled") for payment in found.payments):',
        "if True:",
    ),
    Mutant(
        "reconciler: another environment's uid is an orphan",
        RECONCILING + "test_orphan_is_a_billing_keys_payment_that_is_not_ours",
        "schedules/findings.py",
        "    if made_by != environment:\n",
        "    if False:\n",
    ),
    Mutant(
        "reconciler: one process works on a run",
        RECONCILING + "test_two_processes_do_not_work_on_one_run",
        "worker/store/reconciliations.py",
        "r.ended_at.is_(None), r.lease_until <= now)",
        "r.ended_at.is_(None))",
    ),
    Mutant(
        "reconciler: memory is bounded",
        RECONCILING + "test_a_window_with_too_many_payments_is_cut_so_that_memory_is_bounded",
        "worker/workflows/windows.py",
        "if page.total > self.most and",
        "if False and",
    ),
    Mutant(
        "refund: the balance is looked at first",
        REFUNDING + "test_a_refund_whose_answer_was_lost_is_looked_at_and_not_made_again",
        "worker/workflows/refunding.py",
        "    if payment.balance == 0:\n",
        "    if False:\n",
    ),
    Mutant(
        "refund: the approved balance",
        REFUNDING + "test_a_balance_that_has_changed_since_is_for_a_person_again",
        "worker/workflows/refunding.py",
        "    if payment.balance != claimed.balance:\n",
        "    if False:\n",
    ),
    Mutant(
        "refund: its fence",
        REFUNDING + "test_two_processes_make_one_refund",
        "worker/store/findings.py",
        "f.id == finding.id, f.fence == finding.fence, f.state == finding.state.value)",
        "f.id == finding.id)",
    ),
    Mutant(
        "refund: only what was approved",
        REFUNDING + "test_nothing_is_given_back_without_approval",
        "worker/store/findings.py",
        "            (f.state == FindingState.APPROVED.value)\n",
        "            (f.state.in_([FindingState.OPEN.value, FindingState.APPROVED.value]))\n",
    ),
    Mutant(
        "breaker: the first double stops the account",
        RECONCILING + "test_double_is_found_stops_the_account_and_waits_for_approval",
        "worker/workflows/comparing.py",
        "        break_account(",
        "        isinstance(",
    ),
    Mutant(
        "breaker: a burst of refusals stops the account",
        "workflows/test_breaking.py::test_a_burst_of_refused_charges_stops_the_account",
        "worker/workflows/settling.py",
        "        if answer.tells_of_set_up:\n            count_refusal",
        "        if False:\n            count_refusal",
    ),
    Mutant(
        "breaker: what a person has looked at is not counted again",
        "workflows/test_breaking.py::test_what_a_person_has_looked_at_is_not_counted_again",
        "worker/store/switches.py",
        "func.coalesce(counted_from, since)",
        "since",
    ),
    Mutant(
        "hold: the quiet time first",
        RESTORING + "test_the_quiet_time_is_waited_for_first",
        "worker/workflows/restoring.py",
        "    if services.clock.now() < quiet_until:\n",
        "    if False:\n",
    ),
    Mutant(
        "hold: what is due is opened first",
        RESTORING + "test_a_period_that_came_due_after_the_backup_is_opened_before_it_is_asked_for",
        "worker/workflows/restoring.py",
        "    opening.open_due(services)\n",
        "",
    ),
    Mutant(
        "hold: the list is compared",
        RESTORING + "test_a_list_that_was_compared_for_an_older_hold_does_not_count",
        "worker/workflows/restoring.py",
        "if run is None or run.started_at < quiet_until:",
        "if run is None:",
    ),
    Mutant(
        "hold: the next uids are asked for",
        RESTORING + "test_a_payment_that_no_list_shows_is_found_by_asking_for_the_next_uids",
        "worker/workflows/restoring.py",
        "    left = _ask_for_owed(services, hold.cursor, going_on)\n",
        "    left = None\n",
    ),
    Mutant(
        "hold: no answer keeps it",
        RESTORING + "test_a_gateway_that_does_not_answer_keeps_the_hold",
        "worker/workflows/restoring.py",
        '                return "the gateway does not answer"\n',
        "                pass\n",
    ),
    Mutant(
        "a debt is held until a payment found for it is mended",
        RECONCILING + "test_a_debt_with_an_open_finding_is_not_released",
        "worker/workflows/comparing.py",
        '            charges.hold(db, debt.charge_key, f"finding {finding.id}: {finding.words}")\n',
        "            pass\n",
    ),
    Mutant(
        "a debt with an open finding is not released",
        RECONCILING + "test_a_debt_with_an_open_finding_is_not_released",
        "worker/workflows/operating.py",
        "        if finding is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "refund: never the only payment that is left",
        REFUNDING + "test_the_only_payment_that_is_left_is_not_given_back",
        "worker/workflows/refunding.py",
        "    if not otherwise:\n",
        "    if False:\n",
    ),
    Mutant(
        "refund: not from a copy",
        REFUNDING + "test_a_copy_of_the_database_gives_nothing_back",
        "worker/workflows/refunding.py",
        "        if obstacle is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "a clock that is wrong asks nothing",
        CLOCKS + "test_a_machine_whose_clock_is_wrong_asks_nothing",
        "worker/workflows/asking.py",
        "if since is None or not clock_is_right(services, db):",
        "if since is None:",
    ),
    Mutant(
        "hold: a second one is no shorter than the first",
        RESTORING + "test_a_second_hold_reaches_as_far_back_as_the_first",
        "worker/store/switches.py",
        "hold_from=earliest, hold_cursor=0",
        "hold_from=hold_from, hold_cursor=0",
    ),
    # Telling the shop
    Mutant(
        "delivering: the lease that an answer is written under",
        DELIVERING + "test_an_answer_is_left_out_when_somebody_else_has_the_event_since",
        "worker/store/deliveries.py",
        ", outbox.c.next_try_at == taken.leased_until)",
        ")",
    ),
    Mutant(
        "delivering: what one has taken another does not take",
        DELIVERING + "test_many_that_deliver_at_once_send_each_event_once",
        "worker/store/deliveries.py",
        ".values(next_try_at=until)",
        ".values(next_try_at=now)",
    ),
    Mutant(
        "delivering: a receiver that is away is left alone",
        DELIVERING + "test_a_receiver_that_is_away_ends_the_slice_and_the_rest_waits_untried",
        "worker/workflows/delivering.py",
        "                missed += 1",
        "                missed = 0",
    ),
    Mutant(
        "delivering: not from a copy, not on hold",
        DELIVERING + "test_a_copy_of_the_database_and_one_on_hold_tell_nobody",
        "worker/workflows/delivering.py",
        "if switches.permission(db, switches.ALL_ACCOUNTS).foreign(services.fingerprint, services.clock):",
        "if False:",
    ),
    # Ids and secrets
    Mutant(
        "the uid's check character",
        "rules/test_identity.py::test_one_wrong_character_is_found",
        "schedules/identity.py",
        " or _check_character(uid[:-1]) != uid[-1]",
        "",
    ),
    Mutant(
        "the environment is part of the uid",
        "rules/test_identity.py::test_other_parts_give_another_uid",
        "schedules/identity.py",
        "PREFIX + checked_environment(environment) + key",
        'PREFIX + "same" + key',
    ),
    Mutant(
        "the token's row is sealed",
        "store/test_tokens.py::test_the_row_shows_no_token_and_another_secret_cannot_open_it",
        "worker/store/tokens.py",
        "sealed = self._seal.encrypt(token.encode())",
        "sealed = token.encode()",
    ),
)
