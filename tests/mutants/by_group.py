"""The guards of what is done by the group, each with the text that is taken away and the test that must notice."""

from tests.mutants.table import CHARGING, Mutant

GROUPING = "workflows/test_grouping.py::"
CLAIMED = GROUPING + "test_what_must_not_be_sent_is_not_claimed_in_a_group"
LEFT = GROUPING + "test_the_set_leaves_an_answer_that_is_stale_or_changes_more_than_its_charge"
TOGETHER = (
    "workflows/test_settling_together.py::test_a_batch_of_answers_leaves_the_same_rows_as_the_answers_one_by_one"
)
RULE = "schedules/dunning/settling.py"
PAYMENTS = "worker/store/charging/payments.py"
CLAIM = "worker/charging/claim.py"
CLAIM_ROWS = "worker/store/charging/claims.py"
FLOWING = "workflows/test_flowing.py::"
PACING = "workflows/test_pacing.py::"
LEAVING = "workflows/test_leaving.py::"
READINESS = "workflows/test_readiness.py::"
SLOW = "workflows/test_slow_database.py::"

BY_GROUP: tuple[Mutant, ...] = (
    Mutant(
        "group: a message that came twice is one claim",
        FLOWING + "test_an_envelope_that_comes_twice_charges_once",
        CLAIM,
        "[answers.pop(charge_id, None) for charge_id in ids]",
        "[answers.get(charge_id) for charge_id in ids]",
    ),
    Mutant(
        "group: what was tried before is looked at",
        CLAIMED,
        CLAIM_ROWS,
        "        return self.was_tried or self.has_others or of_row",
        "        return self.has_others or of_row",
    ),
    Mutant(
        "group: an older debt of the card goes first",
        CLAIMED,
        CLAIM_ROWS,
        "ORDER BY other.due_at LIMIT 2) of_card) AS has_others",
        "ORDER BY other.due_at LIMIT 1) of_card) AS has_others",
    ),
    Mutant(
        "group: a row that somebody holds is passed over",
        GROUPING + "test_a_group_waits_for_no_row",
        CLAIM_ROWS,
        "    FOR UPDATE OF c SKIP LOCKED",
        "    FOR UPDATE OF c",
    ),
    Mutant(
        "group: a lone charge waits for its lock",
        GROUPING + "test_a_lone_charge_waits_for_its_row",
        CLAIM,
        "                claims.wait_for(db, charge_id)\n",
        "                claims.wait_for\n",
    ),
    Mutant(
        "group: what is written for one charge has a savepoint",
        GROUPING + "test_a_write_that_a_constraint_refuses_costs_no_other_claim_of_the_group",
        CLAIM,
        "            with self.db.begin_nested():\n                return self._written(each)\n",
        "            return self._written(each)\n",
    ),
    Mutant(
        "group: each charge of a card sees what was written for those before it",
        "workflows/test_claiming.py::test_a_batch_leaves_the_same_rows_as_its_charges_one_by_one",
        CLAIM,
        "            rows = _first_of_each_card([found[charge_id] for charge_id in left if charge_id in found])\n",
        "            rows = [found[charge_id] for charge_id in left if charge_id in found]\n",
    ),
    Mutant(
        "group: each account's own share of the threads",
        FLOWING + "test_envelopes_of_one_account_leave_threads_for_the_others",
        "worker/tasks.py",
        "        if account not in _places:\n",
        "        account = ''\n        if account not in _places:\n",
    ),
    Mutant(
        "settling by the set: the fence of an answer",
        LEFT,
        PAYMENTS,
        "ANY(:attempts) AND a.fence = told.fence\n",
        "ANY(:attempts)\n",
    ),
    Mutant(
        "settling by the set: the state of an answer",
        LEFT,
        PAYMENTS,
        "\n            AND a.state || '' = told.before\n",
        "\n",
    ),
    Mutant(
        "settling by the set: a charge that is locked is left",
        GROUPING + "test_a_payment_whose_debt_somebody_holds_is_left",
        PAYMENTS,
        "    FOR UPDATE OF c SKIP LOCKED\n",
        "",
    ),
    Mutant(
        "settling by the set: what cannot be written undoes no other answer",
        GROUPING + "test_one_answer_that_cannot_be_written_undoes_no_other",
        "worker/charging/settle.py",
        "    except DATABASE_ERRORS as error:",
        "    except ZeroDivisionError as error:",
    ),
    Mutant(
        "settling by the set: one answer for a charge",
        GROUPING + "test_of_two_answers_for_one_charge_in_a_batch_the_first_is_written",
        "worker/charging/settle.py",
        "paid.get(each.attempt.charge_id) is each and each.attempt.id in done",
        "each.attempt.id in done",
    ),
    Mutant(
        "settling by the set: only a payment that changes nothing else",
        LEFT,
        RULE,
        "        return replace(self, recovered=False) == PaymentEffects(recovered=False)\n",
        "        return True\n",
    ),
    Mutant(
        "settling by the set: an effect of a payment is not left out",
        TOGETHER,
        RULE,
        "        return replace(self, recovered=False) == PaymentEffects(recovered=False)\n",
        "        return replace(self, recovered=False, resumes=False, recovers_subscription=False) == "
        "PaymentEffects(recovered=False)\n",
    ),
    Mutant(
        "pace: a look that would be stale is looked again",
        PACING + "test_a_slot_that_is_far_away_is_waited_for",
        "worker/charging/send_queue.py",
        "        elif permit.is_soon:\n",
        "        elif True:\n",
    ),
    Mutant(
        "a slot that was missed is not used",
        LEAVING + "test_a_slot_that_was_missed_is_not_used",
        "worker/charging/rate_limiter.py",
        "    width = LATEST if rate <= BUSY_RATE else BUSY_LATE\n",
        "    width = math.inf\n",
    ),
    Mutant(
        "group: a slot for each call",
        LEAVING + "test_a_group_takes_a_slot_for_each_call",
        "worker/store/charging/rates.py",
        '"many": float(min(many, MOST_AT_ONCE)),',
        '"many": 1.0,',
    ),
    Mutant(
        "group: no slot that nobody waits for",
        LEAVING + "test_no_slot_is_taken_that_nobody_waits_for",
        "worker/charging/rate_limiter.py",
        "many = min(asked, 1 + int(PATIENCE / every))",
        "many = asked",
    ),
    Mutant(
        "executor: a worker that stops begins nothing more",
        FLOWING + "test_an_envelope_of_a_worker_that_stops_ends_with_what_is_begun",
        "worker/charging/executor.py",
        "            if stop_signal.is_told():\n                ahead.release()\n                break\n",
        "",
    ),
    Mutant(
        "executor: what a stopping worker has not begun is given back",
        FLOWING + "test_what_a_stopping_worker_has_not_begun_is_queued_again",
        "worker/tasks.py",
        "            if under_way.not_begun:\n",
        "            if False:\n",
    ),
    Mutant(
        "executor: claims that cannot leave are given back",
        FLOWING + "test_claims_that_cannot_leave_are_given_back",
        "worker/charging/executor.py",
        "attempt_charge.hold_back, self._services, claimed, NOT_LOOKED)",
        "str, NOT_LOOKED)",
    ),
    Mutant(
        "executor: a call that began is waited for",
        FLOWING + "test_an_envelope_is_over_when_its_last_charge_is",
        "worker/tasks.py",
        "        under_way.wait()\n",
        "        pass\n",
    ),
    Mutant(
        "dispatch: two processes fill one bound once",
        "workflows/test_dispatching.py::test_two_that_dispatch_at_once_fill_the_bound_once",
        "worker/renewals/enqueue.py",
        "if not charges.queues_alone(db, account):",
        "if False:",
    ),
    Mutant(
        "group: the pre-send check",
        CHARGING + "test_the_pre_send_check_keeps_a_claimed_attempt_from_leaving",
        "worker/charging/rate_limiter.py",
        "    return permit.sight.obstacle(claimed.intent, services.clock, call_takes, services.identity)\n",
        "    return None\n",
    ),
    Mutant(
        "executor: no more is claimed than leaves soon",
        FLOWING + "test_an_envelope_claims_no_more_than_leaves_soon",
        "worker/charging/executor.py",
        "            await ahead.acquire()\n",
        "",
    ),
    Mutant(
        "pace: a look does not last though a slot does",
        PACING + "test_a_call_leaves_on_a_fresh_look_or_not_at_all",
        "worker/charging/send_queue.py",
        "latest = min(permit.latest, permit.stale_at)",
        "latest = permit.latest",
    ),
    Mutant(
        "pace: who waits long enough is held back",
        PACING + "test_who_never_keeps_a_slot_is_held_back",
        "worker/charging/send_queue.py",
        "found = NO_SLOT if permit.looked_at - queued.asked_at > PATIENCE else None",
        "found = None",
    ),
    Mutant(
        "pace: a call that left too late puts off what follows",
        PACING + "test_a_call_that_leaves_too_late_puts_off_those_that_follow",
        "worker/charging/send_queue.py",
        "lane.overrun = max(lane.overrun, late)",
        "pass",
    ),
    Mutant(
        "pace: that is not forgotten when a look fails",
        PACING + "test_a_call_that_left_too_late_is_not_forgotten_when_a_look_fails",
        "worker/charging/send_queue.py",
        "            self._overran(overruns)\n",
        "",
    ),
    Mutant(
        "executor: an envelope that cannot be given back waits for its calls",
        FLOWING + "test_an_envelope_that_cannot_be_given_back_waits_for_what_it_has_begun",
        "worker/tasks.py",
        "        finally:\n            under_way.wait()\n",
        "        finally:\n            pass\n",
    ),
    Mutant(
        "pace: what somebody asked for goes first",
        PACING + "test_what_somebody_asked_for_goes_first_and_what_is_tried_again_before_the_rest",
        "worker/charging/send_queue.py",
        "        line = self._lane(come).waiting[come.turn]\n",
        "        line = self._lane(come).waiting[0]\n",
    ),
    Mutant(
        "pace: an account's own room",
        PACING + "test_no_account_waits_for_another_whose_calls_hang",
        "worker/charging/send_queue.py",
        "most = min(self.room, TOGETHER, ",
        "most = min(TOGETHER, ",
    ),
    Mutant(
        "pace: one that cannot be sent keeps no other from leaving",
        PACING + "test_one_that_cannot_be_sent_keeps_no_other_from_leaving",
        "worker/charging/send_queue.py",
        "            except Exception as error:  # noqa: BLE001 # a row that breaks a rule",
        "            except ZeroDivisionError as error:  # noqa: BLE001 # a row that breaks a rule",
    ),
    Mutant(
        "cap: what left too late puts off what others send",
        LEAVING + "test_what_left_too_late_puts_off_what_others_send",
        "worker/charging/rate_limiter.py",
        "            rates.delay_slots(db, account, late[account])\n",
        "            pass\n",
    ),
    Mutant(
        "slow database: slots are asked for as much earlier as a check takes longer",
        SLOW + "test_calls_leave_though_each_round_trip_takes_long",
        "worker/charging/rate_limiter.py",
        "ahead = times.extra",
        "ahead = 0.0",
    ),
    Mutant(
        "slow database: a check counts for longer where it takes longer",
        SLOW + "test_calls_leave_though_each_round_trip_takes_long",
        "worker/runtime/check_times.py",
        "return min(MOST_LASTS, LASTS + 2 * self.extra)",
        "return LASTS",
    ),
    Mutant(
        "slow database: a check never counts for longer than the bound",
        SLOW + "test_a_check_never_counts_for_longer_than_the_bound",
        "worker/runtime/check_times.py",
        "return min(MOST_LASTS, LASTS + 2 * self.extra)",
        "return LASTS + 2 * self.extra",
    ),
    Mutant(
        "sessions: JIT is off",
        SLOW + "test_each_session_has_its_settings_whatever_the_database_prefers",
        "worker/store/engine.py",
        '    "jit": "off",\n',
        "",
    ),
    Mutant(
        "giving back: not what was claimed for another send since",
        "workflows/test_giving_back.py::test_one_that_another_process_has_sent_since_stays_unknown",
        "worker/store/charging/attempts.py",
        "        .where(a.last_sent_at == attempt.last_sent_at)\n",
        "",
    ),
    Mutant(
        "giving back: though its lease has ended",
        "workflows/test_giving_back.py::test_it_is_given_back_though_its_lease_has_ended",
        "worker/charging/attempt_charge.py",
        " or attempts.take_back(db, intent, now, obstacle.why)",
        "",
    ),
    Mutant(
        "stop: what is claimed and has not left is given back",
        FLOWING + "test_what_is_claimed_and_has_not_left_is_given_back_when_the_process_stops",
        "worker/charging/send_queue.py",
        "            if stop_signal.is_told():\n                self._hold_all()\n",
        "",
    ),
    Mutant(
        "stop: nothing leaves any more",
        "gateway/test_http_client.py::test_a_call_that_waits_for_its_slot_does_not_leave_after_a_stop_signal",
        "worker/gateway/exchange.py",
        "if elapsed() <= latest and self._may_send():",
        "if elapsed() <= latest:",
    ),
    Mutant(
        "background: a process without one of its threads ends",
        "acceptance/test_background.py::test_a_process_ends_when_one_of_its_threads_fails",
        "worker/runtime/background.py",
        '        _end_process(part, "failed", error)\n',
        "        pass\n",
    ),
    Mutant(
        "background: a process one of whose threads cannot be started ends",
        "acceptance/test_background.py::test_a_process_ends_when_one_of_its_threads_cannot_be_started",
        "worker/runtime/background.py",
        '        _end_process(part, "could not be started", error)\n',
        "        pass\n",
    ),
    Mutant(
        "unfit worker: what it has taken is given back",
        READINESS + "test_what_an_unfit_worker_has_taken_is_queued_again_soon_by_the_right_time",
        CLAIM,
        "            charges.queue_again(self.db, given_back, right_time(self.services, self.db) + GIVEN_BACK)\n",
        "            pass\n",
    ),
    Mutant(
        "unfit worker: what is given back is due by the right time",
        READINESS + "test_what_an_unfit_worker_has_taken_is_queued_again_soon_by_the_right_time",
        "worker/services.py",
        "return services.clock.now() - services.clock.ahead_of(kill_switch.database_clock(db))",
        "return services.clock.now()",
    ),
    Mutant(
        "unfit worker: it takes no messages of charges",
        "acceptance/test_unfit_worker.py::test_a_worker_with_a_wrong_clock_takes_no_charges_until_it_is_right",
        "worker/broker/consumer.py",
        "takes = self._readiness.obstacle is None",
        "takes = True",
    ),
)
