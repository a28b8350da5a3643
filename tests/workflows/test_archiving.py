"""Archiving: old months go where no worker looks, nothing is lost, and nothing can be charged a second time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, select, text
from sqlalchemy.exc import DBAPIError

from schedules.charging.charges import AttemptState
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Declined
from schedules.money.amounts import Money
from schedules.operations.findings import FindingKind, FindingState
from schedules.outbox import events
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.refunds import Fate, RefundRequest, RefundState
from tests.doubles import ScriptedGateway
from tests.factories import (
    attempt_rows,
    charge_rows,
    collect_due,
    heard,
    move,
    move_to,
    on_sale,
    opened,
    subscribed,
)
from tests.workflows.test_reconciling import found, only
from worker import failpoints
from worker.charging import adhoc, attempt_charge
from worker.clock import FixedClock
from worker.customers import enrollment
from worker.failpoints import Failpoint
from worker.operations import archiving, operate
from worker.operations.archiving import CannotArchive, Tally
from worker.outbox import replays
from worker.reconciliation import reconciler, restore
from worker.refunds import refund_payment
from worker.renewals import open_charges
from worker.reporting import history
from worker.services import Services
from worker.store import tables
from worker.store.charging import attempts, charges
from worker.store.operations import archives
from worker.store.outbox import event_log
from worker.store.reconciliation import reconciliations
from worker.store.reporting import exports, reports

FEBRUARY = date(2026, 2, 1)
JANUARY_31 = datetime(2026, 1, 31, tzinfo=UTC)
LATER = datetime(2027, 3, 1, tzinfo=UTC)  # the first moment at which what ended before February is old enough
PAIRS = (
    (tables.attempts, tables.archived_attempts),
    (tables.attempt_events, tables.archived_attempt_events),
    (tables.outbox, tables.archived_outbox),
)


def rows(services: Services, table: Table) -> list[dict[str, Any]]:
    """All rows of a table by number."""
    with services.engine.begin() as db:
        return [dict(row) for row in db.execute(select(table).order_by(table.c.id)).mappings()]


def ran(services: Services, sql: str, **values: object) -> None:
    """What nothing of ours would do, done by hand."""
    with services.engine.begin() as db:
        db.execute(text(sql), values)


def told(services: Services) -> None:
    """Every notice was delivered when it was written."""
    ran(services, "UPDATE outbox SET next_try_at = NULL, delivered_at = created_at")


def archived(services: Services, **options: Any) -> Tally:
    """A run, after thirteen months."""
    if services.clock.now() < LATER:
        move_to(services, LATER)
    return archiving.archive(services, FEBRUARY, "kim", **options)


def key_of(services: Services) -> str:
    """The key of the first charge."""
    return str(charge_rows(services)[0]["key"])


@pytest.fixture
def paid(services: Services, gateway: ScriptedGateway) -> int:
    """A renewal that was declined, and paid at the second try; its shop was told."""
    charge = opened(services)
    move_to(services, JANUARY_31)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    attempt_charge.attempt(services, charge)
    ran(services, "UPDATE charges SET next_attempt_at = :now", now=services.clock.now())
    attempt_charge.attempt(services, charge)
    assert [row["state"] for row in attempt_rows(services)] == ["declined", "paid"]
    told(services)
    return charge


def reconciled(services: Services) -> None:
    """A whole run over the days in which the charge was paid."""
    run = reconciler.begin_asked(services, "main", JANUARY_31 - timedelta(days=1), JANUARY_31 + timedelta(days=2))
    worked = reconciler.work(services, run.id)
    assert worked is not None
    assert worked.ended_at is not None


# What is moved


def test_attempts_their_events_and_notices_are_moved_as_they_were(services: Services, paid: int) -> None:
    before = [rows(services, here) for here, _ in PAIRS]
    tally = archived(services)
    assert [rows(services, there) for _, there in PAIRS] == before
    assert [rows(services, here) for here, _ in PAIRS] == [[], [], []]
    assert (tally.looked_at, tally.charges, tally.attempts, tally.events) == (1, 1, 2, len(before[1]))
    assert (tally.notices, dict(tally.months), tally.is_whole) == (len(before[2]), {"2026-01": 1}, True)


def test_the_archive_has_every_column_of_what_goes_there() -> None:
    """A column that is added to one must be added to the other."""
    for here, there in PAIRS:
        assert [(c.name, str(c.type), c.nullable) for c in there.c] == [
            (c.name, str(c.type), c.nullable) for c in here.c
        ]


def test_charges_stay_and_say_that_they_are_archived(services: Services, paid: int) -> None:
    before = charge_rows(services)
    archived(services)
    assert charge_rows(services) == [before[0] | {"archived_at": LATER}]


def test_a_month_that_is_not_thirteen_months_ago_is_refused(services: Services, paid: int) -> None:
    move_to(services, LATER - timedelta(seconds=1))
    with pytest.raises(CannotArchive, match="the newest month that may be given now is 2026-01"):
        archiving.archive(services, FEBRUARY, "kim")
    assert rows(services, tables.archived_attempts) == []


def test_a_machine_whose_clock_is_wrong_archives_nothing(services: Services, paid: int) -> None:
    wrong = replace(services, clock=FixedClock(LATER, ahead=timedelta(hours=1)))
    with pytest.raises(CannotArchive, match="clock is wrong"):
        archiving.archive(wrong, FEBRUARY, "kim")
    assert rows(services, tables.archived_attempts) == []


def test_a_process_of_another_environment_archives_nothing(services: Services, paid: int) -> None:
    """Guard: the binding. A clock that was moved on purpose would archive months that are young."""
    foreign = replace(services, clock=FixedClock(LATER), fingerprint_in=lambda _: "another")
    with pytest.raises(CannotArchive, match="belongs to another environment"):
        archiving.archive(foreign, FEBRUARY, "kim")
    assert rows(services, tables.archived_attempts) == []


def test_a_run_is_written_down_once_with_what_it_moved(services: Services, paid: int) -> None:
    archived(services)
    (act,) = [row for row in rows(services, tables.audit) if row["verb"] == "archive"]
    assert (act["actor"], act["subject"], act["details"]["attempts"]) == ("kim", "2026-02", 2)


def test_a_dry_run_counts_the_same_and_writes_nothing(services: Services, paid: int) -> None:
    before = [rows(services, table) for table in tables.metadata.sorted_tables if "id" in table.c]
    foreseen = archived(services, dry_run=True)
    assert [rows(services, table) for table in tables.metadata.sorted_tables if "id" in table.c] == before
    assert archived(services) == foreseen


def test_what_was_archived_is_not_looked_at_again(services: Services, paid: int) -> None:
    archived(services)
    again = archived(services)
    assert (again.looked_at, again.attempts, again.notices) == (0, 0, 0)


def test_a_charge_that_was_never_tried_is_archived_with_its_notices(services: Services) -> None:
    charge = opened(services)
    operate.waive(services, key_of(services), "kim", "a gift")
    told(services)
    tally = archived(services)
    assert (tally.charges, tally.attempts, tally.notices) == (1, 0, 1)
    assert charge_rows(services)[0]["id"] == charge


# What is not


def stays(services: Services) -> bool:
    """Whether a run leaves every attempt where it is."""
    before = rows(services, tables.attempts)
    archived(services)
    return rows(services, tables.attempts) == before != [] and charge_rows(services)[0]["archived_at"] is None


def test_a_charge_that_ended_in_the_month_or_later_stays(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    move(services, days=1)
    attempt_charge.attempt(services, charge)
    assert charge_rows(services)[0]["closed_at"] == datetime(2026, 2, 1, tzinfo=UTC)
    assert stays(services)


def test_a_debt_that_is_owed_stays(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    attempt_charge.attempt(services, charge)
    assert stays(services)


@pytest.mark.parametrize("state", ["ready", "not_sent", "unknown", "sending"])
def test_an_attempt_that_is_not_settled_stays_with_its_charge(services: Services, paid: int, state: str) -> None:
    ran(
        services,
        "UPDATE attempts SET state = :state, next_ask_at = CASE WHEN :state = 'unknown' THEN settled_at END, "
        "lease_until = CASE WHEN :state = 'sending' THEN settled_at END WHERE number = 1",
        state=state,
    )
    assert stays(services)


def test_an_attempt_that_was_settled_later_stays(services: Services, paid: int) -> None:
    """A payment that was found late: its charge may have ended long before."""
    ran(services, "UPDATE attempts SET settled_at = :late WHERE number = 1", late=datetime(2026, 2, 1, tzinfo=UTC))
    assert stays(services)


def test_an_attempt_that_was_sent_later_stays(services: Services, paid: int) -> None:
    ran(services, "UPDATE attempts SET last_sent_at = :late", late=datetime(2026, 2, 1, tzinfo=UTC))
    assert stays(services)


def refund_of(key: str, amount: int | None = None) -> RefundRequest:
    """A request for a refund."""
    money = Money(amount, "KRW") if amount else None
    return RefundRequest(charge=key, money=money, request_key="back-1", reason="he sent it back", fate=Fate.KEEP)


def test_a_charge_with_a_refund_under_way_stays(services: Services, paid: int) -> None:
    refund_payment.ask(services, refund_of(key_of(services)), "kim")
    assert stays(services)


def test_a_charge_whose_refund_ended_lately_stays(services: Services, paid: int) -> None:
    move(services, days=20)
    refund_payment.ask(services, refund_of(key_of(services)), "kim")
    refund_payment.make_due(services)
    assert refund_payment.status(services, "back-1").state is RefundState.MADE
    assert stays(services)


def test_a_charge_with_an_open_finding_stays(services: Services, gateway: ScriptedGateway, paid: int) -> None:
    gateway.remember(gateway.sent[1], "paid", "imps_other")
    reconciled(services)
    assert only(services).kind is FindingKind.DOUBLE
    assert stays(services)


def test_a_finding_that_names_only_the_uid_keeps_the_charge(
    services: Services, gateway: ScriptedGateway, paid: int
) -> None:
    gateway.remember(gateway.sent[1], "paid", "imps_other")
    reconciled(services)
    ran(services, "UPDATE findings SET charge_key = NULL")
    assert stays(services)


def test_an_ad_hoc_charge_stays(services: Services) -> None:
    enrollment.add_customer(services, "ann", None, None, None, "test")
    fee = ChargeRequest(
        customer_uid="ann", money=Money(3000, "KRW"), name="수수료", request_key="fee", reason="x", policy="once"
    )
    attempt_charge.attempt(services, adhoc.charge(services, fee, "kim").id)
    assert charge_rows(services)[0]["status"] == "paid"
    assert stays(services)


@pytest.mark.parametrize(
    "fate", ["next_try_at = created_at, delivered_at = NULL", "dead_at = created_at, delivered_at = NULL",
             "delivered_at = NULL", "delivered_at = '2026-02-01T00:00Z'"],
)  # fmt: skip
def test_a_notice_that_was_not_delivered_before_the_month_stays(services: Services, paid: int, fate: str) -> None:
    ran(services, f"UPDATE outbox SET {fate}")
    before = rows(services, tables.outbox)
    archived(services)
    assert rows(services, tables.outbox) == before != []


def test_a_charge_that_stays_keeps_its_notices(services: Services, paid: int) -> None:
    """Their dedupe keys are what keeps its shop from being told twice."""
    refund_payment.ask(services, refund_of(key_of(services)), "kim")
    before = [row for row in rows(services, tables.outbox) if row["subject"] == key_of(services)]
    archived(services)
    assert [row for row in rows(services, tables.outbox) if row["subject"] == key_of(services)] == before != []


def test_a_notice_about_no_charge_is_moved_too(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    enrollment.unsubscribe(services, key, "kim", "x", at_period_end=False)
    told(services)
    before = rows(services, tables.outbox)
    assert archived(services).notices == len(before) > 0
    assert rows(services, tables.archived_outbox) == before


def test_a_notice_that_was_owed_anew_after_its_archive_stays_and_stops_nothing(services: Services) -> None:
    """Nobody who owes a notice looks into the archive; a run must not stumble over it."""

    def pause_once_more() -> None:
        event = events.SubscriptionPaused(subscription="s1", customer_uid="ann", why="x")
        with services.engine.begin() as db:
            event_log.enqueue_event(db, event, "s1/paused", JANUARY_31)
        told(services)

    pause_once_more()
    assert archived(services).notices == 1
    pause_once_more()
    tally = archived(services)
    assert (tally.notices, tally.is_whole) == (0, True)
    assert len(rows(services, tables.outbox)) == 1


# The story is the same


def test_the_story_is_the_same_and_says_that_it_is_archived(services: Services, paid: int) -> None:
    keys = (key_of(services), attempt_rows(services)[0]["merchant_uid"])
    before = [history.show(services, key) for key in keys]
    archived(services)
    after = [history.show(services, key) for key in keys]
    assert [(story.happenings, story.parts) for story in after] == [(s.happenings, s.parts) for s in before]
    assert [story.facts for story in after] == [story.facts | {"archived_at": LATER} for story in before]


def test_what_is_exported_and_reported_is_the_same(services: Services, paid: int) -> None:
    def all_of_it() -> list[object]:
        with services.engine.begin() as db:
            span = (JANUARY_31 - timedelta(days=1), JANUARY_31 + timedelta(days=2))
            return [*exports.rows(db, "attempts"), *exports.rows(db, "events"), *reports.failures(db, *span)]

    before = all_of_it()
    archived(services)
    assert all_of_it() == before


def test_the_newest_event_is_known_when_everything_is_archived(services: Services, paid: int) -> None:
    """The mark in the broker names it: books that had lost it would be held for a restored backup."""
    with services.engine.begin() as db:
        newest = event_log.newest_event(db)
    archived(services)
    with services.engine.begin() as db:
        assert newest is not None
        assert event_log.newest_event(db) == newest
        assert event_log.has_event(db, *newest)
        assert event_log.newest(db) == newest[1]


def test_an_archived_notice_is_not_sent_again(services: Services, paid: int) -> None:
    number = rows(services, tables.outbox)[0]["id"]
    archived(services)
    with pytest.raises(replays.Archived, match="is archived; it is not sent again"):
        replays.replay(services, [number], "kim", "x")


# Money


def test_the_reconciler_knows_an_archived_payment(services: Services, gateway: ScriptedGateway, paid: int) -> None:
    archived(services)
    reconciled(services)
    assert found(services) == []


def test_an_archived_payment_that_the_gateway_does_not_have_is_a_ghost_still(
    services: Services, gateway: ScriptedGateway, paid: int
) -> None:
    archived(services)
    gateway.records.clear()
    reconciled(services)
    assert only(services).kind is FindingKind.GHOST
    assert charge_rows(services)[0]["archived_at"] is None


@pytest.mark.parametrize("number", [0, 1])
def test_a_second_payment_of_an_archived_charge_is_a_double(
    services: Services, gateway: ScriptedGateway, paid: int, number: int
) -> None:
    """By the uid that was declined, and by the one that was paid; the charge comes back, for a person decides."""
    archived(services)
    gateway.remember(gateway.sent[number], "paid", "imps_other")
    reconciled(services)
    assert (only(services).kind, only(services).imp_uid) == (FindingKind.DOUBLE, "imps_other")
    assert charge_rows(services)[0]["archived_at"] is None
    assert len(attempt_rows(services)) == 2


def test_a_second_payment_under_a_uid_that_was_never_made_is_a_double_too(
    services: Services, gateway: ScriptedGateway, paid: int
) -> None:
    archived(services)
    uid = merchant_uid("test", key_of(services), 3)
    with services.engine.begin() as db:
        debt = reconciliations.debts_of(db, "main", "test", [uid], services.clock.now())[uid]
    assert debt.side.paid_uid == gateway.sent[1].merchant_uid


def test_a_late_payment_of_an_archived_debt_is_mended(services: Services, gateway: ScriptedGateway) -> None:
    """Nothing is begun anew: the attempt of old is brought back, and it is the one that is paid."""
    charge = opened(services)
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    attempt_charge.attempt(services, charge)
    operate.waive(services, key_of(services), "kim", "x")
    before = attempt_rows(services)
    archived(services)
    gateway.approve(gateway.sent[0])
    reconciled(services)
    assert {(finding.kind, finding.state) for finding in found(services)} == {
        (FindingKind.LATE_PAID, FindingState.REPAIRED),
        (FindingKind.PAID_AFTER_END, FindingState.OPEN),
    }
    (row,) = attempt_rows(services)
    assert (row["id"], row["merchant_uid"], row["state"]) == (before[0]["id"], before[0]["merchant_uid"], "paid")
    assert charge_rows(services)[0]["status"] == "paid"


def test_a_late_webhook_about_an_archived_payment_changes_nothing(
    services: Services, gateway: ScriptedGateway, paid: int
) -> None:
    archived(services)
    heard(services, gateway.sent[1].merchant_uid)
    assert gateway.asked == []
    heard(services, gateway.sent[0].merchant_uid)
    assert gateway.asked == [gateway.sent[0].merchant_uid]
    assert found(services) == []


def test_an_archived_payment_is_given_back_once(services: Services, gateway: ScriptedGateway, paid: int) -> None:
    archived(services)
    for _ in range(2):
        refund_payment.ask(services, refund_of(key_of(services)), "kim")
        refund_payment.make_due(services)
    (order,) = gateway.cancellations
    assert (order.imp_uid, order.money.amount, order.balance) == ("imps_000000000002", 9900, 9900)
    assert charge_rows(services)[0]["status"] == "refunded"


def test_what_came_back_is_as_it_was_and_goes_again(services: Services, paid: int) -> None:
    """Its notices too: their dedupe keys are a guard."""
    before = [rows(services, here) for here, _ in PAIRS]
    archived(services)
    with services.engine.begin() as db:
        assert archives.bring_back(db, paid)
        assert not archives.bring_back(db, paid)
    back = [rows(services, here) for here, _ in PAIRS]
    key = key_of(services)
    assert back == [before[0], before[1], [notice for notice in before[2] if notice["subject"] == key]]
    assert back[2]
    archived(services)
    assert [rows(services, there) for _, there in PAIRS] == before


REOPEN = "UPDATE charges SET status = 'open', closed_at = NULL, next_attempt_at = :now"


def test_the_database_lets_no_archived_charge_be_owed_again(services: Services, paid: int) -> None:
    archived(services)
    with pytest.raises(DBAPIError, match="ck_charges_archived_is_closed"):
        ran(services, REOPEN, now=services.clock.now())


def test_a_charge_whose_attempts_are_archived_is_never_claimed(
    services: Services, gateway: ScriptedGateway, paid: int
) -> None:
    """The guard in the claim, with the database's own taken away: has_paid does not see the archive."""
    archived(services)
    ran(services, "ALTER TABLE charges DROP CONSTRAINT ck_charges_archived_is_closed")
    ran(services, REOPEN, now=services.clock.now())
    assert attempt_charge.attempt(services, paid) is None
    assert len(gateway.sent) == 2
    assert charge_rows(services)[0]["held_why"] == "it is owed, and yet its attempts are archived"


