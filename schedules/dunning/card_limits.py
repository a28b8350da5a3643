"""How long a card's limit lasts, as far as the words of a decline say: until tomorrow, or until the next month."""

import re
import unicodedata
from enum import Enum


class LimitSpan(Enum):
    """When a limit begins anew."""

    DAY = "day"
    MONTH = "month"


# `일` is a day and the end of many words, `월` a month: what may stand behind them tells.
_WHAT = "(최대|승인|통합|한도|사용|이용|결제|누적|거래|지급|간)"
_MONTH = re.compile(f"월{_WHAT}|당월|한달|1개월|monthly|permonth")
_DAY = re.compile(f"일일|1일|일{_WHAT}|금일|당일|daily|oneday|perday")


def limit_span(text: str) -> LimitSpan | None:
    """What a decline for a limit says of it; None when it does not say, or means a single payment."""
    plain = re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", text)).casefold()
    if _MONTH.search(plain):
        return LimitSpan.MONTH
    return LimitSpan.DAY if _DAY.search(plain) else None
