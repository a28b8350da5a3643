"""Approval limits: an ad-hoc charge above a limit needs a second person."""

from datetime import datetime

from sqlalchemy import Connection

from schedules.calendar.zones import local_date, zone
from schedules.money.amounts import Money, amount_words
from worker.services import Services
from worker.store.charging import allowances


def above_limit(services: Services, db: Connection, account: str, money: Money, now: datetime) -> str | None:
    """The limit that a charge exceeds; None when none, and its amount is then added to the account's day.

    An amount that needs a second person is not added to the day.
    """
    limits = services.settings.limits("charge_limit")
    if limits.exceeded_by(money):
        return f"{money} is above AGAIN_CHARGE_LIMIT, {limits.text_of(money.currency)}"
    return above_day_limit(services, db, account, money.amount, money.currency, now)


def above_day_limit(
    services: Services, db: Connection, account: str, amount: int, currency: str, now: datetime
) -> str | None:
    """Why an amount does not fit into the account's day; None when it does, and it is then added to it."""
    limits = services.settings.limits("charge_day_limit")
    day = local_date(now, zone(services.settings.zone))
    if allowances.take(db, account, day, currency, amount, limits.of(currency)):
        return None
    return (
        f"{amount_words(amount, currency)} and what was asked for before on {day} would be above "
        f"AGAIN_CHARGE_DAY_LIMIT of account {account}, {limits.text_of(currency)}"
    )
