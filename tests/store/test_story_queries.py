"""The plans of a history: every statement finds its rows by an index, and reads no table through."""

from datetime import timedelta
from typing import Any

from tests.store.plans import LARGE, fill, nodes, seen
from worker.reporting import explain, history
from worker.services import Services
from worker.store.reporting.stories import Page

READ = LARGE | {"archived_attempts", "archived_attempt_events", "archived_outbox"}

SHORT = {"ix_charges_owed", "ix_charges_owed_by_card"}  # of what is owed alone: one may be read as a whole


def _reads_through(node: dict[str, Any]) -> bool:
    """Whether a node of a plan reads a table, or an index, from its beginning to its end."""
    is_walk = "Index" in node["Node Type"] and "Index Cond" not in node and node.get("Index Name") not in SHORT
    table = node.get("Relation Name")  # the archive is empty here
    return (node["Node Type"] == "Seq Scan" and table in READ) or (is_walk and table in LARGE)


def test_every_statement_of_a_history_finds_its_rows_by_an_index(services: Services) -> None:
    fill(services)
    subscription = f"{77:020x}"
    wrong: dict[str, dict[str, Any]] = {}
    before = services.clock.now() + timedelta(days=1000)
    for key in (subscription, f"r{subscription}00000"):
        for page in (Page(), Page(before, 200)):
            with seen(services) as plans:
                assert history.show(services, key, page=page).happenings
                assert explain.why(services, key)
            wrong |= {
                statement: node
                for statement, made in plans.items()
                for node in nodes(made[0][0]["Plan"])
                if _reads_through(node)
            }
    assert wrong == {}
