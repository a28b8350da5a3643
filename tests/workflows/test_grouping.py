"""Grouping: what is done together comes to the same as alone, and what is not plain is left alone."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from celery.signals import worker_shutting_down
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from schedules.charges import AttemptState, KeyedIn
from schedules.outcomes import Declined, NotSent, Outcome, Paid, Unknown
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, move, on_sale, subscribed
from worker import tasks
from worker.clock import elapsed, wait
from worker.combining import Combiner
from worker.crew import Crew
from worker.gateway.port import ChargeOrder
from worker.store import attempts, charges, rates
from worker.workflows import charging, dispatching, opening, operating
from worker.workflows.charging import LOOK_LASTS
from worker.workflows.grouping import PATIENCE, Claimed, Groups, Leaving, Ungrouped, ask_leave
from worker.workflows.services import Services

PAID = """
    INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at,
        created_at)
    SELECT id, 2, 'another', 'paid', amount, currency, 1, 1, now(), now() FROM charges WHERE id = :charge
"""


@pytest.fixture
def groups(services: Services) -> Groups:
    """What one process does by the group."""
    return Groups(services)


@pytest.fixture
def together(services: Services, groups: Groups) -> Services:
    """Services of a worker, which has groups."""
    return replace(services, groups=groups)


def many_opened(services: Services, many: int) -> list[int]:
    """So many customers, each with a charge that is due; the charges' row ids."""
    on_sale(services)
    for number in range(many):
        subscribed(services, f"customer-{number}")
    opening.open_due(services)
    return [row["id"] for row in charge_rows(services)]


def test_each_charge_of_a_group_gets_an_attempt_of_its_own(services: Services, groups: Groups) -> None:
    ids = many_opened(services, 5)
    claimed = groups.claim_many(ids)
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


def test_what_is_done_together_leaves_the_same_rows_as_alone(
    services: Services, groups: Groups, gateway: ScriptedGateway
) -> None:
    alone, grouped = many_opened(services, 2)
    charging.attempt(services, alone)
    charging.attempt(replace(services, groups=groups), grouped)
    one, other = (_story(services, charge_id) for charge_id in (alone, grouped))
    assert one == other
    assert one["charge"]["status"] == "paid"
    assert len(gateway.sent) == 2


def _story(services: Services, charge_id: int) -> dict[str, Any]:
    """Everything that is written of a charge, but for what names it."""
    own = {"id", "key", "subscription_id", "billing_key_id", "due_at", "charge_id", "merchant_uid", "attempt_id",
           "dedupe_key", "subject", "imp_uid", "answer"}  # fmt: skip
    queries = {
        "charge": "SELECT * FROM charges WHERE id = :charge",
        "attempt": "SELECT * FROM attempts WHERE charge_id = :charge",
        "events": "SELECT e.* FROM attempt_events e JOIN attempts a ON a.id = e.attempt_id "
        "WHERE a.charge_id = :charge ORDER BY e.id",
        "notices": "SELECT o.* FROM outbox o JOIN charges c ON c.key = o.subject WHERE c.id = :charge",
    }
    told: dict[str, Any] = {}
    with services.engine.begin() as db:
        for name, query in queries.items():
            rows = [dict(row) for row in db.execute(text(query), {"charge": charge_id}).mappings()]
            kept = [{column: value for column, value in row.items() if column not in own} for row in rows]
            told[name] = kept[0] if name == "charge" else kept
    for notice in told["notices"]:
        payload = notice["payload"]
        assert payload["merchant_uid"].startswith("ag1test")
        notice["payload"] = {name: payload[name] for name in payload if name not in
                             ("charge", "subscription", "customer_uid", "merchant_uid")}  # fmt: skip
    return told


def _write(services: Services, statement: str, charge_id: int) -> None:
    with services.engine.begin() as db:
        db.execute(text(statement), {"charge": charge_id})