def test_the_database_lets_no_attempt_stand_beside_archived_ones(services: Services, paid: int) -> None:
    archived(services)
    row = attempts.from_gateway(paid, 3, "u3", Money(9900, "KRW"), LATER, LATER)
    with pytest.raises(DBAPIError, match="are archived; no other may stand beside"), services.engine.begin() as db:
        attempts.begin(db, row)


@pytest.mark.parametrize(("here", "there"), [*PAIRS, *((there, here) for here, there in PAIRS)])
def test_nothing_leaves_a_table_that_does_not_stand_in_the_other(
    services: Services, paid: int, here: Table, there: Table
) -> None:
    if here.name.startswith("archived"):
        archived(services)
    assert rows(services, here)
    if here is tables.attempts:
        ran(services, "ALTER TABLE attempt_events DROP CONSTRAINT fk_attempt_events_attempt_id")
    with pytest.raises(DBAPIError, match="append only"):
        ran(services, f"DELETE FROM {here.name}")


@pytest.mark.parametrize("there", [there for _, there in PAIRS])
@pytest.mark.parametrize("verb", ["UPDATE {} SET id = id", "TRUNCATE {}"])
def test_the_archive_is_not_changed(services: Services, paid: int, there: Table, verb: str) -> None:
    archived(services)
    with pytest.raises(DBAPIError, match="append only"):
        ran(services, verb.format(there.name))


