"""The guards of what customers and other backends ask for: request keys, subscriptions, trials, currencies."""

from tests.mutants.table import GUARDS, Mutant, drop_constraint, drop_index

ONE = "workflows/test_one_subscription.py::"
PRICES = "acceptance/test_prices.py::"
MOVING = "workflows/test_moving_in.py::"
KEYS = "workflows/test_request_keys.py::"

BY_CUSTOMER: tuple[Mutant, ...] = (
    drop_constraint(
        "request key: one request for each",
        "requests",
        "one_request_for_each_request_key",
        KEYS + "test_many_deliveries_at_once_do_one_thing_and_get_one_answer",
    ),
    Mutant(
        "request key: another request under it is refused",
        KEYS + "test_a_known_key_with_other_arguments_is_refused_and_named",
        "worker/idempotency.py",
        "    if stored.fingerprint != request.fingerprint:\n",
        "    if stored.verb != request.verb:\n",
    ),
    Mutant(
        "request key: the work and its answer are one transaction",
        KEYS + "test_what_fails_before_its_answer_is_written_is_not_done",
        "worker/services.py",
        "        if self.joined is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "request key: a subscription's charge keys follow from it",
        KEYS + "test_subscribe_sent_again_after_a_restore_undid_it_leads_to_the_same_charge_keys",
        "worker/customers/enrollment.py",
        "new_key() if joined is None else subject_of_request",
        "new_key() if True else subject_of_request",
    ),
    drop_index(
        "one subscription: the database has one live for each customer and plan",
        "one_live_subscription_for_each_customer_and_plan",
        GUARDS + "test_one_live_subscription_for_each_customer_and_plan",
    ),
    Mutant(
        "one subscription: the customer is locked while it begins",
        ONE + "test_a_subscription_waits_for_another_way_in_that_has_the_customer",
        "worker/store/customers/rival_subscriptions.py",
        ".with_for_update(key_share=True)",
        "",
    ),
    Mutant(
        "one subscription: an end is undone only alone",
        ONE + "test_an_end_is_not_undone_beside_a_subscription_that_began_since",
        "worker/customers/adjust.py",
        '            _refuse_second(db, row, row.code, "goes on")\n',
        "",
    ),
    Mutant(
        "one subscription: a plan is changed only alone",
        ONE + "test_a_change_of_plan_to_one_that_the_customer_has_needs_to_be_asked_for",
        "worker/customers/adjust.py",
        "        elif code != before.plan.code:\n",
        "        elif False:\n",
    ),
    Mutant(
        "one subscription: the next one begins after the ending one",
        ONE + "test_the_next_one_begins_when_the_ending_one_has_ended",
        "worker/store/customers/rival_subscriptions.py",
        "or_(s.ends_at.is_(None), s.ends_at > wanted.starts_at)",
        "or_(s.ends_at.is_(None))",
    ),
    Mutant(
        "one subscription: an import locks the customers of its lines in one order",
        MOVING + "test_two_imports_whose_lines_come_in_another_order_both_end",
        "worker/onboarding/import_file.py",
        "    keys = customers.lock_keys(db, {each.incoming.customer_uid for each in pending})\n"
        "    rival_subscriptions.lock_customers(db, {key.customer_id for key in keys})\n",
        "",
    ),
    Mutant(
        "one subscription: an import writes its new customers in one order",
        MOVING + "test_two_imports_whose_lines_come_in_another_order_both_end",
        "worker/onboarding/import_file.py",
        "    for each in sorted(pending, key=lambda one: one.incoming.customer_uid):\n",
        "    for each in pending:\n",
    ),
    Mutant(
        "one subscription: a line is looked at again when it is written",
        ONE + "test_who_subscribes_between_the_check_and_the_write_is_not_imported_too",
        "worker/onboarding/import_file.py",
        '{incoming.customer_uid!r} has no card any more")\n'
        "    _refuse_second(why_not, db, known, incoming, cursor)\n",
        '{incoming.customer_uid!r} has no card any more")\n',
    ),
    Mutant(
        "one subscription: a takeover that is begun counts",
        MOVING + "test_nobody_subscribes_between_the_two_halves_of_a_takeover",
        "worker/store/customers/rival_subscriptions.py",
        "_signup(db, wanted) or _takeover(db, wanted)",
        "_signup(db, wanted)",
    ),
    Mutant(
        "one subscription: the table refuses beside a takeover",
        MOVING + "test_nobody_subscribes_between_the_two_halves_of_a_takeover",
        "worker/renewals/one_per_plan.py",
        "return frozenset({State.TAKEOVER})",
        "return frozenset({State.NONE})",
    ),
    Mutant(
        "one subscription: the table refuses beside a signup",
        ONE + "test_a_signup_under_way_keeps_the_customers_other_card_from_the_plan",
        "worker/renewals/one_per_plan.py",
        "return frozenset({State.SIGNUP})",
        "return frozenset({State.NONE})",
    ),
    Mutant(
        "one subscription: a signup that is under way counts",
        ONE + "test_a_signup_under_way_keeps_the_customers_other_card_from_the_plan",
        "worker/store/customers/rival_subscriptions.py",
        "_signup(db, wanted) or _takeover(db, wanted)",
        "_takeover(db, wanted)",
    ),
    Mutant(
        "request key: a card is issued once",
        KEYS + "test_a_card_is_issued_once_for_a_key_whatever_became_of_it",
        "worker/customers/issued_keys.py",
        "    if request_key is None:\n        issued =",
        "    if True:\n        issued =",
    ),
    Mutant(
        "request key: a known key stores no other card",
        KEYS + "test_another_card_under_a_known_key_is_refused",
        "worker/customers/issued_keys.py",
        "and not is_this(card, issued.card_number):",
        "and False:",
    ),
    Mutant(
        "request key: a skip of no named period needs one",
        "workflows/test_answers.py::test_a_skip_of_no_named_period_that_is_delivered_twice_is_one_skip",
        "worker/task_api/answers.py",
        "        _refuse_repeatable(verb, fields, request_key)\n",
        "",
    ),
    Mutant(
        "request key: a deletion is made once",
        KEYS + "test_a_card_is_deleted_once_for_a_key_and_not_the_one_that_came_after",
        "worker/customers/issued_keys.py",
        "if services.dry_run is not None or deleted.is_over:",
        "if services.dry_run is not None:",
    ),
    Mutant(
        "request key: a deletion deletes no card that was stored since",
        KEYS + "test_an_unanswered_deletion_does_not_delete_a_card_that_was_stored_since",
        "worker/customers/issued_keys.py",
        "if key is None or in_json(key.deleted_at) != deleted.deleted_at:",
        "if key is None:",
    ),
    Mutant(
        "request key: refused charges are released all or none",
        KEYS + "test_a_release_that_fails_before_its_answer_is_written_releases_nothing",
        "worker/operations/operate.py",
        "released.append(release(services, key, actor, why))",
        "released.append(release(__import__('dataclasses').replace(services, joined=None), key, actor, why))",
    ),
    Mutant(
        "one subscription: a signup is refused before it pays",
        ONE + "test_a_customer_who_is_on_the_plan_by_another_card_is_not_signed_up",
        "worker/customers/signup.py",
        "    if rival is not None:\n",
        "    if False:\n",
    ),
    Mutant(
        "one subscription: what was paid beside another one charges nothing more",
        ONE + "test_a_paid_signup_beside_a_live_subscription_is_set_aside_for_a_person",
        "worker/renewals/begin_subscription.py",
        "    if rival is not None:\n",
        "    if False:\n",
    ),
    Mutant(
        "one subscription: one that begins set aside sends an event",
        ONE + "test_a_subscription_that_begins_set_aside_sends_an_event",
        "worker/renewals/begin_subscription.py",
        "    if what.held_why is not None:\n",
        "    if False:\n",
    ),
    Mutant(
        "one subscription: the check of a file locks no customer",
        MOVING + "test_the_check_of_a_file_locks_no_customer_while_it_asks_the_gateway",
        "worker/onboarding/import_file.py",
        "        _refuse_second(seen, db, key, incoming, cursor)\n",
        "        _refuse_second(why_not, db, key, incoming, cursor)\n",
    ),
    Mutant(
        "trial: a customer has one of each plan",
        ONE + "test_a_customer_who_comes_back_has_no_second_trial",
        "worker/customers/enrollment.py",
        "        trial_days = 0 if used_by is not None else trial_days\n",
        "",
    ),
    Mutant(
        "trial: a signup pays when it was used",
        ONE + "test_a_signup_of_one_who_has_had_the_trial_pays_at_once",
        "worker/customers/signup.py",
        "(plan.plan.trial_days and not used)",
        "plan.plan.trial_days",
    ),
    Mutant(
        "currency: a change of plan keeps it",
        PRICES + "test_a_new_version_in_another_currency_moves_nobody_unasked",
        "worker/customers/adjust.py",
        "        if plan.plan.price.currency != before.plan.price.currency and not other_currency:\n",
        "        if False:\n",
    ),
)
