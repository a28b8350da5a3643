"""Read from a decline's text when a card's limit starts again: tomorrow, or next month."""

import re
import unicodedata
from enum import Enum


class LimitSpan(Enum):
    """The time at which a limit starts again."""

    DAY = "day"
    MONTH = "month"


# `일` means day and also ends many words, `월` means month: the characters after them decide.
_WHAT = "(최대|승인|통합|한도|사용|이용|결제|누적|거래|지급|간)"
_MONTH = re.compile(f"월{_WHAT}|당월|한달|1개월|monthly|permonth")
_DAY = re.compile(f"일일|1일|일{_WHAT}|금일|당일|daily|oneday|perday")


def limit_span(text: str) -> LimitSpan | None:
    """Return when the limit in a decline's text starts again; None if unstated, or if it limits one payment."""
    plain = re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", text)).casefold()
    if _MONTH.search(plain):
        return LimitSpan.MONTH
    return LimitSpan.DAY if _DAY.search(plain) else None
