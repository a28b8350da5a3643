"""Dispatching: a bounded queue, oldest first, and nothing lost with the broker."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from tests.factories import charge_rows, move, on_sale, subscribed
from worker.operations import operate
from worker.renewals import enqueue, open_charges
from worker.services import Services


class Broker:
    """Takes messages, unless it is away."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.away = False

    def __call__(self, queued: Sequence[enqueue.Queued]) -> None:
        if self.away:
            raise enqueue.BrokerUnreachable("away")
        self.taken += [each.charge_id for each in queued]


def customers(services: Services, count: int) -> None:
    """So many customers, each with a charge that is due."""
    on_sale(services)
    for number in range(count):
        subscribed(services, f"customer-{number}")
    open_charges.open_due(services)


def test_each_due_charge_is_queued_once(services: Services) -> None:
    customers(services, 5)
    broker = Broker()
    assert [enqueue.top_up(services, broker) for _ in range(3)] == [5, 0, 0]
    assert sorted(broker.taken) == [charge["id"] for charge in charge_rows(services)]


def test_no_more_than_the_bound_waits_in_the_broker(services: Services) -> None:
    customers(services, 5)
    object.__setattr__(services, "settings", services.settings.model_copy(update={"queue_bound": 2}))
    assert [enqueue.top_up(services, Broker()) for _ in range(2)] == [2, 0]


def test_two_that_dispatch_at_once_fill_the_bound_once(services: Services) -> None:
    """Guard: each would count what the other has not committed, and the broker would hold twice the bound."""
    customers(services, 5)
    object.__setattr__(services, "settings", services.settings.model_copy(update={"queue_bound": 2}))
    mine, other = Broker(), Broker()
    found: list[int] = []

    def meanwhile(_db: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith("WITH due AS") and not found:
            found.append(-1)  # the other one's own statements must not begin a third
            found.append(enqueue.top_up(services, other))

    event.listen(services.engine, "after_cursor_execute", meanwhile)
    try:
        assert enqueue.top_up(services, mine) == 2
    finally:
        event.remove(services.engine, "after_cursor_execute", meanwhile)
    assert found == [-1, 0]
    assert not other.taken


def test_the_charges_that_are_due_longest_go_first(services: Services) -> None:
    customers(services, 2)
    move(services, days=1)
    subscribed(services, "late")
    open_charges.open_due(services)
    broker = Broker()
    object.__setattr__(services, "settings", services.settings.model_copy(update={"queue_bound": 2}))
    enqueue.top_up(services, broker)
    oldest = [charge["id"] for charge in charge_rows(services)][:2]
    assert sorted(broker.taken) == oldest


def test_messages_that_a_broker_lost_are_sent_again_after_the_patience(services: Services) -> None:
    """Crash rows 2 and 4."""
    customers(services, 3)
    enqueue.top_up(services, Broker())
    move(services, seconds=services.settings.queue_patience + 1)
    broker = Broker()
    assert enqueue.top_up(services, broker) == 3


def test_a_broker_that_is_away_leaves_everything_due(services: Services) -> None:
    customers(services, 3)
    broker = Broker()
    broker.away = True
    with pytest.raises(enqueue.BrokerUnreachable):
        enqueue.top_up(services, broker)
    broker.away = False
    assert enqueue.top_up(services, broker) == 3


def test_nothing_is_queued_while_charging_is_stopped(services: Services) -> None:
    customers(services, 1)
    operate.stop_charging(services, "test", "a fire", "main")
    assert enqueue.top_up(services, Broker()) == 0


def test_nothing_more_is_queued_while_nobody_takes_what_waits(services: Services) -> None:
    """A gateway that hangs drains nothing; without the guard each patience would send every charge once more."""
    customers(services, 3)
    broker, bound = Broker(), services.settings.queue_bound
    assert enqueue.top_up(services, broker, lambda: bound) == 0
    assert broker.taken == []
    assert enqueue.top_up(services, broker, lambda: bound - 1) == 3


def test_what_was_asked_for_goes_before_tries_again_and_those_before_renewals(services: Services) -> None:
    """Whatever has been due for longer."""
    customers(services, 3)
    renewal, again, asked = (charge["id"] for charge in charge_rows(services))
    with services.engine.begin() as db:
        db.execute(text("UPDATE charges SET attempts = 1 WHERE id = :charge"), {"charge": again})
        db.execute(
            text(
                "UPDATE charges SET kind = 'adhoc', subscription_id = NULL, request_key = 'wanted', "
                "request_fingerprint = 'x', next_attempt_at = next_attempt_at + interval '1 hour' "
                "WHERE id = :charge"
            ),
            {"charge": asked},
        )
    move(services, hours=2)
    object.__setattr__(services, "settings", services.settings.model_copy(update={"queue_bound": 1}))
    sent = []
    for _ in range(3):
        broker = Broker()
        enqueue.top_up(services, broker)
        sent += broker.taken
        with services.engine.begin() as db:
            db.execute(
                text("UPDATE charges SET held_why = 'taken', queued_until = NULL WHERE queued_until > now()")
            )
            db.execute(
                text("UPDATE charges SET held_why = 'taken', queued_until = NULL WHERE id = :charge"),
                {"charge": sent[-1]},
            )
    assert sent == [asked, again, renewal]


def test_a_backlog_goes_in_envelopes(services: Services) -> None:
    customers(services, enqueue.MANY)
    sent: list[int] = []
    sizes: list[int] = []

    def envelopes(many: Sequence[enqueue.Envelope]) -> None:
        for each in many:
            sent.extend(each.charge_ids)
            sizes.append(len(each.charge_ids))
            assert each.account == "main"

    assert enqueue.top_up(services, Broker(), publish_many=envelopes) == enqueue.MANY
    assert sorted(sent) == [charge["id"] for charge in charge_rows(services)]
    assert sizes == [enqueue.MOST_IN_ENVELOPE] * 2


def test_no_account_stands_behind_another(services: Services) -> None:
    """Threads that wait for the moments of one account's cap must not all be there before the other's turn."""
    customers(services, 8)
    with services.engine.begin() as db:
        db.execute(text("UPDATE charges SET account = 'other' WHERE id % 4 = 0"))
    both = replace(services, gateways={**services.gateways, "other": services.gateways["main"]})
    object.__setattr__(both, "accounts", {"other": services.settings.main_account})
    broker = Broker()
    enqueue.top_up(both, broker)
    assert [charge % 4 == 0 for charge in broker.taken].index(True) < 4
    assert [charge % 4 == 0 for charge in broker.taken[4:]].index(True) < 4


def test_few_charges_go_one_by_one(services: Services) -> None:
    customers(services, 3)
    broker = Broker()
    enqueue.top_up(services, broker, publish_many=lambda *_: pytest.fail("an envelope for three"))
    assert len(broker.taken) == 3


def test_no_more_is_queued_than_the_cap_lets_go_soon(services: Services) -> None:
    """What waits in the broker stands before whatever is asked for now."""
    customers(services, 30)
    object.__setattr__(services, "settings", services.settings.model_copy(update={"rate": 6}))
    assert enqueue.top_up(services, Broker()) == 24


def test_what_a_worker_has_no_room_for_is_queued_again_soon(services: Services) -> None:
    customers(services, 2)
    broker = Broker()
    enqueue.top_up(services, broker)
    enqueue.give_back(services, broker.taken)
    assert enqueue.top_up(services, Broker()) == 0
    move(services, seconds=enqueue.GIVEN_BACK.total_seconds())
    assert enqueue.top_up(services, Broker()) == 2
