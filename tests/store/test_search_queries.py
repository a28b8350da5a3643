"""The plans of a search: each statement uses an index, for any text and any number of matches."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.store.plans import LARGE, fill, forget_figures, nodes, seen
from worker.reporting import customer_story, explain, find
from worker.reporting.customer_story import CustomerStory
from worker.reporting.find import By
from worker.services import Services

# Indexes of what is owed or under way alone: where that is next to nothing, as here, one is read as a whole.
SHORT = {"ix_charges_owed_by_card", "ix_charges_owed"}
FEW = 2500  # rows that a sort may be thought to take
SEARCHED = LARGE | {"archived_attempts"}
# A tenth of the people have the same beginning of the name, and a tenth of the cards the same last digits.
PEOPLE = (
    "UPDATE customers SET name = CASE id % 10 WHEN 0 THEN '김민' || id ELSE 'Person ' || id END, "
    "email = 'person' || id || '@example.com', tel = '010-' || lpad((id / 10000)::text, 4, '0') || '-' || "
    "lpad((id % 10000)::text, 4, '0')",
    "UPDATE billing_keys SET card_number = '5333****' || CASE id % 10 WHEN 0 THEN '1111' "
    "ELSE lpad((id % 10000)::text, 4, '0') END",
    "UPDATE subscriptions SET external_ref = 'Old-' || id",
    "INSERT INTO archived_attempts (id, charge_id, number, merchant_uid, state, amount, currency, fence, sends, "
    "asks, quiet_answers, last_sent_at, imp_uid, created_at, settled_at) SELECT id + 1000000, charge_id, 2, "
    "'a' || id, 'paid', amount, currency, 1, 1, 0, 0, last_sent_at, 'a' || id, created_at, settled_at "
    "FROM attempts",
)
# What is typed, and what it names.
TYPED: tuple[tuple[str, By | None], ...] = (
    ("customer-777", By.CUSTOMER_UID), ("CUSTOMER-77", By.CUSTOMER_UID),
    ("0000000000000000002a", By.KEY), ("00000000000000000", By.KEY), ("r0000000000000000002a00000", By.KEY),
    ("i777", By.IMP_UID), ("a777", By.IMP_UID), ("old-7777", By.EXTERNAL_REF), ("Old-7777", By.EXTERNAL_REF),
    ("김", By.NAME), ("김민100", By.NAME), ("person 77", By.NAME), ("person7777@", By.EMAIL),
    ("7777", By.TEL), ("010-0001-7777", By.TEL), ("****1111", By.CARD),
    ("nobody", None), ("%", None), ("x" * 400, None), ("ag1prodr0000000000000000002a000000001x", None),
)  # fmt: skip


def _fill(services: Services) -> None:
    fill(services)
    with services.engine.begin() as db:
        db.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in PEOPLE:
            db.execute(text(statement))
    with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("VACUUM ANALYZE"))


def _faults(plans: dict[str, list[Any]], *, analyzed: bool) -> list[str]:
    found = []
    for statement, made in plans.items():
        for node in (each for plan in made for each in nodes(plan[0]["Plan"])):
            name = node.get("Index Name", node.get("Relation Name"))
            is_index = "Index" in node["Node Type"] and "Index Cond" in node
            is_index |= name in SHORT
            if node.get("Relation Name") in SEARCHED and not is_index and node["Node Type"] != "Bitmap Heap Scan":
                found.append(f"{node['Node Type']} of {name}: {statement[:300]}")
            if analyzed and node["Node Type"] == "Sort" and node["Plan Rows"] > FEW:
                found.append(f"sorts {node['Plan Rows']} rows: {statement[:300]}")
    return found


@pytest.mark.parametrize("analyzed", [True, False], ids=["with figures", "as if it were new"])
def test_every_statement_of_a_search_and_of_a_customer_finds_its_rows_by_an_index(
    services: Services, analyzed: bool
) -> None:
    _fill(services)
    if not analyzed:
        forget_figures(services)
    wrong = {}
    for typed, found_by in TYPED:
        with seen(services) as plans:
            found = find.find(services, typed, 20)
        assert (found.matches[0].found_by if found.matches else None) == found_by, typed
        if faults := _faults(plans, analyzed=analyzed):
            wrong[typed[:40]] = faults
    with seen(services) as plans:
        story = customer_story.show(services, "person77@example.com")
        assert isinstance(story, CustomerStory)
        explain.why_of_customer(services, story.customer_id)
    if faults := _faults(plans, analyzed=analyzed):
        wrong["a customer"] = faults
    assert wrong == {}
