"""The plans of lists: each page is read from an index, and no statement reads more rows than a page may."""

from datetime import timedelta
from typing import Any

import pytest

from schedules.charging.charges import AttemptState, ChargeStatus, SubscriptionStatus
from tests.factories import START
from tests.store.plans import LARGE, fill, forget_figures, nodes, seen
from worker.reporting import customer_reads, listing
from worker.reporting.listing import ATTEMPTS, CHARGES, CUSTOMERS, SUBSCRIPTIONS, Filters, Kind
from worker.services import Services
from worker.store.reporting.pages import READ_AT_ONCE

DAY = START.date() - timedelta(days=31)  # on which each of the charges was due
LISTS: list[tuple[Kind[Any], Filters]] = [
    (CUSTOMERS, Filters()), (CUSTOMERS, Filters(plan="monthly")), (CUSTOMERS, Filters(account="main")),
    (CUSTOMERS, Filters(card="customer-7")),
    (SUBSCRIPTIONS, Filters()), (SUBSCRIPTIONS, Filters(plan="monthly", account="main")),
    (SUBSCRIPTIONS, Filters(card="customer-7")), (SUBSCRIPTIONS, Filters(held=True)),
    (SUBSCRIPTIONS, Filters(day=START.date())), (SUBSCRIPTIONS, Filters(day=START.date(), plan="monthly")),
    *((SUBSCRIPTIONS, Filters(state=state)) for state in SubscriptionStatus),
    (CHARGES, Filters()), (CHARGES, Filters(plan="monthly", account="main")), (CHARGES, Filters(held=True)),
    (CHARGES, Filters(day=DAY)), (CHARGES, Filters(day=DAY, plan="monthly", state=ChargeStatus.PAID)),
    (CHARGES, Filters(card="customer-7")), (CHARGES, Filters(card="customer-7", day=DAY)),
    *((CHARGES, Filters(state=status)) for status in ChargeStatus),
    (ATTEMPTS, Filters()), (ATTEMPTS, Filters(plan="monthly")), (ATTEMPTS, Filters(day=DAY)),
    (ATTEMPTS, Filters(card="customer-7")), (ATTEMPTS, Filters(day=DAY, state=AttemptState.PAID)),
    *((ATTEMPTS, Filters(state=state)) for state in AttemptState),
]  # fmt: skip


def faults(statement: str, node: dict[str, Any], *, limited: bool = False) -> list[str]:
    """Large tables that a plan reads through, long walks without a limit, and sorts of many rows."""
    limited = limited or node["Node Type"] == "Limit"
    found = []
    if node.get("Relation Name") in LARGE:
        is_walk = "Index" in node["Node Type"] and "Index Cond" not in node
        if node["Node Type"] == "Seq Scan" or (is_walk and not limited and node["Plan Rows"] > READ_AT_ONCE):
            found.append(
                f"{node['Node Type']} of {node.get('Index Name', node['Relation Name'])}: {statement[:300]}"
            )
    if node["Node Type"] == "Sort" and node["Plan Rows"] > 2 * (READ_AT_ONCE + 1):
        found.append(f"sorts {node['Plan Rows']} rows: {statement[:300]}")
    if limited and node["Node Type"] in ("Sort", "Hash", "Aggregate", "Unique"):
        limited = False  # these read all of what is below them before the first row is there
    return found + [each for child in node.get("Plans", ()) for each in faults(statement, child, limited=limited)]


@pytest.mark.parametrize("analyzed", [True, False], ids=["with figures", "as if it were new"])
def test_every_page_of_every_list_is_read_by_an_index_in_its_order(services: Services, analyzed: bool) -> None:
    fill(services)
    if not analyzed:
        forget_figures(services)
    wrong = {}
    for kind, filters in LISTS:
        with seen(services) as plans:
            first = listing.page(services, kind, filters, None, 50)
            if first.next is not None:
                listing.page(services, kind, filters, first.next, 50)
        found = [each for made, plan in plans.items() for each in faults(made, plan[0][0]["Plan"])]
        if found:
            wrong[f"{kind.name} {filters}"] = found
    assert wrong == {}


@pytest.mark.parametrize("analyzed", [True, False], ids=["with figures", "as if it were new"])
def test_what_is_read_of_a_customer_is_found_by_an_index(services: Services, analyzed: bool) -> None:
    fill(services)
    if not analyzed:
        forget_figures(services)
    with seen(services) as plans:
        for read in (customer_reads.charges_of, customer_reads.subscriptions_of, customer_reads.cards_of):
            assert len(read(services, "customer-7", None, 50).rows) == 1
        assert len(customer_reads.standings(services, None, None, "customer-7")) == 1
    assert [each for made, plan in plans.items() for each in faults(made, plan[0][0]["Plan"])] == []
    assert len(plans) >= 6


def test_a_page_reads_a_bounded_number_of_rows_where_the_filters_leave_none(services: Services) -> None:
    """20,000 charges, none of which is refunded or of this plan: the page ends, or says where to read on."""
    fill(services)
    with seen(services) as plans:
        found = listing.page(services, CHARGES, Filters(account="main", state=ChargeStatus.OPEN), None, 50)
    assert (found.rows, found.next) == ([], None)
    rows = [node["Plan Rows"] for made in plans.values() for node in nodes(made[0][0]["Plan"])]
    assert max(rows) <= 2 * READ_AT_ONCE
