"""Sums of failed charges: cohorts by the day of the first decline, and declines by class and PG."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Date, Select, Table, cast, func, select, text, union_all

from schedules.charging.charges import AttemptState, ChargeStatus
from worker.store.tables import OWED, archived_attempts, attempts, billing_keys, charges

RECOVERED = [ChargeStatus.PAID.value, ChargeStatus.REFUNDED.value]  # including those that were refunded later


@dataclass(frozen=True, slots=True)
class Cohort:
    """The charges that were first declined in one span of days; money in minor units."""

    begins: date | None  # None for the whole report
    currency: str
    failed: int
    failed_money: int
    recovered: int
    recovered_money: int
    owed: int
    owed_money: int
    attempts: int  # of the recovered ones
    median_days: float | None  # from the first decline to the payment


@dataclass(frozen=True, slots=True)
class Failures:
    """Declines of one class at one PG; money in minor units."""

    decline_class: str | None
    pg_provider: str | None
    currency: str
    declines: int
    charges: int
    money: int  # of these charges, each counted once


def cohorts(db: Connection, since: datetime, until: datetime, zone: str, by: str | None) -> Sequence[Cohort]:
    """Cohorts of the charges first declined in a span, by local day, week or month; one for all without `by`."""
    c = charges.c
    local = func.timezone(zone, c.first_declined_at)
    begins = cast(func.date_trunc(by, local), Date) if by else cast(None, Date)
    paid, owed = c.status.in_(RECOVERED), text(OWED)
    took = func.extract("epoch", c.closed_at - c.first_declined_at) / 86_400
    query = (
        select(begins, c.currency, func.count(), func.sum(c.amount))
        .add_columns(func.count().filter(paid), func.coalesce(func.sum(c.amount).filter(paid), 0))
        .add_columns(func.count().filter(owed), func.coalesce(func.sum(c.amount).filter(owed), 0))
        .add_columns(func.coalesce(func.sum(c.attempts).filter(paid), 0))
        .add_columns(func.percentile_cont(0.5).within_group(took).filter(paid))
        .where(c.first_declined_at.is_not(None), c.first_declined_at >= since, c.first_declined_at < until)
        .group_by(begins, c.currency)
        .order_by(begins, c.currency)
    )
    return [_cohort(list(row)) for row in db.execute(query)]


def _cohort(cells: list[Any]) -> Cohort:
    begins, currency, *counts, median = cells
    failed, failed_money, recovered, recovered_money, owed, owed_money, tries = map(int, counts)
    days = None if median is None else float(median)
    return Cohort(
        begins, currency, failed, failed_money, recovered, recovered_money, owed, owed_money, tries, days
    )  # fmt: skip


def failures(db: Connection, since: datetime, until: datetime) -> Sequence[Failures]:
    """Return declines settled in a span by class and PG, the most frequent first, without voided ones."""
    declined = union_all(*(_said_no(table, since, until) for table in (attempts, archived_attempts))).subquery()
    a = declined.c
    pg = func.coalesce(a.pg_provider, billing_keys.c.pg_provider)
    each = (
        select(a.decline_class, pg.label("pg"), a.currency, func.count().label("declines"))
        .add_columns(func.max(a.amount).label("amount"))
        .join_from(declined, charges, a.charge_id == charges.c.id)
        .join(billing_keys, billing_keys.c.id == charges.c.billing_key_id)
        .group_by(a.decline_class, pg, a.currency, a.charge_id)
        .subquery()
    )
    e = each.c
    query = (
        select(e.decline_class, e.pg, e.currency, func.sum(e.declines), func.count(), func.sum(e.amount))
        .group_by(e.decline_class, e.pg, e.currency)
        .order_by(func.sum(e.declines).desc(), e.decline_class, e.pg)
    )
    return [Failures(*row[:3], *(int(cell) for cell in row[3:])) for row in db.execute(query)]


def _said_no(table: Table, since: datetime, until: datetime) -> Select[Any]:
    a = table.c
    said_no = (a.state == AttemptState.DECLINED.value) & a.answer.has_key("pg_code")
    columns = (a.charge_id, a.decline_class, a.pg_provider, a.currency, a.amount)
    return select(*columns).where(said_no, a.settled_at >= since, a.settled_at < until)