def _attempt_under_way(services: Services, charge_id: int) -> None:
    claimed = charging.claim(services, charge_id)
    assert claimed is not None
    _write(services, "UPDATE charges SET attempts = 0, next_attempt_at = due_at WHERE id = :charge", charge_id)


def _stop(services: Services, charge_id: int) -> None:
    operating.stop_charging(services, "test", "fire")


OTHER_DEBT = "UPDATE charges SET billing_key_id = (SELECT billing_key_id FROM charges WHERE id = :charge)"
UNKNOWN_CURRENCY = "UPDATE charges SET currency = 'XXX' WHERE id = :charge"
# What makes a debt one that is not plain, where a statement says it.
WRITTEN = {
    "declined": "UPDATE charges SET first_declined_at = now() WHERE id = :charge",
    "past due": "UPDATE charges SET status = 'past_due' WHERE id = :charge",
    "held": "UPDATE charges SET held_why = 'a person looks' WHERE id = :charge",
    "not due": "UPDATE charges SET next_attempt_at = now() + interval '1 year' WHERE id = :charge",
    "tried": "UPDATE charges SET attempts = 1 WHERE id = :charge",
    "wanted by a person": "UPDATE charges SET tried_by = 'person' WHERE id = :charge",
    "typed": f"UPDATE charges SET keyed_in = '{KeyedIn.ONCE.value}' WHERE id = :charge",
    "stopped card": "UPDATE billing_keys SET stopped_as = 'never_again' FROM charges c WHERE c.id = :charge",
    "other debt": OTHER_DEBT,
    "paid unseen": PAID,
    "other place": "UPDATE installation SET fingerprint = 'another' WHERE :charge > 0",
    "other account": "UPDATE charges SET account = 'elsewhere' WHERE id = :charge",
    "unknown currency": UNKNOWN_CURRENCY,
}
ODDITIES: dict[str, Callable[[Services, int], None]] = {
    name: partial(lambda statement, services, charge_id: _write(services, statement, charge_id), statement)
    for name, statement in WRITTEN.items()
} | {"attempt under way": _attempt_under_way, "stop": _stop}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_what_is_not_plain_is_not_claimed_together(services: Services, groups: Groups, oddity: str) -> None:
    """Guard: the group claims fresh debts alone, and everything else goes the way that knows every case."""
    odd, _ = many_opened(services, 2)
    ODDITIES[oddity](services, odd)
    before = attempt_rows(services)
    assert groups.claim_many([odd]) == [Ungrouped.ALONE]
    assert attempt_rows(services) == before


def test_one_bad_row_keeps_no_other_from_being_claimed(services: Services, groups: Groups) -> None:
    odd, plain = many_opened(services, 2)
    _write(services, UNKNOWN_CURRENCY, odd)
    left, claimed = groups.claim_many([odd, plain])
    assert left is Ungrouped.ALONE
    assert isinstance(claimed, Claimed)


def test_a_group_waits_for_no_row(services: Services, groups: Groups) -> None:
    """A row that somebody holds is passed over: no group ever stands in a deadlock."""
    held, free = many_opened(services, 2)
    with services.engine.begin() as db:
        charges.locked(db, held)
        began = elapsed()
        left, claimed = groups.claim_many([held, free])
        assert elapsed() - began < 9  # seconds; a lock would be waited for ten
    assert left is Ungrouped.ALONE
    assert isinstance(claimed, Claimed)


