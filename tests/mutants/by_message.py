"""The guards of what comes from outside: messages from the broker, webhooks, the restore detector's mark."""

from tests.mutants.table import Mutant

MESSAGES = "rules/test_messages.py::"
HOSTILE = "acceptance/test_hostile_messages.py::"

BY_MESSAGE: tuple[Mutant, ...] = (
    Mutant(
        "each message is checked before Celery reads it",
        HOSTILE + "test_what_cannot_be_a_message_is_refused_with_its_reason_and_nothing_restarts",
        "worker/app.py",
        '"worker_consumer": "worker.broker.consumer:Consumer",',
        "",
    ),
    Mutant(
        "a queue carries its own tasks only",
        MESSAGES + "test_a_task_that_the_queue_may_not_carry_is_refused",
        "worker/broker/messages.py",
        "or task not in tasks",
        "",
    ),
    Mutant(
        "a message names no further tasks",
        MESSAGES + "test_a_body_that_names_further_tasks_is_refused",
        "worker/broker/messages.py",
        "if not embedded.keys() <= _EMBEDDED or any(embedded.values()):",
        "if False:",
    ),
    Mutant(
        "no message is delayed",
        MESSAGES + "test_a_delayed_message_is_refused",
        "worker/broker/messages.py",
        'if headers.get("eta") is not None:',
        "if False:",
    ),
    Mutant(
        "an answer goes to no queue of ours",
        MESSAGES + "test_an_answer_is_sent_to_no_queue_of_ours",
        "worker/broker/messages.py",
        "if received.reply_to in reserved:",
        "if False:",
    ),
    Mutant(
        "a sender does not choose a message's delivery tag",
        MESSAGES + "test_an_envelope_keeps_neither_its_route_nor_its_tag_nor_a_field_of_ours",
        "worker/broker/messages.py",
        '"delivery_tag": str(uuid4())',
        '"delivery_tag": "another\'s"',
    ),
    Mutant(
        "only a mark of ours holds charging",
        "store/test_marks.py::test_a_mark_of_another_database_is_a_forged_one",
        "worker/restore_detector.py",
        'f"{fingerprint} {words}".encode()',
        'b""',
    ),
    Mutant(
        "an older mark replaces no newer one",
        "store/test_marks.py::"
        "test_a_mark_that_another_process_wrote_meanwhile_is_not_replaced_before_it_is_compared",
        "worker/restore_detector.py",
        "watched.multi()",
        "watched.unwatch()",
    ),
    Mutant(
        "an X-Forwarded-For line of the sender's own is not believed",
        "gateway/test_listener_bounds.py::test_the_sender_is_the_last_address_that_is_no_proxy_of_ours",
        "worker/listener.py",
        "for hop in reversed(hops):",
        "for hop in hops:",
    ),
    Mutant(
        "webhooks cause a limited number of look-ups",
        "workflows/test_hearing.py::test_uids_that_are_made_up_cause_a_bounded_number_of_calls",
        "worker/reconciliation/payment_webhooks.py",
        "limit.rate, limit.patience)",
        "1e6, 60.0)",
    ),
)
