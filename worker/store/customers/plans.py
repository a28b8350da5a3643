"""Queries of plans: immutable versions, and a revision by which beat detects changes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update

from schedules.calendar.cadence import Cron, Every, Unit
from schedules.calendar.shifts import Shift
from schedules.dunning.policies import DunningPolicy
from schedules.errors import BROKEN
from schedules.money.amounts import Money
from schedules.subscriptions.plans import CatchUp, Plan
from worker.store.customers import policies as policy_rows
from worker.store.tables import plan_revision, plans, policies


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A version of a plan, with its row id."""

    id: int
    plan: Plan
    policy: DunningPolicy  # the newest version of its policy, which new debts get
    policy_id: int
    created_at: datetime
    archived_at: datetime | None


def add(db: Connection, plan: Plan, policy: str, now: datetime) -> int:
    """Insert a version under a policy's code; one_plan_for_each_code_and_version refuses an existing number."""
    row: dict[str, Any] = {
        "code": plan.code,
        "version": plan.version,
        "price": plan.price.amount,
        "currency": plan.price.currency,
        "zone": plan.zone,
        "billing_time": plan.billing_time,
        "trial_days": plan.trial_days,
        "statement_name": plan.statement_name,
        "catch_up": plan.catch_up.value,
        "catch_up_cap": plan.catch_up_cap,
        "shift": plan.shift.value,
        "holidays": plan.holidays,
        "allow_short_months": plan.allow_short_months,
        "policy": policy,
        "created_at": now,
    }
    match plan.cadence:
        case Every(every, unit):
            row |= {"every": every, "unit": unit.value}
        case Cron(text):
            row |= {"cron": text}
    return int(db.execute(insert(plans).values(row).returning(plans.c.id)).scalar_one())


def _with_policies() -> Select[Any]:
    """All plans, each with the newest version of its policy."""
    versions = policies.alias("versions")
    newest_version = select(func.max(versions.c.version)).where(versions.c.code == plans.c.policy)
    return (
        select(plans, policies.c.id.label("policy_id"), policies.c.version.label("policy_version"))
        .add_columns(policy_rows.DOCUMENT)
        .join_from(plans, policies, policies.c.code == plans.c.policy)
        .where(policies.c.version == newest_version.scalar_subquery())
    )


_WITH_POLICIES = _with_policies()


def newest(db: Connection, code: str) -> StoredPlan | None:
    """The newest version of a plan, archived or not."""
    query = _WITH_POLICIES.where(plans.c.code == code).order_by(plans.c.version.desc()).limit(1)
    row = db.execute(query).mappings().first()
    return _read(row) if row else None


def by_code(db: Connection, code: str) -> Sequence[StoredPlan]:
    """Every version of a plan, oldest first."""
    rows = db.execute(_WITH_POLICIES.where(plans.c.code == code).order_by(plans.c.version)).mappings()
    return [_read(row) for row in rows]


def versions_of(db: Connection, code: str) -> list[int]:
    """The row ids of every version of a plan, readable or not."""
    return list(db.execute(select(plans.c.id).where(plans.c.code == code)).scalars())


def by_id(db: Connection, plan_id: int) -> StoredPlan:
    """The plan with this row id."""
    return _read(db.execute(_WITH_POLICIES.where(plans.c.id == plan_id)).mappings().one())


def listed(db: Connection, *, archived: bool = False) -> Sequence[StoredPlan]:
    """All versions of all plans by code, with or without the archived ones."""
    query = _WITH_POLICIES.order_by(plans.c.code, plans.c.version)
    if not archived:
        query = query.where(plans.c.archived_at.is_(None))
    return [_read(row) for row in db.execute(query).mappings()]


def archive(db: Connection, code: str, now: datetime) -> int:
    """Archive every version of a plan; return how many were on sale."""
    statement = update(plans).where(plans.c.code == code, plans.c.archived_at.is_(None)).values(archived_at=now)
    return int(db.execute(statement).rowcount)


def revision(db: Connection) -> int:
    """Return a number that rises with every change of a plan."""
    return int(db.execute(select(func.coalesce(func.max(plan_revision.c.revision), 0))).scalar_one())


def readable(
    db: Connection, plan_ids: Collection[int] | None = None
) -> tuple[dict[int, StoredPlan], dict[int, Exception]]:
    """Return these plans by row id, and the errors of rows that break a rule; all plans without `plan_ids`."""
    query = _WITH_POLICIES if plan_ids is None else _WITH_POLICIES.where(plans.c.id.in_(plan_ids))
    found: dict[int, StoredPlan] = {}
    broken: dict[int, Exception] = {}
    for row in db.execute(query).mappings():
        try:
            found[row["id"]] = _read(row)
        except BROKEN as error:
            broken[row["id"]] = error
    return found, broken


def _read(row: RowMapping) -> StoredPlan:
    cadence = Cron(row["cron"]) if row["cron"] is not None else Every(row["every"], Unit(row["unit"]))
    plan = Plan(
        code=row["code"],
        version=row["version"],
        price=Money(row["price"], row["currency"]),
        cadence=cadence,
        zone=row["zone"],
        billing_time=row["billing_time"],
        trial_days=row["trial_days"],
        statement_name=row["statement_name"],
        catch_up=CatchUp(row["catch_up"]),
        catch_up_cap=row["catch_up_cap"],
        shift=Shift(row["shift"]),
        holidays=row["holidays"],
        allow_short_months=row["allow_short_months"],
    )
    policy = policy_rows.read(row["policy_document"], row["policy"], row["policy_version"])
    return StoredPlan(row["id"], plan, policy, row["policy_id"], row["created_at"], row["archived_at"])
