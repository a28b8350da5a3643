"""One call at a time for a billing key: a gateway may refuse the second of two as a duplicate."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from schedules.charging.charges import AttemptState
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Declined, NotSent, Outcome, Unknown
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import (
    OTHER_DEBT,
    attempt_rows,
    blocked_or_over,
    charge_rows,
    collect,
    in_an_executor,
    many_opened,
    move,
    opened,
    subscribed,
)
from worker.charging import adhoc as by_request
from worker.charging import attempt_charge, resolve_unknown
from worker.charging.claim import begin_attempt
from worker.clock import wait_until
from worker.customers import enrollment
from worker.gateway.port import ChargeOrder
from worker.renewals import enqueue, open_charges
from worker.services import Services
from worker.store.charging import charges, claims
from worker.store.charging.attempts import Attempt
from worker.store.charging.charges import Obstacle
from worker.store.charging.claims import Beginning


@pytest.fixture(params=["alone", "in a group"])
def worker(services: Services, request: pytest.FixtureRequest) -> Services:
    """A worker process that sends charges one by one, and one that sends them in groups."""
    return in_an_executor(services) if request.param == "in a group" else services


def fee(number: int, customer_uid: str = "ann") -> ChargeRequest:
    """What another backend asks for."""
    return ChargeRequest(
        customer_uid=customer_uid, money=Money(9900, "KRW"), name="수수료", request_key=f"fee-{number}",
        reason="late", policy="standard",
    )  # fmt: skip


def adhoc(services: Services, many: int = 2) -> Sequence[int]:
    """So many charges that another backend has asked for, all for one card."""
    enrollment.add_customer(services, "ann", None, None, None, "test")
    for number in range(many):
        by_request.charge(services, fee(number), "shop")
    return [row["id"] for row in charge_rows(services)]


def of_another_card(services: Services, customer_uid: str) -> int:
    """A charge that another backend has asked for last, of another customer."""
    enrollment.add_customer(services, customer_uid, None, None, None, "test")
    by_request.charge(services, replace(fee(0, customer_uid), request_key=customer_uid), "shop")
    return max(int(row["id"]) for row in charge_rows(services))


def beside_a_renewal(services: Services) -> Sequence[int]:
    """A renewal and an ad-hoc charge for one card."""
    renewal = opened(services)
    by_request.charge(services, fee(0), "shop")
    return [renewal, *(row["id"] for row in charge_rows(services) if row["id"] != renewal)]


def of_two_subscriptions(services: Services) -> Sequence[int]:
    """Renewals of two subscriptions with one card; the second one is tried by a person, before any older debt."""
    first = opened(services)
    subscribed(services, "ben")
    open_charges.open_due(services)
    second = next(row["id"] for row in charge_rows(services) if row["id"] != first)
    with services.engine.begin() as db:
        db.execute(text(OTHER_DEBT), {"charge": first})
        db.execute(text("UPDATE charges SET tried_by = 'person' WHERE id = :charge"), {"charge": second})
    return [first, second]


def queued(services: Services) -> Sequence[int]:
    """The charges that dispatching would send a message for."""
    found: list[int] = []
    enqueue.top_up(services, lambda messages: found.extend(each.charge_id for each in messages))
    return found


@pytest.mark.parametrize("arranged", [adhoc, beside_a_renewal, of_two_subscriptions])
def test_no_other_charge_of_the_card_leaves_during_a_call_and_the_next_is_queued_at_its_end(
    worker: Services, gateway: ScriptedGateway, arranged: Callable[[Services], Sequence[int]]
) -> None:
    """Guard: one call at a time for a billing key."""
    first, second = arranged(worker)

    seen: list[object] = []

    def meanwhile(order: ChargeOrder) -> Outcome:
        seen.extend((collect(worker, second), second in queued(worker)))
        return gateway.approve(order)

    gateway.answers.append(meanwhile)
    assert collect(worker, first) is AttemptState.PAID
    assert seen == [None, False]
    assert len(gateway.sent) == 1
    assert second in queued(worker)
    assert collect(worker, second) is AttemptState.PAID
    assert len(gateway.sent) == 2


def test_a_charge_that_is_asked_for_during_the_only_call_of_its_card_waits_for_its_end(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """Guard: one call at a time for a billing key, also where a group has claimed its only debt."""
    first = opened(worker)
    seen: list[object] = []

    def meanwhile(order: ChargeOrder) -> Outcome:
        by_request.charge(worker, fee(0), "shop")
        second = next(row["id"] for row in charge_rows(worker) if row["id"] != first)
        seen.extend((second, collect(worker, second)))
        return gateway.approve(order)

    gateway.answers.append(meanwhile)
    assert collect(worker, first) is AttemptState.PAID
    assert seen[1] is None
    assert len(gateway.sent) == 1
    assert seen[0] in queued(worker)


def test_of_two_claims_at_the_same_moment_the_later_one_waits(services: Services) -> None:
    """Guard: the index. The other process commits its claim after the look of this one."""
    first, second = adhoc(services)
    with ThreadPoolExecutor(1) as beside:
        with services.engine.begin() as db:
            charge = charges.locked(db, first)
            assert charge is not None
            assert begin_attempt(services, db, charge) is not None
            claimed = beside.submit(attempt_charge.claim, services, second)
            assert blocked_or_over(services, claimed.done)
        assert claimed.result() is None
    assert [row["charge_id"] for row in attempt_rows(services)] == [first]
    assert second not in queued(services)
    assert [row["held_why"] for row in charge_rows(services)] == [None, None]


def test_a_uid_that_is_sent_again_waits_for_a_call_that_is_written_at_the_same_moment(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: the index, for a claim of an attempt that was not sent."""
    first, second = adhoc(services)
    gateway.answers.append(NotSent("ConnectError"))
    assert collect(services, second) is AttemptState.NOT_SENT
    move(services, minutes=2)
    with ThreadPoolExecutor(1) as beside:
        with services.engine.begin() as db:
            charge = charges.locked(db, first)
            assert charge is not None
            assert begin_attempt(services, db, charge) is not None
            claimed = beside.submit(attempt_charge.claim, services, second)
            assert blocked_or_over(services, claimed.done)
        assert claimed.result() is None
    states = {row["charge_id"]: row["state"] for row in attempt_rows(services)}
    assert states == {first: "sending", second: "not_sent"}
    assert second not in queued(services)


