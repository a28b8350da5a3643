"""Enrolling: a customer is put on a plan once, however often the command is sent."""

import threading
from datetime import date

import pytest

from tests.factories import on_sale, opened, subscribed
from worker.customers import enrollment
from worker.customers.enrollment import CannotEnroll
from worker.services import Services


def test_a_customer_who_is_on_the_plan_is_refused_and_told_by_which_subscription(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    with pytest.raises(CannotEnroll, match=f"by subscription {key}; say --another"):
        enrollment.subscribe(services, "ann", "monthly", "test")


def test_who_wants_another_gets_it(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    assert enrollment.subscribe(services, "ann", "monthly", "test", another=True).key != key


def test_who_has_ended_a_subscription_may_begin_again(services: Services) -> None:
    on_sale(services)
    key = subscribed(services)
    enrollment.unsubscribe(services, key, "test", "moved", at_period_end=False)
    assert enrollment.subscribe(services, "ann", "monthly", "test").key != key


def test_two_commands_at_once_begin_one_subscription(services: Services) -> None:
    """The guard: the billing key's row is locked while it is looked."""
    opened(services)
    on_sale(services, code="other")
    both = threading.Barrier(2)
    came: list[str] = []

    def subscribe() -> None:
        both.wait(10)
        try:
            enrollment.subscribe(services, "ann", "other", "test")
            came.append("begun")
        except CannotEnroll:
            came.append("refused")

    threads = [threading.Thread(target=subscribe) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(came) == ["begun", "refused"]


def test_an_anchor_that_is_more_than_five_years_away_is_refused(services: Services) -> None:
    on_sale(services)
    with pytest.raises(CannotEnroll, match="2062-01-31 is more than five years away"):
        subscribed(services, anchor=date(2062, 1, 31))
    assert enrollment.subscribe(services, "ann", "monthly", "test", date(2031, 1, 31)).anchor == date(2031, 1, 31)
