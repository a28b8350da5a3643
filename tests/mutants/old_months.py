"""The guards of the archive: nothing is lost on the way there, and nothing that is there is charged again."""

from tests.mutants.table import Mutant, drop_constraint

ARCHIVING = "workflows/test_archiving.py::"
STORE = "worker/store/operations/archives.py"
NEEDED = "needed = or_(_has_unsettled(before), _has_refund(before), _has_finding(before))"

OLD_MONTHS: tuple[Mutant, ...] = (
    drop_constraint(
        "archive: an archived charge is never owed again",
        "charges",
        "ck_charges_archived_is_closed",
        ARCHIVING + "test_the_database_lets_no_archived_charge_be_owed_again",
    ),
    Mutant(
        "archive: a charge whose attempts are archived is not claimed",
        ARCHIVING + "test_a_charge_whose_attempts_are_archived_is_never_claimed",
        "schedules/charging/claiming.py",
        "    if charge.is_archived:\n",
        "    if False:\n",
    ),
    Mutant(
        "archive: no attempt beside archived ones",
        ARCHIVING + "test_the_database_lets_no_attempt_stand_beside_archived_ones",
        statement="DROP TRIGGER none_beside_archived ON attempts",
    ),
    *(
        Mutant(
            f"archive: nothing leaves {table} but for its other place",
            ARCHIVING + "test_nothing_leaves_a_table_that_does_not_stand_in_the_other",
            statement=f"DROP TRIGGER nothing_lost ON {table}",
        )
        for table in ("attempts", "attempt_events", "outbox", "archived_attempts")
    ),
    Mutant(
        "archive: it is append only",
        ARCHIVING + "test_the_archive_is_not_changed",
        statement="DROP TRIGGER append_only ON archived_attempts",
    ),
    Mutant(
        "archive: thirteen months stay",
        ARCHIVING + "test_a_month_that_is_not_thirteen_months_ago_is_refused",
        "worker/operations/archiving.py",
        "    if before > newest:\n",
        "    if False:\n",
    ),
    Mutant(
        "archive: a machine whose clock is wrong archives nothing",
        ARCHIVING + "test_a_machine_whose_clock_is_wrong_archives_nothing",
        "worker/operations/archiving.py",
        "if not may_decide(services, db):",
        "if False:",
    ),
    Mutant(
        "archive: what was settled in the month or later stays",
        ARCHIVING + "test_an_attempt_that_was_settled_later_stays",
        STORE,
        NEEDED,
        "needed = or_(_has_refund(before), _has_finding(before))",
    ),
    Mutant(
        "archive: what is not settled stays",
        ARCHIVING + "test_an_attempt_that_is_not_settled_stays_with_its_charge",
        STORE,
        "is_over = a.state.in_(SETTLED) & ",
        "is_over = ",
    ),
    Mutant(
        "archive: a refund keeps its charge",
        ARCHIVING + "test_a_charge_with_a_refund_under_way_stays",
        STORE,
        NEEDED,
        "needed = or_(_has_unsettled(before), _has_finding(before))",
    ),
    Mutant(
        "archive: a finding keeps its charge",
        ARCHIVING + "test_a_charge_with_an_open_finding_stays",
        STORE,
        NEEDED,
        "needed = or_(_has_unsettled(before), _has_refund(before))",
    ),
    Mutant(
        "archive: a charge that stays keeps its notices",
        ARCHIVING + "test_a_charge_that_stays_keeps_its_notices",
        STORE,
        "o.delivered_at < before, ~needed, ",
        "o.delivered_at < before, ",
    ),
    Mutant(
        "archive: what is locked is passed over",
        ARCHIVING + "test_a_charge_that_is_locked_is_passed_over_and_not_waited_for",
        STORE,
        "order_by(c.id).with_for_update(skip_locked=True)",
        "order_by(c.id).with_for_update()",
    ),
    Mutant(
        "archive: what else keeps a charge is looked at under its lock",
        ARCHIVING + "test_a_refund_that_is_being_asked_for_keeps_its_charge",
        STORE,
        "    if lock:\n",
        "    if False:\n",
    ),
    Mutant(
        "archive: the reconciler knows what is there",
        ARCHIVING + "test_the_reconciler_knows_an_archived_payment",
        "worker/store/reconciliation/reconciliations.py",
        "both = union_all(_by_uid(attempts, account, missing), _by_uid(archived_attempts, account, missing))",
        "both = _by_uid(attempts, account, missing)",
    ),
    Mutant(
        "archive: the reconciler looks for ghosts there",
        ARCHIVING + "test_an_archived_payment_that_the_gateway_does_not_have_is_a_ghost_still",
        "worker/store/reconciliation/reconciliations.py",
        "        for t in (attempts, archived_attempts)\n",
        "        for t in (attempts,)\n",
    ),
    Mutant(
        "archive: a debt that was paid there is not paid again under a new uid",
        ARCHIVING + "test_a_second_payment_under_a_uid_that_was_never_made_is_a_double_too",
        "worker/store/reconciliation/reconciliations.py",
        "func.coalesce(here.c.merchant_uid, there.c.merchant_uid)",
        "func.coalesce(here.c.merchant_uid, None)",
    ),
    Mutant(
        "archive: what is to be mended is brought back",
        ARCHIVING + "test_a_late_payment_of_an_archived_debt_is_mended",
        "worker/charging/match_payments.py",
        "            archives.bring_back(db, debt.charge_id)  # a",
        "            pass  # what",
    ),
    Mutant(
        "archive: what is given back is brought back",
        ARCHIVING + "test_an_archived_payment_is_given_back_once",
        "worker/refunds/refund_payment.py",
        "        archives.bring_back(db, charge_id)\n",
        "",
    ),
    Mutant(
        "archive: notices come back with their charge",
        ARCHIVING + "test_what_came_back_is_as_it_was_and_goes_again",
        STORE,
        '    _move(db, archived_outbox, outbox, "subject", [row.key])\n',
        "",
    ),
    Mutant(
        "archive: the newest event is known though it is there",
        ARCHIVING + "test_the_newest_event_is_known_when_everything_is_archived",
        "worker/store/outbox/event_log.py",
        "_EVENTS = (attempt_events, archived_attempt_events)",
        "_EVENTS = (attempt_events,)",
    ),
)
