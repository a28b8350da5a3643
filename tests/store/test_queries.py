"""The hot statements' plans: each finds its rows by an index, reads no table through, and sorts no backlog."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Declined, Paid, Unknown
from tests.doubles import ScriptedGateway
from tests.store.plans import LARGE, MANY, fill, forget_figures, nodes, seen
from worker.charging import attempt_charge, overdue, resolve_unknown, unsendable
from worker.charging.claim import Claimed, claim_many
from worker.charging.rate_limiter import SlotRequest, request_permits
from worker.charging.settle import Answered, settle_plain
from worker.operations import health
from worker.renewals import enqueue, open_charges
from worker.services import Services
from worker.store.customers import rival_subscriptions
from worker.store.customers.rival_subscriptions import Wanted

# Indexes that hold what is under way or in trouble alone, or that are read in their order up to a limit.
SHORT = {
    "ix_charges_in_flight", "ix_charges_waiting", "ix_charges_held", "one_unresolved_attempt_for_each_charge",
    "ix_outbox_dead",
}  # fmt: skip
FEW = 2500  # rows that a sort may be thought to take: a batch, never a backlog
BACKLOG = (
    "UPDATE charges SET status = 'open', closed_at = NULL, next_attempt_at = CAST(:now AS timestamptz) - "
    "(:many - id) * interval '1 second' WHERE id <= :many / 10"
)


def _faults(plans: dict[str, list[Any]]) -> list[str]:
    faults = []
    for statement, made in plans.items():
        for node in nodes(made[0][0]["Plan"]):
            if node["Node Type"] == "Seq Scan" and node.get("Relation Name") in LARGE:
                faults.append(f"reads {node['Relation Name']} through: {statement}")
            is_walk = "Index" in node["Node Type"] and "Index Cond" not in node
            if is_walk and node.get("Relation Name") in LARGE and node.get("Index Name") not in SHORT:
                faults.append(f"walks through {node['Index Name']}: {statement}")
            if node["Node Type"] == "Sort" and node["Plan Rows"] > FEW:
                faults.append(f"sorts {node['Plan Rows']} rows: {statement}")
    return faults


def _wait_for_call(services: Services, charge_id: int, claimed: Claimed) -> None:
    """Try a charge, as a person does, for whose card another call is under way."""
    to_card = "SELECT billing_key_id FROM charges WHERE id = :claimed"
    change = f"UPDATE charges SET tried_by = 'person', billing_key_id = ({to_card}) WHERE id = :charge"
    with services.engine.begin() as db:
        db.execute(text(change), {"charge": charge_id, "claimed": claimed.charge_id})
    assert attempt_charge.attempt(services, charge_id) is None


def _dun(services: Services, charge_id: int, other_id: int) -> None:
    """Make a charge one that was declined, whose card has stopped and has another debt."""
    statements = (
        "INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, "
        "last_sent_at, created_at, settled_at, answer, decline_class, decline_rule) SELECT id, 1, 'dunned', "
        "'declined', amount, currency, 1, 1, due_at, due_at, due_at, '{}', 'money_short', 'x@1' "
        "FROM charges WHERE id = :charge",
        "UPDATE charges SET status = 'past_due', attempts = 1, declines = 1, first_declined_at = due_at, "
        "ladder_began_at = due_at WHERE id = :charge",
        "UPDATE charges SET billing_key_id = (SELECT billing_key_id FROM charges WHERE id = :charge) "
        "WHERE id = :other",
        "UPDATE billing_keys SET stopped_as = 'never_again' "
        "WHERE id = (SELECT billing_key_id FROM charges WHERE id = :charge)",
    )
    with services.engine.begin() as db:
        for statement in statements:
            db.execute(text(statement), {"charge": charge_id, "other": other_id})


@pytest.mark.parametrize("analyzed", [True, False], ids=["with figures", "as if it were new"])
def test_every_hot_statement_finds_its_rows_through_an_index(
    services: Services, gateway: ScriptedGateway, analyzed: bool
) -> None:
    """Without figures the planner takes tables for empty, as on the first day of a shop that grows fast."""
    fill(services)
    if not analyzed:
        forget_figures(services)
    queued: list[int] = []
    with seen(services) as plans:
        going = iter([True, True, False])
        assert open_charges.open_due(services, going_on=lambda: next(going)) == 2 * open_charges.BATCH
        assert open_charges.open_due(services, 1, going_on=iter([True, False]).__next__) == open_charges.BATCH
        enqueue.top_up(services, lambda messages: queued.extend(each.charge_id for each in messages))
        claimed = [each for each in claim_many(services, queued[:64]) if isinstance(each, Claimed)]
        assert len(claimed) == 64
        request_permits(services, [SlotRequest(each.intent.id, "main", 50) for each in claimed])
        for each in claimed[:10]:
            paid = Answered(each.intent, AttemptState.SENDING, Paid(f"imps_{each.intent.id}"))
            settle_plain(services, [paid])
        gateway.answers.append(Unknown("ReadTimeout"))
        attempt_charge.attempt(services, queued[64])
        gateway.answers.append(Declined("no money"))
        attempt_charge.attempt(services, queued[65])
        attempt_charge.attempt(services, queued[66])
        _wait_for_call(services, queued[67], claimed[20])
        _dun(services, queued[70], queued[71])
        assert claim_many(services, queued[70:80])[0] is None
        assert claim_many(services, queued[71:72]) == [None]
        settled = attempt_charge.settle_call(services, claimed[20], Paid("imps_of_card"))
        assert settled is AttemptState.PAID
        clock = services.clock
        object.__setattr__(clock, "at", clock.now() + timedelta(hours=1))
        resolve_unknown.sweep(services)
        for attempt in list(resolve_unknown.due_asks(services))[:2]:
            resolve_unknown.ask(services, attempt)
        overdue.look_due(services)
        unsendable.set_aside_unsendable(services)
        with services.engine.begin() as db:
            wanted = Wanted(customer_id=7, plan="monthly", starts_at=services.clock.now())
            assert rival_subscriptions.find(db, wanted) is not None
            assert rival_subscriptions.find(db, replace(wanted, plan="other")) is None
            assert rival_subscriptions.trial_used(db, 7, "monthly") is None
    assert len(plans) > 20
    assert "\n".join(fault[:150].replace("\n", " ") for fault in _faults(plans)) == ""


@pytest.mark.parametrize("backlog", [False, True])
def test_the_status_reads_no_table_through(services: Services, backlog: bool) -> None:
    """Its cost grows with what is due or owed, not with what was ever charged.

    The oldest charge and the oldest period of each account are read from the beginning of an index.
    """
    fill(services)
    if backlog:
        with services.engine.begin() as db:
            db.execute(text("SET LOCAL session_replication_role = replica"))
            db.execute(text(BACKLOG), {"many": MANY, "now": services.clock.now()})
    with seen(services) as plans:
        found = health.examine(services, {})
    assert found.counts["due"] == (MANY // 10 if backlog else 0)
    assert [(each.account, each.subscription) for each in found.unopened] == [("main", f"{1:020x}")]
    for its in found.accounts:
        assert its.oldest_key == (f"r{1:020x}00000" if backlog and its.account == "main" else None)
    assert len(plans) > 8
    for first in ("ORDER BY next_attempt_at LIMIT 1", "ORDER BY open_at LIMIT", "ORDER BY id DESC LIMIT 1"):
        (plan,) = (made for statement, made in plans.items() if first in statement)
        limits = [node for node in nodes(plan[0][0]["Plan"]) if node["Node Type"] == "Limit"]
        assert limits
        assert {node["Plans"][0]["Node Type"] for node in limits} <= {"Index Scan", "Index Only Scan"}
    # These hold what is owed, and what is unknown.
    counted = ("walks through ix_charges_owed_by_card:", "walks through ix_attempts_to_ask:")
    assert [fault for fault in _faults(plans) if not fault.startswith(counted)] == []
