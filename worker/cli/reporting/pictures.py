"""The sums of a forecast by day as a PNG, with a panel for each currency."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.money.amounts import MINOR_DIGITS
from worker.synthetic.pictures import blank, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from worker.reporting.billing_forecast import DaySum, Totals

WIDTH, PANEL = 11.0, 3.4  # inches
COLOUR = "#1f5fa8"


class Picture:
    """A PNG file; created before the work, so that missing packages are reported first."""

    def __init__(self, where: Path) -> None:
        blank(WIDTH, PANEL)
        self.where = where

    def draw(self, totals: "Totals") -> None:
        """Write the PNG; an empty forecast gives an empty panel."""
        currencies = sorted({day.currency for day in totals.days})
        panels = max(1, len(currencies))
        figure = blank(WIDTH, PANEL * panels)
        figure.suptitle("Forecast: what is to be charged, if every card pays", fontsize=14)
        for axes, currency in zip(figure.subplots(panels, 1, squeeze=False)[:, 0], currencies, strict=False):
            _draw(axes, currency, [day for day in totals.days if day.currency == currency])
        save(figure, self.where)


def _draw(axes: "Axes", currency: str, days: "Sequence[DaySum]") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    scale = 10 ** MINOR_DIGITS.get(currency, 0)
    dates: Any = [day.day for day in days]  # some releases of NumPy lack the types of dates
    axes.bar(dates, [day.amount / scale for day in days], color=COLOUR)
    charges = sum(day.periods + day.debts for day in days)
    amount = sum(day.amount for day in days) / scale
    axes.set_title(f"{currency}: {charges:,} charges, {amount:,.{MINOR_DIGITS.get(currency, 0)}f}", fontsize=12)
    axes.set_ylabel(f"{currency} a day", fontsize=12)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # as above
    axes.tick_params(labelsize=11)
    axes.grid(axis="y", alpha=0.3)
