"""The guards of which database answers: adopted or not, at which revision, and through which pooler."""

from tests.mutants.table import Mutant

REVISIONS = "workflows/test_revisions.py::"
POOLERS = "store/test_poolers.py::"

BY_DATABASE: tuple[Mutant, ...] = (
    Mutant(
        "a process of another revision claims nothing",
        REVISIONS + "test_a_process_of_another_revision_claims_and_queues_nothing",
        "worker/store/charging/kill_switch.py",
        "        if self.is_unserved(identity):\n",
        "        if False:\n",
    ),
    Mutant(
        "the revision is asked again just before the call",
        REVISIONS + "test_a_claim_that_was_written_before_the_migration_is_given_back_unsent",
        "worker/store/charging/kill_switch.py",
        "return not Schema(self.revision, self.oldest_code).serves(identity.revision)",
        "return False",
    ),
    Mutant(
        "code that is older than the schema serves claims nothing",
        REVISIONS + "test_a_process_of_another_revision_claims_and_queues_nothing",
        "worker/store/operations/revisions.py",
        "self.oldest_code <= code <= self.revision",
        "code <= self.revision",
    ),
    Mutant(
        "code that is newer than the schema claims nothing",
        REVISIONS + "test_a_claim_that_was_written_before_the_migration_is_given_back_unsent",
        "worker/store/operations/revisions.py",
        "self.oldest_code <= code <= self.revision",
        "self.oldest_code <= code",
    ),
    Mutant(
        "a pooler in transaction mode is refused",
        POOLERS + "test_transaction_mode_is_refused_however_many_servers_it_has",
        "worker/store/engine.py",
        "    if any(len(each) > 1 for each in backends) or backends[0] == backends[1]:\n",
        "    if False:\n",
    ),
    Mutant(
        "no earlier client's prepared statements in a new session",
        POOLERS + "test_a_session_that_an_earlier_client_left_statements_in_is_refused",
        "worker/store/engine.py",
        "    if prepared:\n",
        "    if False:\n",
    ),
    Mutant(
        "rate: slots come no closer when the estimate of the database's clock improves",
        "workflows/test_leaving.py::test_slots_come_no_closer_when_the_estimate_of_the_databases_clock_improves",
        "worker/charging/rate_limiter.py",
        "                here = max(here, last_here + apart * (1 - SLEW))\n",
        "                here = max(here, last_here - apart)\n",
    ),
    Mutant(
        "rate: slots are not put off by the hours that a database's clock was set forward",
        "workflows/test_leaving.py::test_a_database_whose_clock_was_set_gives_slots_from_now_on",
        "worker/charging/rate_limiter.py",
        "apart = min(there - last_there, SECOND)",
        "apart = there - last_there",
    ),
    Mutant(
        "a lost finding ends by its own payment alone",
        "workflows/test_ended_findings.py::test_a_lost_finding_about_another_payment_stays_open",
        "worker/store/reconciliation/findings.py",
        ", a.imp_uid == f.imp_uid)",
        ")",
    ),
)