def test_a_uid_that_is_sent_again_names_the_card_of_its_charge(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: one call at a time for a billing key, for a charge that was moved to another card meanwhile."""
    first = adhoc(services, 1)[0]
    gateway.answers.append(NotSent("ConnectError"))
    attempt_charge.attempt(services, first)
    other = of_another_card(services, "ben")
    with services.engine.begin() as db:
        moved = "UPDATE charges SET billing_key_id = (SELECT billing_key_id FROM charges WHERE id = :other)"
        db.execute(text(f"{moved} WHERE id = :charge"), {"charge": first, "other": other})
    move(services, minutes=2)
    assert attempt_charge.claim(services, first) is not None
    assert attempt_charge.claim(services, other) is None


def test_many_threads_make_one_call_at_a_time_and_each_charge_is_paid(
    worker: Services, gateway: ScriptedGateway
) -> None:
    ids = adhoc(worker, 6)
    under_way: list[str] = []
    most: list[int] = []

    def answer(order: ChargeOrder) -> Outcome:
        under_way.append(order.merchant_uid)
        most.append(len(under_way))
        outcome = gateway.approve(order)
        under_way.remove(order.merchant_uid)
        return outcome

    gateway.cards["ann"] = answer
    with ThreadPoolExecutor(6) as threads:
        for _ in ids:
            list(threads.map(lambda charge_id: collect(worker, charge_id), ids))
    assert {row["status"] for row in charge_rows(worker)} == {"paid"}
    assert (len(gateway.sent), set(most)) == (len(ids), {1})


@pytest.mark.parametrize("answer", [Declined("no money"), NotSent("ConnectError"), Unknown("ReadTimeout")])
def test_whatever_ends_the_call_the_next_charge_of_the_card_is_queued(
    services: Services, gateway: ScriptedGateway, answer: Outcome
) -> None:
    """An outcome that is unknown holds up no other charge: its call is over."""
    first, second = adhoc(services)

    def meanwhile(order: ChargeOrder) -> Outcome:
        assert collect(services, second) is None
        return answer

    gateway.answers.append(meanwhile)
    collect(services, first)
    assert queued(services) == [second]
    assert collect(services, second) is AttemptState.PAID


def test_a_claim_that_is_given_back_unsent_lets_the_next_charge_of_the_card_be_queued(services: Services) -> None:
    first, second = adhoc(services)
    claimed = attempt_charge.claim(services, first)
    assert claimed is not None
    assert collect(services, second) is None
    attempt_charge.hold_back(services, claimed, Obstacle("a test"))
    assert queued(services) == [second]


def test_a_charge_is_not_lost_behind_a_worker_that_died(services: Services) -> None:
    """The lease ends, and the outcome is unknown: the call is over."""
    first, second = adhoc(services)
    assert attempt_charge.claim(services, first) is not None
    assert collect(services, second) is None
    assert queued(services) == []
    move(services, seconds=services.settings.lease_time.total_seconds() + 1)
    resolve_unknown.sweep(services)
    assert queued(services) == [second]
    assert collect(services, second) is AttemptState.PAID


def test_the_longest_due_of_those_that_wait_is_queued_and_no_message_is_sent_twice(
    services: Services, gateway: ScriptedGateway
) -> None:
    ids = adhoc(services, 4)

    def meanwhile(order: ChargeOrder) -> Outcome:
        assert [collect(services, charge_id) for charge_id in ids[1:]] == [None] * 3
        return gateway.approve(order)

    gateway.answers.append(meanwhile)
    collect(services, ids[0])
    assert queued(services) == [ids[1]]
    assert queued(services) == []


def test_many_charges_of_one_card_leave_room_for_others_and_are_paid_one_after_another(
    worker: Services, gateway: ScriptedGateway
) -> None:
    """Each had a message of its own, which came during a call; the queue holds fewer than wait for the card."""
    object.__setattr__(worker, "settings", worker.settings.model_copy(update={"queue_bound": 4}))
    ids = adhoc(worker, 10)
    for charge_id in ids:
        enqueue.send_now(worker, charge_id, lambda _: None)

    def meanwhile(order: ChargeOrder) -> Outcome:
        assert [collect(worker, charge_id) for charge_id in ids[1:]] == [None] * 9
        other = of_another_card(worker, "ben")
        assert (queued(worker), queued(worker)) == ([other], [])
        assert collect(worker, other) is AttemptState.PAID
        return gateway.approve(order)

    gateway.answers.append(meanwhile)
    assert collect(worker, ids[0]) is AttemptState.PAID
    for charge_id in ids[1:]:
        assert (queued(worker), queued(worker)) == ([charge_id], [])
        assert collect(worker, charge_id) is AttemptState.PAID
    assert queued(worker) == []


def test_a_look_that_meets_many_charges_of_one_card_goes_on_to_those_behind_them(services: Services) -> None:
    object.__setattr__(services, "settings", services.settings.model_copy(update={"queue_bound": 4}))
    ids = adhoc(services, 10)
    others = [of_another_card(services, "ben"), of_another_card(services, "cara")]
    assert queued(services) == [ids[0], *others]


TAKEN = """
    INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at,
        created_at)
    SELECT :of, :number, :uid, 'declined', amount, currency, 1, 1, now(), now() FROM charges WHERE id = :of
