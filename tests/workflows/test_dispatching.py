"""Dispatching: a bounded queue, oldest first, and nothing lost with the broker."""

from collections.abc import Sequence

import pytest

from schedules.charges import ChargeKind
from tests.factories import charge_rows, move, on_sale, subscribed
from worker.workflows import dispatching, opening, operating
from worker.workflows.services import Services


class Broker:
    """Takes messages, unless it is away."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.away = False

    def __call__(self, queued: Sequence[tuple[int, ChargeKind]]) -> None:
        if self.away:
            raise dispatching.BrokerUnreachable("away")
        self.taken += [charge_id for charge_id, _ in queued]


def customers(services: Services, count: int) -> None:
    """So many customers, each with a charge that is due."""
    on_sale(services)
    for number in range(count):
        subscribed(services, f"customer-{number}")
    opening.open_due(services)


def test_each_due_charge_is_queued_once(services: Services) -> None:
    customers(services, 5)
    broker = Broker()
    assert [dispatching.top_up(services, broker) for _ in range(3)] == [5, 0, 0]
    assert sorted(broker.taken) == [charge["id"] for charge in charge_rows(services)]


def test_no_more_than_the_bound_waits_in_the_broker(services: Services) -> None:
    customers(services, 5)
    object.__setattr__(services, "settings", services.settings.model_copy(update={"queue_bound": 2}))
    assert [dispatching.top_up(services, Broker()) for _ in range(2)] == [2, 0]


def test_the_charges_that_are_due_longest_go_first(services: Services) -> None:
    customers(services, 2)
    move(services, days=1)
    subscribed(services, "late")
    opening.open_due(services)
    broker = Broker()
    object.__setattr__(services, "settings", services.settings.model_copy(update={"queue_bound": 2}))
    dispatching.top_up(services, broker)
    oldest = [charge["id"] for charge in charge_rows(services)][:2]
    assert sorted(broker.taken) == oldest


def test_messages_that_a_broker_lost_are_sent_again_after_the_patience(services: Services) -> None:
    """Crash rows 2 and 4."""
    customers(services, 3)
    dispatching.top_up(services, Broker())
    move(services, seconds=services.settings.queue_patience + 1)
    broker = Broker()
    assert dispatching.top_up(services, broker) == 3


def test_a_broker_that_is_away_leaves_everything_due(services: Services) -> None:
    customers(services, 3)
    broker = Broker()
    broker.away = True
    with pytest.raises(dispatching.BrokerUnreachable):
        dispatching.top_up(services, broker)
    broker.away = False
    assert dispatching.top_up(services, broker) == 3


def test_nothing_is_queued_while_charging_is_stopped(services: Services) -> None:
    customers(services, 1)
    operating.stop_charging(services, "test", "a fire", "main")
    assert dispatching.top_up(services, Broker()) == 0


def test_nothing_more_is_queued_while_nobody_takes_what_waits(services: Services) -> None:
    """A gateway that hangs drains nothing; without the guard each patience would send every charge once more."""
    customers(services, 3)
    sent: list[int] = []
    bound = services.settings.queue_bound
    assert dispatching.top_up(services, lambda queued: sent.extend(i for i, _ in queued), lambda: bound) == 0
    assert sent == []
    assert dispatching.top_up(services, lambda queued: sent.extend(i for i, _ in queued), lambda: bound - 1) == 3
