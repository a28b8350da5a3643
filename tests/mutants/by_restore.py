"""The guards after a restore, each with the text that is taken away and the test that must notice."""

from tests.mutants.table import Mutant

AFTER = "workflows/test_after_restore.py::"

BY_RESTORE: tuple[Mutant, ...] = (
    Mutant(
        "restore: a key that may have been used is asked for before it is sent",
        AFTER + "test_a_payment_that_no_list_shows_is_found_by_asking_for_the_next_uids",
        "worker/workflows/charging.py",
        "        if prior.is_unasked:\n            return _Unasked.ASK_FIRST\n",
        "",
    ),
    Mutant(
        "restore: a group leaves a key that must be asked for",
        AFTER + "test_a_payment_that_no_list_shows_is_found_by_asking_for_the_next_uids",
        "worker/store/plain.py",
        "        AND c.asked_at IS NULL AND NOT (unasked)\n",
        "",
    ),
    Mutant(
        "restore: a charge is not sent while a finding under its key is open",
        AFTER + "test_a_charge_is_held_while_a_finding_under_its_key_is_open",
        "worker/workflows/charging.py",
        "        if prior.finding is not None:\n",
        "        if prior.finding is not None and not services:\n",
    ),
    Mutant(
        "restore: a key with an ended finding is asked for",
        AFTER + "test_a_finding_under_a_key_makes_its_charge_be_asked_for",
        "worker/store/unasked.py",
        "        OR EXISTS (SELECT FROM findings f WHERE f.charge_key = c.key)\n",
        "",
    ),
    Mutant(
        "restore: a typed card is not charged under a key that was used",
        AFTER + "test_a_typed_card_is_not_charged_under_a_key_that_was_used_or_cannot_be_asked_for",
        "worker/workflows/keying.py",
        "    _refuse_used_key(services, request, holder)\n",
        "",
    ),
)