def test_two_workers_with_the_same_messages_claim_each_charge_once(services: Services, groups: Groups) -> None:
    ids = many_opened(services, 12)
    both, claims = threading.Barrier(2), []

    def work(order: list[int]) -> None:
        both.wait(10)
        claims.extend(Groups(services).claim_many(order))

    threads = [threading.Thread(target=work, args=(order,)) for order in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    claimed = [claim.charge_id for claim in claims if isinstance(claim, Claimed)]
    assert sorted(claimed) == ids
    assert len(attempt_rows(services)) == 12


def _claimed(groups: Groups, charge_id: int) -> Claimed:
    (claimed,) = groups.claim_many([charge_id])
    assert isinstance(claimed, Claimed)
    return claimed


def _fence_moved(services: Services, claimed: Claimed) -> None:
    move(services, seconds=services.settings.lease + 1)
    with services.engine.begin() as db:
        attempts.take_lapsed(db, services.clock.now(), services.clock.now(), 10)


def _sent_anew(services: Services, claimed: Claimed) -> None:
    """As `_fence_moved`, and another worker has it under way again."""
    _write(services, "UPDATE attempts SET fence = fence + 1 WHERE charge_id = :charge", claimed.charge_id)


def _answered_already(services: Services, claimed: Claimed) -> None:
    _write(services, "UPDATE attempts SET state = 'declined', lease_until = NULL WHERE charge_id = :charge",
           claimed.charge_id)  # fmt: skip


def _paid_already(services: Services, claimed: Claimed) -> None:
    _write(services, PAID, claimed.charge_id)


def _another_waits(services: Services, claimed: Claimed) -> None:
    _write(services, OTHER_DEBT, claimed.charge_id)


@pytest.mark.parametrize("oddity", ["declined", "past due", "held", "stopped card", "typed"])
def test_a_payment_that_changes_more_than_its_debt_is_not_settled_together(
    services: Services, groups: Groups, oddity: str
) -> None:
    odd, _ = many_opened(services, 2)
    claimed = _claimed(groups, odd)
    ODDITIES[oddity](services, odd)
    assert groups.settlements.answer_to((claimed.intent, Paid("imps_1"))) is Ungrouped.ALONE
    assert attempt_rows(services)[0]["state"] == "sending"


@pytest.mark.parametrize("oddity", [_fence_moved, _sent_anew, _answered_already, _paid_already, _another_waits])
def test_an_answer_that_is_not_the_groups_to_write_is_left(
    services: Services, groups: Groups, oddity: Callable[[Services, Claimed], None]
) -> None:
    """Guards: the fence, the state, and one payment for a debt, each in the group's own statement."""
    odd, _ = many_opened(services, 2)
    claimed = _claimed(groups, odd)
    oddity(services, claimed)
    before = attempt_rows(services), charge_rows(services)
    assert groups.settlements.answer_to((claimed.intent, Paid("imps_1"))) is Ungrouped.ALONE
    assert (attempt_rows(services), charge_rows(services)) == before


def test_a_payment_whose_debt_somebody_holds_is_left(services: Services, groups: Groups) -> None:
    """Guard: the group's lock; else what is committed meanwhile, such as a cancellation, would be written over."""
    held, _ = many_opened(services, 2)
    claimed = _claimed(groups, held)
    with services.engine.begin() as db:
        charges.locked(db, held)
        began = elapsed()
        assert groups.settle_many([(claimed.intent, Paid("imps_1"))]) == [Ungrouped.ALONE]
        assert elapsed() - began < 9  # seconds; a lock would be waited for ten
    assert attempt_rows(services)[0]["state"] == "sending"


def test_a_payment_that_cannot_be_written_holds_no_envelope_open(
    together: Services, groups: Groups, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and found again by asking: the attempt is under way until its lease has run out."""
    ids = many_opened(together, 2)

    def broken(*_: object) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(groups, "settlements", Combiner(broken, 10))
    charging.attempt_many(together, groups, ids, Crew(2))
    rows = attempt_rows(together)
    assert [row["state"] for row in rows] == ["sending"] * 2
    for row in rows:
        assert f"{row['merchant_uid']}: its payment could not be written, and is asked about" in caplog.text


def test_a_payment_that_is_left_is_settled_alone(
    together: Services, services: Services, gateway: ScriptedGateway
) -> None:
    """Another debt of the card waits behind it, and is woken."""
    odd, other = many_opened(services, 2)

    def meanwhile(order: ChargeOrder) -> Outcome:
        _write(services, "UPDATE charges SET next_attempt_at = due_at + interval '2 hours'", 0)
        _write(services, OTHER_DEBT, odd)
        return gateway.approve(order)

    gateway.answers.append(meanwhile)
    assert charging.attempt(together, odd) is AttemptState.PAID
    rows = {row["id"]: row for row in charge_rows(services)}
    assert rows[odd]["status"] == "paid"
    assert rows[other]["next_attempt_at"] <= services.clock.now()


def test_an_envelope_carries_out_each_of_its_charges(
    together: Services, groups: Groups, gateway: ScriptedGateway
) -> None:
    ids = many_opened(together, 40)
    answers: dict[str, Outcome] = {
        "customer-3": Declined("no money"), "customer-5": Unknown("ReadTimeout"),
        "customer-7": NotSent("ConnectError"),
    }  # fmt: skip
    for uid, answer in answers.items():
        gateway.cards[uid] = partial(_answering, answer)
    charging.attempt_many(together, groups, ids, Crew(8))
    states = sorted(row["state"] for row in attempt_rows(together))
    assert states == sorted(["paid"] * 37 + ["declined", "unknown", "not_sent"])
    assert len({order.merchant_uid for order in gateway.sent}) == len(gateway.sent) == 40
    paid = [row for row in charge_rows(together) if row["status"] == "paid"]
    assert len(paid) == 37


def test_an_envelope_that_comes_twice_charges_once(
    together: Services, groups: Groups, gateway: ScriptedGateway
) -> None:
    """Guard: two copies of a message in one group are one claim."""
    ids = many_opened(together, 10)
    for _ in range(2):
        charging.attempt_many(together, groups, [*ids[:3], *ids[:3], *ids], Crew(6))
    assert len(gateway.sent) == 10
    assert [row["sends"] for row in attempt_rows(together)] == [1] * 10


def test_a_charge_that_fails_in_an_envelope_keeps_no_other_waiting(
    together: Services, groups: Groups, gateway: ScriptedGateway
) -> None:
    ids = many_opened(together, 6)

    def broken(order: ChargeOrder) -> Outcome:
        raise RuntimeError("a fault of ours")

    gateway.cards["customer-2"] = broken
    charging.attempt_many(together, groups, ids, Crew(2))
    assert [row["status"] for row in charge_rows(together)].count("paid") == 5


def test_an_envelope_that_cannot_look_keeps_no_thread(
    together: Services, groups: Groups, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each time that the database is away would leave a worker with fewer threads, and none in the end."""
    first, second = many_opened(together, 2)
    crew = Crew(1)

    def away(*_: object) -> list[object]:
        raise RuntimeError("away")

    with monkeypatch.context() as broken:
        broken.setattr(charging, "ask_leave", away)
        with pytest.raises(RuntimeError, match="away"):
            charging.attempt_many(together, groups, [first], crew)
    charging.attempt_many(together, groups, [second], crew)
    assert len(gateway.sent) == 1


def test_an_envelope_of_a_worker_that_stops_ends_with_what_is_claimed(
    together: Services, groups: Groups, gateway: ScriptedGateway
) -> None:
    """Guard: what is not begun is given back, so that a worker stops within its calls, not its envelopes."""
    ids = many_opened(together, 6)
    stopping = threading.Event()

    def stop(order: ChargeOrder) -> Outcome:
        stopping.set()
        return gateway.approve(order)

    gateway.answers.append(stop)
    assert charging.attempt_many(together, groups, ids, Crew(2), stopping.is_set) == ids[2:]
    assert [row["charge_id"] for row in attempt_rows(together)] == ids[:2]
    assert len(gateway.sent) == 2


def test_what_a_stopping_worker_has_not_begun_is_queued_again(
    together: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(tasks, "services", lambda: together)
    monkeypatch.setattr(tasks, "crew", lambda: Crew(2))
    monkeypatch.setattr(tasks, "_places", {})
    monkeypatch.setattr(tasks, "_stopping", stopping)
    ids = many_opened(together, 2)
    dispatching.top_up(together, lambda _: None)
    worker_shutting_down.send(None, sig="SIGTERM", how="Warm", exitcode=0)
    assert stopping.is_set()
    tasks.carry_out_envelope(ids, "main")
    assert not attempt_rows(together)
    move(together, seconds=dispatching.GIVEN_BACK.total_seconds())
    assert dispatching.top_up(together, lambda _: None) == 2


def test_claims_that_cannot_leave_are_given_back(
    together: Services, groups: Groups, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short fault of the database between a claim and its call must not cost a lease and a question."""
    ids = many_opened(together, 3)

    def away(*_: object) -> list[object]:
        raise RuntimeError("away")

    with monkeypatch.context() as broken:
        broken.setattr(charging, "ask_leave", away)
        with pytest.raises(RuntimeError, match="away"):
            charging.attempt_many(together, groups, ids, Crew(3))
    assert [row["state"] for row in attempt_rows(together)] == ["ready"] * 3
    move(together, seconds=charging.HELD_BACK.total_seconds())
    for charge_id in ids:
        assert charging.attempt(together, charge_id) is AttemptState.PAID
    assert len(gateway.sent) == 3


def test_an_envelope_that_fails_waits_for_the_calls_that_it_began(
    together: Services, groups: Groups, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: a process that ends waits for its tasks, and would cut off calls that no task waits for."""
    ids = many_opened(together, 2)
    failed = threading.Event()
    looks = iter([ask_leave])

    def look_once(*asked: Any) -> Any:
        look = next(looks, None)
        if look is None:
            failed.set()
            raise RuntimeError("away")
        return look(*asked)

    def slow(order: ChargeOrder) -> Outcome:
        assert failed.wait(10)
        wait(0.1)
        return gateway.approve(order)

    gateway.answers.append(slow)
    monkeypatch.setattr(charging, "LEAVE_TOGETHER", 1)
    monkeypatch.setattr(charging, "ask_leave", look_once)
    with pytest.raises(RuntimeError, match="away"):
        charging.attempt_many(together, groups, ids, Crew(2))
    assert [row["status"] for row in charge_rows(together)] == ["paid", "open"]


def test_claims_that_cannot_be_given_back_either_wait_for_their_lease(
    together: Services, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = many_opened(together, 2)

    def away(*_: object) -> list[object]:
        raise OperationalError("", {}, Exception("away"))

    with monkeypatch.context() as broken:
        broken.setattr(charging, "ask_leave", away)
        broken.setattr(charging, "_hold_back", away)
        with pytest.raises(OperationalError):
            charging.attempt_many(together, groups, ids, Crew(2))
    assert [row["state"] for row in attempt_rows(together)] == ["sending"] * 2


def test_no_moment_is_taken_that_nobody_waits_for(services: Services, groups: Groups) -> None:
    """Guard: at a low cap the last of a group would wait a minute, and its moment would go unused."""
    claimed = [_claimed(groups, charge) for charge in many_opened(services, 12)]
    leaves = ask_leave(services, [Leaving(each.intent.id, "main", 1) for each in claimed])
    granted = [leave for leave in leaves if leave.is_granted]
    assert 1 < len(granted) < 8
    assert leaves[: len(granted)] == granted
    assert granted[-1].earliest - elapsed() <= PATIENCE
    with services.engine.begin() as db:
        following = rates.grant(db, "main", 1, 60)
    assert following is not None
    assert following < PATIENCE + 2


def test_an_empty_envelope_is_no_work(together: Services, groups: Groups) -> None:
    charging.attempt_many(together, groups, [], Crew(1))


def test_a_look_that_is_stale_is_looked_again(
    together: Services, groups: Groups, gateway: ScriptedGateway
) -> None:
    """Guard: the kill switch is seen by a charge whose leave was got before, but which has not left yet."""
    first, second = many_opened(together, 2)

    def stop(order: ChargeOrder) -> Outcome:
        operating.stop_charging(together, "test", "fire")
        wait(LOOK_LASTS * 1.5)
        return gateway.approve(order)

    gateway.answers.append(stop)
    charging.attempt_many(together, groups, [first, second], _Single())
    assert len(gateway.sent) == 1
    assert sorted(row["state"] for row in attempt_rows(together)) == ["paid", "ready"]


def _answering(answer: Outcome, order: ChargeOrder) -> Outcome:
    return answer


class _Single(Crew):
    """A crew that lends out two threads and has one: the second job waits, with the leave that it has."""

    def __init__(self) -> None:
        super().__init__(1)

    def take(self, most: int) -> int:
        return min(most, 2)


def test_a_moment_that_was_missed_is_not_used(services: Services, groups: Groups) -> None:
    """Guard: a late call would make a second of somebody else's fuller than the cap."""
    (charge,) = many_opened(services, 1)
    object.__setattr__(services, "settings", services.settings.model_copy(update={"rate": 20}))
    claimed = _claimed(groups, charge)
    (leave,) = ask_leave(services, [Leaving(claimed.intent.id, "main", 20)])
    wait(leave.latest - elapsed() + 0.02)
    taken = charging._await_leave(services, claimed, leave)
    assert taken.is_granted
    assert taken.latest > leave.latest


def test_a_group_takes_a_moment_for_each_call(services: Services, groups: Groups) -> None:
    claimed = [_claimed(groups, charge) for charge in many_opened(services, 3)]
    leaves = ask_leave(services, [Leaving(each.intent.id, "main", 2) for each in claimed])
    first, second, third = (leave.earliest for leave in leaves)
    assert second - first == pytest.approx(third - second)
    assert second - first >= 0.5
    with services.engine.begin() as db:
        following = rates.grant(db, "main", 2, 60)
    assert following is not None
    assert elapsed() + following > third


def test_a_group_whose_database_is_away_tells_everybody(services: Services, groups: Groups) -> None:
    (charge,) = many_opened(services, 1)

    def away(*_: object) -> None:
        raise RuntimeError("away")

    event.listen(services.engine, "begin", away)
    try:
        with pytest.raises(RuntimeError, match="away"):
            groups.claims.answer_to(charge)
    finally:
        event.remove(services.engine, "begin", away)
    assert isinstance(groups.claims.answer_to(charge), Claimed)


def test_an_answer_in_words_of_any_kind_is_written(services: Services, groups: Groups) -> None:
    """The rows go as one JSON text: quotes, backslashes and other scripts must come out as they went in."""
    (charge,) = many_opened(services, 1)
    claimed = _claimed(groups, charge)
    receipt = 'https://example.com/"a\\b"/영수증'
    assert groups.settlements.answer_to((claimed.intent, Paid("imps_1", receipt_url=receipt))) is AttemptState.PAID
    assert attempt_rows(services)[0]["answer"]["receipt_url"] == receipt


def test_envelopes_of_one_account_leave_threads_for_the_others(
    together: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: with a low cap an envelope is open for long; what is more than its share is queued again."""
    monkeypatch.setattr(tasks, "services", lambda: together)
    monkeypatch.setattr(tasks, "crew", lambda: Crew(2))
    monkeypatch.setattr(tasks, "_places", {})
    ids = many_opened(together, 2)
    tasks.carry_out_envelope(ids[:0], "slow")
    slow = tasks._places["slow"]
    while slow.holds.acquire(blocking=False):
        pass
    tasks.carry_out_envelope(ids, "slow")
    assert not attempt_rows(together)
    tasks.carry_out_envelope(ids, "main")
    assert [row["status"] for row in charge_rows(together)] == ["paid", "paid"]
