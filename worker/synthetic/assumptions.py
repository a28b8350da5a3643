"""Every number of the model, explained in docs/explanation/dunning-model.md, and its variations."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from types import MappingProxyType

MONTH_END = 31  # as a payday


def _numbers(**shares: float) -> Mapping[int, float]:
    return MappingProxyType({int(name.lstrip("_")): share for name, share in shares.items()})


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the model takes for true. Shares are weights: they need not sum to one."""

    # The hidden reasons of first declines.
    no_money: float = 0.48
    limit_day: float = 0.02
    limit_month: float = 0.04
    limit_card_month: float = 0.06
    vague_no_money: float = 0.06
    vague_passing: float = 0.04
    vague_dead: float = 0.04
    outdated: float = 0.14
    lost: float = 0.04
    issuer_down: float = 0.05
    line_fault: float = 0.03

    # How money comes to those who had none.
    payday_bound: float = 0.70
    irregular: float = 0.20
    never: float = 0.10
    paydays: Mapping[int, float] = field(
        default_factory=lambda: _numbers(
            _1=0.03, _5=0.06, _10=0.25, _15=0.10, _17=0.03, _20=0.07, _21=0.08, _25=0.28, _31=0.10
        )
    )
    paid_before_day_off: float = 0.85
    arrives_earliest_hour: float = 0.0
    arrives_mostly_hour: float = 9.0
    arrives_latest_hour: float = 16.0
    debited_at_once: float = 0.10
    money_lasts_days: float = 6.0
    money_lasts_shape: float = 1.0
    irregular_gap_days: float = 12.0
    irregular_lasts_days: float = 4.0
    stray_gap_days: float = 25.0
    stray_lasts_days: float = 1.5

    # How the other reasons pass.
    limit_hit_again: float = 0.25
    vague_passes_hours: float = 24.0
    issuer_down_hours: float = 3.0
    line_fault_hours: float = 1.0
    night_closed: float = 0.85

    # What customers do: another card after the first notice, another way to pay, or leaving.
    mends_no_money: float = 0.06
    mends_limit: float = 0.12
    mends_vague: float = 0.15
    mends_outdated: float = 0.45
    mends_lost: float = 0.25
    mends_after_days: float = 3.0
    mends_lost_after_days: float = 9.0
    pays_otherwise_within_month: float = 0.03
    leaves_within_month: float = 0.12

    # When the first declines happen.
    begins: date = date(2027, 3, 1)
    over_days: int = 61
    billing_hours: Mapping[int, float] = field(
        default_factory=lambda: _numbers(
            _0=0.06, _6=0.06, _8=0.06, _9=0.34, _10=0.16, _11=0.08, _13=0.08, _15=0.08, _18=0.05, _20=0.03
        )
    )
    prices: Mapping[int, float] = field(
        default_factory=lambda: _numbers(
            _4900=0.14, _9900=0.32, _14900=0.22, _29000=0.18, _49000=0.10, _99000=0.04
        )
    )

    def told(self) -> Mapping[str, str]:
        """Each number as the docs write it."""
        return {part.name: _words(getattr(self, part.name)) for part in fields(self)}


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {share}" for name, share in value.items())
    return str(value)


PUBLISHED = Assumptions()
DOUBTS: Mapping[str, Assumptions] = MappingProxyType(
    {
        "published": PUBLISHED,
        "first-draft": replace(
            PUBLISHED, no_money=0.45, outdated=0.16, lost=0.05, payday_bound=0.65, irregular=0.20, never=0.15
        ),
        "few-payday-bound": replace(PUBLISHED, payday_bound=0.40, irregular=0.50),
        "other-paydays": replace(
            PUBLISHED, paydays=_numbers(_1=0.15, _5=0.25, _10=0.10, _17=0.10, _20=0.25, _25=0.15)
        ),
        "afternoon-money": replace(PUBLISHED, arrives_mostly_hour=14.0, arrives_latest_hour=20.0),
        "money-lasts-3-days": replace(PUBLISHED, money_lasts_days=3.0),
        "money-lasts-12-days": replace(PUBLISHED, money_lasts_days=12.0),
        "money-lasts-as-surveyed": replace(PUBLISHED, money_lasts_days=12.0, money_lasts_shape=4.0),
        "less-no-money": replace(PUBLISHED, no_money=0.30, outdated=0.24, limit_card_month=0.10),
        "more-dead-cards": replace(PUBLISHED, lost=0.12, vague_dead=0.10, outdated=0.24),
        "few-menders": replace(PUBLISHED, mends_outdated=0.20, mends_lost=0.10, mends_vague=0.05),
        "no-notices": replace(
            PUBLISHED,
            mends_no_money=0.0,
            mends_limit=0.0,
            mends_vague=0.0,
            mends_outdated=0.0,
            mends_lost=0.0,
            pays_otherwise_within_month=0.0,
        ),
        "nobody-leaves": replace(PUBLISHED, leaves_within_month=0.0),
    }
)
