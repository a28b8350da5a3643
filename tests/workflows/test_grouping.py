"""Grouping: what is claimed and settled together comes to the same as alone; an odd settlement is left alone."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from schedules.charging.charges import AttemptState, KeyedIn
from schedules.charging.outcomes import Declined, Outcome, Paid
from tests.factories import (
    OTHER_DEBT,
    attempt_rows,
    blocked_or_over,
    charge_rows,
    many_opened,
    move,
    write,
)
from tests.scenarios.living import notices
from tests.workflows.test_settling_together import settled_together
from worker.charging import attempt_charge
from worker.charging.claim import Claimed, Skipped, claim_many
from worker.charging.settle import Answered, settle_alone, settle_plain
from worker.clock import elapsed
from worker.customers import enrollment
from worker.operations import operate
from worker.services import Services
from worker.store.charging import attempts, charges

PAID = """
    INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at,
        created_at)
    SELECT id, 2, 'another', 'paid', amount, currency, 1, 1, now(), now() FROM charges WHERE id = :charge
"""


def test_each_charge_of_a_group_gets_an_attempt_of_its_own(services: Services) -> None:
    ids = many_opened(services, 5)
    claimed = claim_many(services, ids)
    rows = attempt_rows(services)
    assert [row["charge_id"] for row in rows] == sorted(ids)
    assert len({row["merchant_uid"] for row in rows}) == 5
    for row, claim in zip(rows, claimed, strict=True):
        assert isinstance(claim, Claimed)
        assert (row["state"], row["fence"], row["sends"], row["number"]) == ("sending", 1, 1, 1)
        assert (claim.intent.id, claim.intent.merchant_uid) == (row["id"], row["merchant_uid"])
        assert row["lease_until"] == services.clock.now() + services.settings.lease_time
    for charge in charge_rows(services):
        assert (charge["next_attempt_at"], charge["queued_until"], charge["attempts"]) == (None, None, 1)


def _attempt_under_way(services: Services, charge_id: int) -> None:
    claimed = attempt_charge.claim(services, charge_id)
    assert claimed is not None
    write(services, "UPDATE charges SET attempts = 0, next_attempt_at = due_at WHERE id = :charge", charge_id)


def _stop(services: Services, charge_id: int) -> None:
    operate.stop_charging(services, "test", "fire")


UNKNOWN_CURRENCY = "UPDATE charges SET currency = 'XXX' WHERE id = :charge"
# What makes a debt another one than a first try, where a statement says it.
WRITTEN = {
    "declined": "UPDATE charges SET first_declined_at = now() WHERE id = :charge",
    "past due": "UPDATE charges SET status = 'past_due' WHERE id = :charge",
    "held": "UPDATE charges SET held_why = 'a person looks' WHERE id = :charge",
    "not due": "UPDATE charges SET next_attempt_at = now() + interval '1 year' WHERE id = :charge",
    "typed": f"UPDATE charges SET keyed_in = '{KeyedIn.ONCE.value}' WHERE id = :charge",
    "stopped card": "UPDATE billing_keys SET stopped_as = 'never_again' FROM charges c WHERE c.id = :charge",
    "other debt": OTHER_DEBT,
    "paid unseen": PAID,
    "other place": "UPDATE installation SET fingerprint = 'another' WHERE :charge > 0",
    "other account": "UPDATE charges SET account = 'elsewhere' WHERE id = :charge",
    "unknown currency": UNKNOWN_CURRENCY,
}
ODDITIES: dict[str, Callable[[Services, int], None]] = {
    name: partial(lambda statement, services, charge_id: write(services, statement, charge_id), statement)
    for name, statement in WRITTEN.items()
} | {"attempt under way": _attempt_under_way, "stop": _stop}


CLAIMED_ALL_THE_SAME = ("declined", "past due")


@pytest.mark.parametrize("oddity", [name for name in ODDITIES if name not in CLAIMED_ALL_THE_SAME])
def test_what_must_not_be_sent_is_not_claimed_in_a_group(services: Services, oddity: str) -> None:
    """Guard: the rule of claiming, for each charge of a group; the others of the group are claimed."""
    first, odd, other = many_opened(services, 3)
    ODDITIES[oddity](services, odd if oddity != "other debt" else first)
    before = attempt_rows(services)
    assert claim_many(services, [odd]) == [None]
    assert attempt_rows(services) == before
    if oddity in ("stop", "other place", "other debt", "stopped card"):  # the others are odd too
        return
    left, claimed = claim_many(services, [odd, other])
    assert left is None
    assert isinstance(claimed, Claimed)


@pytest.mark.parametrize("oddity", CLAIMED_ALL_THE_SAME)
def test_a_debt_that_was_declined_is_claimed_in_a_group(services: Services, oddity: str) -> None:
    odd, plain = many_opened(services, 2)
    ODDITIES[oddity](services, odd)
    assert all(isinstance(claim, Claimed) for claim in claim_many(services, [odd, plain]))


def test_a_group_takes_as_many_statements_as_one_charge(services: Services) -> None:
    """A batch of first tries: one statement locks them, one for each account says what may be sent, one writes."""
    (one, *others), statements = many_opened(services, 12), list[str]()

    def note(*executed: Any) -> None:
        statements.append(executed[2])

    event.listen(services.engine, "before_cursor_execute", note)
    try:
        claim_many(services, [one])
        of_one = len(statements)
        claim_many(services, others)
    finally:
        event.remove(services.engine, "before_cursor_execute", note)
    assert (of_one, len(statements) - of_one) == (3, 3)


def test_a_group_waits_for_no_row(services: Services) -> None:
    """A row that another transaction has locked is passed over; it is claimed alone, after that."""
    held, free = many_opened(services, 2)
    with services.engine.begin() as db:
        charges.locked(db, held)
        began = elapsed()
        left, claimed = claim_many(services, [held, free])
        assert elapsed() - began < 9  # seconds; a lock would be waited for ten
    assert left is Skipped.LOCKED
    assert isinstance(claimed, Claimed)


def test_a_lone_charge_waits_for_its_row(services: Services) -> None:
    """Guard: what another transaction has locked for a moment is claimed, and its message is not lost."""
    (charge,) = many_opened(services, 1)
    with ThreadPoolExecutor(1) as beside:
        with services.engine.begin() as db:
            charges.locked(db, charge)
            claimed = beside.submit(attempt_charge.claim, services, charge)
            assert blocked_or_over(services, claimed.done)
        assert isinstance(claimed.result(), Claimed)


def test_a_lone_charge_waits_for_its_row_and_sees_what_was_written_meanwhile(services: Services) -> None:
    """Guard: the facts of a claim are read after its lock. The other transaction writes a payment."""
    (charge,) = many_opened(services, 1)
    with ThreadPoolExecutor(1) as beside:
        with services.engine.begin() as db:
            charges.locked(db, charge)
            claimed = beside.submit(attempt_charge.claim, services, charge)
            assert blocked_or_over(services, claimed.done)
            db.execute(text(PAID), {"charge": charge})
        assert claimed.result() is None
    assert [row["state"] for row in attempt_rows(services)] == ["paid"]


def test_a_write_that_a_constraint_refuses_costs_no_other_claim_of_the_group(services: Services) -> None:
    """Guard: the savepoint of each charge that is written for itself; the lone claim after it raises the error."""
    odd, plain = many_opened(services, 2)
    _attempt_under_way(services, odd)
    write(services, f"ALTER TABLE charges ADD CHECK (id <> {odd} OR next_attempt_at IS NOT NULL)", odd)
    left, claimed = claim_many(services, [odd, plain])
    assert left is Skipped.FAILED
    assert isinstance(claimed, Claimed)
    assert [row["id"] for row in attempt_rows(services) if row["charge_id"] == plain] == [claimed.intent.id]
    with pytest.raises(IntegrityError):
        attempt_charge.claim(services, odd)


def test_two_workers_with_the_same_messages_claim_each_charge_once(services: Services) -> None:
    ids = many_opened(services, 12)
    both, claims = threading.Barrier(2), []

    def work(order: list[int]) -> None:
        both.wait(10)
        claims.extend(claim_many(services, order))

    threads = [threading.Thread(target=work, args=(order,)) for order in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    claimed = [claim.charge_id for claim in claims if isinstance(claim, Claimed)]
    assert sorted(claimed) == ids
    assert len(attempt_rows(services)) == 12


def _claimed(services: Services, charge_id: int) -> Claimed:
    (claimed,) = claim_many(services, [charge_id])
    assert isinstance(claimed, Claimed)
    return claimed


def _paid(claimed: Claimed, imp_uid: str = "imps_1") -> Answered:
    return Answered(claimed.intent, AttemptState.SENDING, Paid(imp_uid))


def _fence_moved(services: Services, claimed: Claimed) -> None:
    move(services, seconds=services.settings.lease + 1)
    with services.engine.begin() as db:
        attempts.take_lapsed(db, services.clock.now(), services.clock.now(), 10)


def _sent_anew(services: Services, claimed: Claimed) -> None:
    """As `_fence_moved`, and another worker has it under way again."""
    write(services, "UPDATE attempts SET fence = fence + 1 WHERE charge_id = :charge", claimed.charge_id)


def _answered_already(services: Services, claimed: Claimed) -> None:
    write(services, "UPDATE attempts SET state = 'declined', lease_until = NULL WHERE charge_id = :charge",
           claimed.charge_id)  # fmt: skip


def _paid_already(services: Services, claimed: Claimed) -> None:
    write(services, PAID, claimed.charge_id)


def _another_waits(services: Services, claimed: Claimed) -> None:
    write(services, OTHER_DEBT, claimed.charge_id)


def _declined(services: Services, claimed: Claimed) -> None:
    ODDITIES["declined"](services, claimed.charge_id)


def _card_stopped(services: Services, claimed: Claimed) -> None:
    ODDITIES["stopped card"](services, claimed.charge_id)


def _waived(services: Services, claimed: Claimed) -> None:
    write(
        services, "UPDATE charges SET status = 'waived', closed_at = now() WHERE id = :charge", claimed.charge_id
    )


def _unsubscribed(services: Services, claimed: Claimed) -> None:
    query = "SELECT s.key FROM subscriptions s JOIN charges c ON c.subscription_id = s.id WHERE c.id = :charge"
    with services.engine.begin() as db:
        key = db.execute(text(query), {"charge": claimed.charge_id}).scalar_one()
    enrollment.unsubscribe(services, key, "kim", "he left", at_period_end=False)


EFFECTS = [_another_waits, _declined, _card_stopped, _waived, _unsubscribed]


@pytest.mark.parametrize("oddity", [_fence_moved, _sent_anew, _answered_already, _paid_already, *EFFECTS])
def test_the_set_leaves_an_answer_that_is_stale_or_changes_more_than_its_charge(
    services: Services, oddity: Callable[[Services, Claimed], None]
) -> None:
    """Guards: the fence, the state, one payment for a debt, and what the rule calls plain."""
    odd, _ = many_opened(services, 2)
    claimed = _claimed(services, odd)
    oddity(services, claimed)
    before = attempt_rows(services), charge_rows(services)
    assert settle_plain(services, [_paid(claimed)]) == [None]
    assert (attempt_rows(services), charge_rows(services)) == before


def test_a_payment_for_a_canceled_subscription_is_told_of_in_a_batch(services: Services) -> None:
    odd, plain = many_opened(services, 2)
    both = [_claimed(services, odd), _claimed(services, plain)]
    _unsubscribed(services, both[0])
    answered = [_paid(each, f"imps_{each.key}") for each in both]
    assert settled_together(services, answered) == [AttemptState.PAID] * 2
    assert notices(services).count("charge.paid_after_end") == 1


def test_a_payment_whose_debt_somebody_holds_is_left(services: Services) -> None:
    """Guard: the lock of the set; else what is committed meanwhile, such as a cancellation, is written over."""
    held, free = many_opened(services, 2)
    both = [_claimed(services, held), _claimed(services, free)]
    with services.engine.begin() as db:
        charges.locked(db, held)
        began = elapsed()
        states = settle_plain(services, [_paid(each, f"imps_{each.key}") for each in both])
        assert elapsed() - began < 9  # seconds; a lock would be waited for ten
    assert states == [None, AttemptState.PAID]
    assert [row["state"] for row in attempt_rows(services)] == ["sending", "paid"]


def test_a_stopped_card_that_somebody_changes_holds_no_other_claim_up(services: Services) -> None:
    """Guard: a claim waits for no billing key, and the charge of the card is tried when the change is over."""
    stopped, free = many_opened(services, 2)
    of_charge = "WHERE id = (SELECT billing_key_id FROM charges WHERE id = :charge)"
    write(services, f"UPDATE billing_keys SET stopped_as = 'never_again' {of_charge}", stopped)
    with services.engine.begin() as db:
        db.execute(text("SELECT FROM billing_keys WHERE stopped_as IS NOT NULL FOR UPDATE"))
        began = elapsed()
        left, claimed = claim_many(services, [stopped, free])
        assert elapsed() - began < 9  # seconds; a lock would be waited for ten
    assert left is None
    assert isinstance(claimed, Claimed)
    (row,) = (row for row in charge_rows(services) if row["id"] == stopped)
    assert (row["waits"], row["queued_until"]) == (None, None)
    assert row["next_attempt_at"] is not None
    assert claim_many(services, [stopped]) == [None]
    assert [row["waits"] for row in charge_rows(services) if row["id"] == stopped] == ["card"]


def test_of_two_answers_for_one_charge_in_a_batch_the_first_is_written(services: Services) -> None:
    charge, plain = many_opened(services, 2)
    first, other = _paid(_claimed(services, charge)), _paid(_claimed(services, plain), "imps_2")
    second = replace(first, outcome=Paid("imps_3"))
    assert settled_together(services, [first, second, other]) == [AttemptState.PAID, None, AttemptState.PAID]
    assert [row["imp_uid"] for row in attempt_rows(services)] == ["imps_1", "imps_2"]


def test_one_answer_that_cannot_be_written_undoes_no_other(services: Services) -> None:
    """Guard: what the set cannot write is written one by one."""
    ids = many_opened(services, 4)
    claims = [_claimed(services, charge) for charge in ids]
    outcomes: list[Outcome] = [Paid("imps_1"), Paid("imps_\x00"), Declined("no money"), Paid("imps_4")]
    answered = [
        Answered(each.intent, AttemptState.SENDING, outcome)
        for each, outcome in zip(claims, outcomes, strict=True)
    ]
    assert settle_plain(services, answered) == [None] * 4
    for each in answered:
        with pytest.raises(DBAPIError) if each.outcome == outcomes[1] else nullcontext():
            assert settle_alone(services, each) is not None
    assert [row["state"] for row in attempt_rows(services)] == ["paid", "sending", "declined", "paid"]


def test_a_batch_of_plain_payments_takes_as_many_statements_as_one(services: Services) -> None:
    claims = [_claimed(services, charge) for charge in many_opened(services, 12)]
    seen: list[str] = []
    event.listen(services.engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
    assert settle_plain(services, [_paid(each, f"imps_{each.key}") for each in claims]) == [AttemptState.PAID] * 12
    assert len(seen) == 2


def test_a_group_whose_database_is_away_tells_everybody(services: Services) -> None:
    (charge,) = many_opened(services, 1)

    def away(*_: object) -> None:
        raise RuntimeError("away")

    event.listen(services.engine, "begin", away)
    try:
        with pytest.raises(RuntimeError, match="away"):
            claim_many(services, [charge])
    finally:
        event.remove(services.engine, "begin", away)
    assert isinstance(claim_many(services, [charge])[0], Claimed)


def test_an_answer_in_words_of_any_kind_is_written(services: Services) -> None:
    """The rows go as one JSON text: quotes, backslashes and other scripts must come out as they went in."""
    (charge,) = many_opened(services, 1)
    claimed = _claimed(services, charge)
    receipt = 'https://example.com/"a\\b"/영수증'
    answered = Answered(claimed.intent, AttemptState.SENDING, Paid("imps_1", receipt_url=receipt))
    assert settle_plain(services, [answered]) == [AttemptState.PAID]
    assert attempt_rows(services)[0]["answer"]["receipt_url"] == receipt