def test_a_row_that_would_be_changed_on_the_way_is_not_moved(services: Services, paid: int) -> None:
    with pytest.raises(DBAPIError, match="append only"):
        ran(
            services,
            "WITH gone AS (DELETE FROM attempt_events RETURNING *) INSERT INTO archived_attempt_events "
            "(id, attempt_id, at, state, fence, words) SELECT id, attempt_id, at, state, fence, 'lost' FROM gone",
        )


# Beside others


@pytest.fixture
def many(services: Services) -> int:
    """Twelve renewals that are paid; answers how many."""
    on_sale(services)
    for number in range(12):
        subscribed(services, f"c{number}")
    collect_due(services)
    told(services)
    return 12


def test_two_archivers_at_once_move_each_row_once(services: Services, many: int) -> None:
    before = [rows(services, here) for here, _ in PAIRS]
    move_to(services, LATER)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: archived(services, batch=2), range(2)))
    archived(services)  # what one had locked while the other looked is left to the next
    assert [rows(services, there) for _, there in PAIRS] == before
    assert sum(run.attempts for run in runs) <= many


def test_stopped_half_way_it_goes_on_with_what_is_left(services: Services, many: int) -> None:
    before = [rows(services, here) for here, _ in PAIRS]
    looks: Iterator[bool] = iter([True, True, False, False])
    half = archived(services, batch=5, going_on=lambda: next(looks))
    assert (half.attempts, half.is_whole) == (10, False)
    assert len(rows(services, tables.attempts)) == 2
    rest = archived(services, batch=5)
    assert (rest.looked_at, rest.attempts, rest.is_whole) == (2, 2, True)
    assert [rows(services, there) for _, there in PAIRS] == before


