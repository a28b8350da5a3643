"""A shop in rows: customers with cards, subscriptions, and due charges, written in bulk."""

from datetime import timedelta

from benchmarks.place import Place
from schedules.calendar.cadence import Every, Unit
from schedules.dunning.policies import DunningPolicy
from schedules.money.amounts import Money
from schedules.subscriptions.plans import Plan
from worker.customers import enrollment

LADDER = DunningPolicy(ladder=(timedelta(days=3),))
MONTHLY = Plan("monthly", 1, Money(9900, "KRW"), Every(1, Unit.MONTH), "Monthly")
# The key of a subscription from its number, unordered like real keys, which may consist of hexadecimal digits.
KEY = "substr(md5(n::text), 1, 20)"
CUSTOMERS = """
    INSERT INTO customers (reference, created_at)
    SELECT 'c' || n, now() FROM generate_series(%(first)s::int, %(last)s::int) n
"""
CARDS = """
    INSERT INTO billing_keys (customer_id, customer_uid, account, created_at)
    SELECT n, 'customer-' || n, %(account)s, now() FROM generate_series(%(first)s::int, %(last)s::int) n
"""
SUBSCRIPTIONS = f"""
    INSERT INTO subscriptions (key, customer_id, billing_key_id, plan_id, anchor, status, next_period_no,
        next_period_date, next_due_at, open_at, created_at, plan_code)
    SELECT {KEY}, n, n, 1, CURRENT_DATE - 5, 'active', %(period)s, CURRENT_DATE - 5, %(due)s, %(due)s, now(),
        (SELECT code FROM plans WHERE id = 1)
    FROM generate_series(%(first)s::int, %(last)s::int) n
"""
CHARGES = f"""
    INSERT INTO charges (key, kind, subscription_id, period_no, billing_key_id, account, amount, currency, name,
        policy_id, status, due_at, next_attempt_at, created_at)
    SELECT 'r' || {KEY} || '00000', 'renewal', n, 0, n, %(account)s, 9900, 'KRW', 'Monthly', 1, 'open',
        now() - interval '1 hour' + n * interval '1 microsecond',
        now() - interval '1 hour' + n * interval '1 microsecond', now()
    FROM generate_series(%(first)s::int, %(last)s::int) n
"""


def on_sale(place: Place) -> None:
    """Write the only plan."""
    enrollment.add_plan(place.services, MONTHLY, LADDER, "benchmark")


def charges_due(place: Place, many: int, account: str = "main", first: int = 1) -> None:
    """Write `many` customers on the plan, each with one charge that has been due for an hour."""
    place.execute(
        CUSTOMERS, CARDS, SUBSCRIPTIONS, CHARGES,
        first=first, last=first + many - 1, account=account, period=1, due="2099-01-01T00:00Z",
    )  # fmt: skip


def subscribed(place: Place, many: int, due: int) -> None:
    """Write `many` customers on the plan; the period of the first `due` of them is due."""
    place.execute(CUSTOMERS, CARDS, SUBSCRIPTIONS, first=1, last=many, account="main", period=0,
               due="2099-01-01T00:00Z")  # fmt: skip
    place.execute(
        "UPDATE subscriptions SET next_due_at = now() - interval '1 hour', open_at = now() - interval '1 hour' "
        "WHERE id <= %(due)s",
        due=due,
    )
