"""The guards of what is done by the group, each with the text that is taken away and the test that must notice."""

from tests.mutants.table import CHARGING, Mutant

GROUPING = "workflows/test_grouping.py::"
CLAIMED = GROUPING + "test_what_is_not_plain_is_not_claimed_together"
SETTLED = GROUPING + "test_a_payment_that_changes_more_than_its_debt_is_not_settled_together"
LEFT = GROUPING + "test_an_answer_that_is_not_the_groups_to_write_is_left"
PLAIN = "worker/store/plain.py"

BY_GROUP: tuple[Mutant, ...] = (
    Mutant(
        "group: a message that came twice is one claim",
        GROUPING + "test_an_envelope_that_comes_twice_charges_once",
        "worker/workflows/grouping.py",
        "[done.pop(charge_id, Ungrouped.ALONE) for charge_id in ids]",
        "[done.get(charge_id, Ungrouped.ALONE) for charge_id in ids]",
    ),
    Mutant(
        "group: what was tried before is not claimed as fresh",
        CLAIMED,
        PLAIN,
        "        AND NOT EXISTS (SELECT FROM attempts a WHERE a.charge_id = c.id)\n",
        "",
    ),
    Mutant(
        "group: a held or closed debt is not claimed",
        CLAIMED,
        PLAIN,
        "c.status || '' = 'open' AND c.held_why IS NULL AND c.next_attempt_at <= :now",
        "c.status || '' = 'open' AND c.next_attempt_at <= :now",
    ),
    Mutant(
        "group: a debt that is not due is not claimed",
        CLAIMED,
        PLAIN,
        "c.held_why IS NULL AND c.next_attempt_at <= :now",
        "c.held_why IS NULL",
    ),
    Mutant(
        "group: a typed card's debt is not claimed",
        CLAIMED,
        PLAIN,
        "c.tried_by IS NULL AND c.keyed_in IS NULL\n",
        "c.tried_by IS NULL\n",
    ),
    Mutant(
        "group: an older debt of the card goes first",
        CLAIMED,
        PLAIN,
        "ORDER BY other.due_at LIMIT 2) of_card)\n        AND NOT EXISTS (SELECT FROM attempts a ",
        "ORDER BY other.due_at LIMIT 1) of_card)\n        AND NOT EXISTS (SELECT FROM attempts a ",
    ),
    Mutant(
        "group: nothing is claimed where nothing may be sent",
        CLAIMED,
        "worker/workflows/grouping.py",
        "in services.gateways and permission.obstacle(services.fingerprint, services.clock) is None",
        "in services.gateways",
    ),
    Mutant(
        "group: a row that somebody holds is passed over",
        GROUPING + "test_a_group_waits_for_no_row",
        PLAIN,
        "(SELECT FROM attempts a WHERE a.charge_id = c.id)\n    FOR UPDATE OF c SKIP LOCKED",
        "(SELECT FROM attempts a WHERE a.charge_id = c.id)\n    FOR UPDATE OF c",
    ),
    Mutant(
        "group: the fence of an answer",
        LEFT,
        PLAIN,
        "ANY(:attempts) AND a.fence = told.fence\n",
        "ANY(:attempts)\n",
    ),
    Mutant(
        "group: the state of an answer",
        LEFT,
        PLAIN,
        "\n            AND a.state || '' = 'sending'\n",
        "\n",
    ),
    Mutant(
        "group: each account's own share of the threads",
        GROUPING + "test_envelopes_of_one_account_leave_threads_for_the_others",
        "worker/tasks.py",
        "        if account not in _places:\n",
        "        account = ''\n        if account not in _places:\n",
    ),
    Mutant(
        "group: the lock of a settlement",
        GROUPING + "test_a_payment_whose_debt_somebody_holds_is_left",
        PLAIN,
        "LIMIT 2) of_card)\n    FOR UPDATE OF c SKIP LOCKED\n",
        "LIMIT 2) of_card)\n",
    ),
    Mutant(
        "group: an answer is written once",
        LEFT,
        PLAIN,
        "a.fence = told.fence\n            AND a.state || '' = 'sending'\n",
        "a.fence = told.fence\n",
    ),
    Mutant(
        "group: one payment for a debt",
        LEFT,
        "worker/workflows/grouping.py",
        "        except DBAPIError as error:",
        "        except ZeroDivisionError as error:",
    ),
    Mutant(
        "group: a payment that ends a dunning is not plain",
        SETTLED,
        PLAIN,
        "WHERE c.id = ANY(:charges) AND c.status || '' = 'open' AND c.first_declined_at IS NULL",
        "WHERE c.id = ANY(:charges)",
    ),
    Mutant(
        "group: a stale look is looked again",
        GROUPING + "test_a_look_that_is_stale_is_looked_again",
        "worker/workflows/charging.py",
        "if max(elapsed(), leave.earliest) - leave.looked_at > LOOK_LASTS:",
        "if False:",
    ),
    Mutant(
        "group: a moment that was missed is not used",
        GROUPING + "test_a_moment_that_was_missed_is_not_used",
        "worker/workflows/charging.py",
        "        if elapsed() <= leave.latest:\n",
        "        if True:\n",
    ),
    Mutant(
        "group: a moment for each call",
        GROUPING + "test_a_group_takes_a_moment_for_each_call",
        "worker/store/rates.py",
        '"many": float(min(many, MOST_AT_ONCE)),',
        '"many": 1.0,',
    ),
    Mutant(
        "group: no moment that nobody waits for",
        GROUPING + "test_no_moment_is_taken_that_nobody_waits_for",
        "worker/workflows/grouping.py",
        "many = min(asked, 1 + int(PATIENCE / every))",
        "many = asked",
    ),
    Mutant(
        "group: a worker that stops begins nothing more",
        GROUPING + "test_an_envelope_of_a_worker_that_stops_ends_with_what_is_claimed",
        "worker/workflows/charging.py",
        "while begun < len(charge_ids) and not stopping():",
        "while begun < len(charge_ids):",
    ),
    Mutant(
        "group: what a stopping worker has not begun is given back",
        GROUPING + "test_what_a_stopping_worker_has_not_begun_is_queued_again",
        "worker/tasks.py",
        "        if not_begun:\n            dispatching.give_back(services(), not_begun)\n",
        "",
    ),
    Mutant(
        "group: claims that cannot leave are given back",
        GROUPING + "test_claims_that_cannot_leave_are_given_back",
        "worker/workflows/charging.py",
        "        undo.callback(_hold_all_back, services, waiting)\n",
        "",
    ),
    Mutant(
        "group: a call that began is waited for",
        GROUPING + "test_an_envelope_that_fails_waits_for_the_calls_that_it_began",
        "worker/workflows/charging.py",
        "        under_way.wait()  # whatever failed",
        "        pass  # whatever failed",
    ),
    Mutant(
        "dispatch: two processes fill one bound once",
        "workflows/test_dispatching.py::test_two_that_dispatch_at_once_fill_the_bound_once",
        "worker/workflows/dispatching.py",
        "if not charges.queues_alone(db, account):",
        "if False:",
    ),
    Mutant(
        "group: the last look",
        CHARGING + "test_the_last_look_keeps_a_claimed_attempt_from_leaving",
        "worker/workflows/charging.py",
        "    return leave.sight.obstacle(claimed.intent, services.clock, call_takes, services.fingerprint)\n",
        "    return None\n",
    ),
)