"""


@pytest.mark.parametrize("taken", ["number", "uid"])
def test_a_charge_whose_next_attempt_cannot_be_written_is_set_aside_with_the_reason(
    worker: Services, gateway: ScriptedGateway, taken: str
) -> None:
    """It does not wait for its card: no call of the card is under way."""
    charge_id, other = adhoc(worker, 1)[0], of_another_card(worker, "ben")
    uid = merchant_uid(worker.settings.environment, charge_rows(worker)[0]["key"], 1)
    row = {"of": charge_id, "number": 1, "uid": "another"}
    with worker.engine.begin() as db:
        db.execute(text(TAKEN), row if taken == "number" else row | {"of": other, "number": 7, "uid": uid})
    assert collect(worker, charge_id) is None
    assert uid in charge_rows(worker)[0]["held_why"]
    assert not gateway.sent
    assert charge_id not in queued(worker)


def test_two_batches_with_the_same_cards_in_another_order_do_not_deadlock(services: Services) -> None:
    """Guard: the order of their rows. Each batch waits for a claim of its second card."""
    ids = iter(many_opened(services, 8))

    def claim(db: Connection, *cards: int) -> list[int]:
        now = services.clock.now()
        rows = [
            Beginning(
                Attempt(0, charge_id, 1, f"uid-{charge_id}", Money(9900, "KRW"), 1, now, None, 0, None, 1),
                card,
                None,
            )
            for card, charge_id in zip(cards, ids, strict=False)
        ]
        return list(claims.begin(db, rows, now + services.settings.lease_time))

    def batch(*cards: int) -> int:
        with services.engine.begin() as db:
            return len(claim(db, *cards))

    def are_blocked(many: int) -> bool:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with services.engine.begin() as db:
            mine = text(f"{waiting} AND datname = current_database()")
            return bool(db.execute(mine).scalar_one() >= many)

    with ThreadPoolExecutor(2) as beside:
        with services.engine.connect() as third, services.engine.connect() as fourth:
            claim(third, 3)
            claim(fourth, 4)
            one = beside.submit(batch, 1, 3, 2)
            assert wait_until(lambda: are_blocked(1), 20)
            other = beside.submit(batch, 2, 4, 1)
            assert wait_until(lambda: are_blocked(2), 20)
        assert (one.result(), other.result()) == (3, 1)