class Killed(BaseException):
    """The process is gone."""


def test_killed_within_a_batch_each_charge_is_whole(
    services: Services, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    before = [rows(services, here) for here, _ in PAIRS]
    reached = iter([False, True])

    def visit(point: Failpoint, subject: str) -> None:
        if point is Failpoint.ARCHIVING_WRITTEN and next(reached):
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "_action", visit)
        with pytest.raises(Killed):
            archived(services, batch=5)
    assert (len(rows(services, tables.attempts)), len(rows(services, tables.archived_attempts))) == (7, 5)
    archived(services)
    assert [rows(services, there) for _, there in PAIRS] == before


def test_a_charge_that_is_locked_is_passed_over_and_not_waited_for(services: Services, many: int) -> None:
    first = charge_rows(services)[0]["id"]
    with services.engine.begin() as db:
        assert charges.locked(db, first) is not None
        assert archived(services).charges == many - 1
    assert [row["charge_id"] for row in attempt_rows(services)] == [first]
    assert archived(services).charges == 1


def test_a_worker_charges_while_a_batch_is_moved(
    services: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """A batch that is not committed holds no worker up."""
    move_to(services, LATER)
    sent = len(gateway.sent)

    def visit(point: Failpoint, subject: str) -> None:
        if point is Failpoint.ARCHIVING_WRITTEN:
            open_charges.open_due(services)
            due = [row["id"] for row in charge_rows(services) if row["next_attempt_at"] is not None]
            assert attempt_charge.attempt(services, due[0]) is AttemptState.PAID

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "_action", visit)
        assert archived(services).charges == many
    assert len(gateway.sent) == sent + 1


