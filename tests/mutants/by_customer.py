"""The guards of what customers and other backends ask for: request keys, subscriptions, trials, currencies."""

from tests.mutants.table import Mutant, drop_constraint

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
        "worker/workflows/idempotency.py",
        "    if stored.fingerprint != request.fingerprint:\n",
        "    if stored.verb != request.verb:\n",
    ),
    Mutant(
        "request key: the work and its answer are one transaction",
        KEYS + "test_what_fails_before_its_answer_is_written_is_not_done",
        "worker/workflows/services.py",
        "        if self.joined is not None:\n",
        "        if False:\n",
    ),
)