def test_a_refund_that_is_being_asked_for_keeps_its_charge(services: Services, paid: int) -> None:
    """Whoever writes it holds the charge's lock: the archiver passes over it, and then sees the refund."""
    move_to(services, LATER)
    with services.engine.begin() as db:
        assert not archives.bring_back(db, paid)
        assert archived(services).charges == 0


def test_no_batch_reads_history_through(services: Services, many: int) -> None:
    """The pages come through ix_charges_to_archive and the primary key of the outbox."""
    with services.engine.begin() as db:
        db.execute(text("SET LOCAL enable_seqscan = off"))
        db.execute(text("SET LOCAL enable_sort = off"))
        page = "SELECT id, created_at, closed_at FROM charges WHERE {} AND id > 0 ORDER BY id LIMIT 200"
        plan = "\n".join(db.execute(text("EXPLAIN " + page.format(tables.TO_ARCHIVE))).scalars())
    assert "ix_charges_to_archive" in plan


def test_books_that_are_put_back_know_their_archive(services: Services, paid: int) -> None:
    """A hold after a restore compares the list with the archive as well."""
    archived(services)
    restore.begin_hold(services, "kim", "x", JANUARY_31 - timedelta(days=1))
    move(services, seconds=services.settings.quiet_time)
    waits: str | None = ""
    for _ in range(5):
        waits = restore.lift_when_known(services)
    assert waits is None or "due" in waits
    assert found(services) == []
