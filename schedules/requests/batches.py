"""Batches: many charges requested together, read line by line, checked as a whole before the first charge."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from schedules.errors import BadMoney, BadRequest, Code
from schedules.money.amounts import MINOR_DIGITS, Money, parse_money
from schedules.requests.adhoc import LONGEST_REQUEST_KEY, LONGEST_UID, ChargeRequest, checked_words, digest
from schedules.texts import cleaned

COLUMNS = ("customer_uid", "amount", "currency", "name", "request_key")
NEEDED = ("customer_uid", "amount")
MOST_LARGEST = 10
MOST_SHOWN = 1000  # bad lines that are stored; further ones are only counted


class BatchState(StrEnum):
    """The state of a batch. docs/reference/states.md has a paragraph for each."""

    DRAFT = "draft"
    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"
    DROPPED = "dropped"


def held_words(key: str) -> str:
    """Why the charges of a stopped batch are held."""
    return f"batch {key} is stopped"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a batch as received: its number in the file, and its columns."""

    number: int
    columns: Mapping[str, str]
    wrong: str | None = None  # it could not be split into columns


@dataclass(frozen=True, slots=True)
class BadLine:
    """What is wrong with a line."""

    number: int
    column: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The defaults for every line of a batch."""

    key: str  # of the batch: given again, it is the same batch
    name: str
    reason: str
    policy: str
    currency: str = "KRW"
    canary: int = 0  # lines that are charged first and checked before the others; 0 is none
    canary_bound: Decimal = Decimal(20)  # percent of them that may fail
    repeats: str = ""  # key of an earlier batch with the same lines that is intentionally charged again

    def __post_init__(self) -> None:
        checked_words("key", self.key, LONGEST_UID)
        if self.canary < 0:
            raise BadRequest(Code.INVALID, "canary", f"{self.canary} is below 0")
        if not 0 <= self.canary_bound <= 100:
            raise BadRequest(
                Code.INVALID, "canary_bound", f"{self.canary_bound} is not a percentage between 0 and 100"
            )
        if self.currency not in MINOR_DIGITS:
            raise BadRequest(
                Code.INVALID, "currency", f"{self.currency!r} is not known; take one of {', '.join(MINOR_DIGITS)}"
            )

    def allows(self, failed: int) -> bool:
        """Whether so many failures are within the bound: at most that percentage of the canary, not rounded up."""
        return failed * 100 <= self.canary_bound * self.canary


def line_digest(line: Line, request: ChargeRequest) -> int:
    """Return a hash of a line's customer, amount, currency and own request key.

    Two batches with the same lines in any order have the same sum of these, modulo 2**256.
    """
    own_key = (line.columns.get("request_key") or "").strip()
    parts = (request.customer_uid, request.money.amount, request.money.currency, own_key)
    return int(digest("line", *parts), 16)


def checked_columns(names: list[str]) -> None:
    """Raise BadRequest unless a file's first line names the columns that a batch has."""
    for name in NEEDED:
        if name not in names:
            raise BadRequest(
                Code.INVALID, name, f"the first line has no such column; there are {', '.join(COLUMNS)}"
            )
    for name in names:
        if name not in COLUMNS:
            raise BadRequest(Code.INVALID, name, f"there is no such column; there are {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise BadRequest(Code.INVALID, name, "the first line has this column twice")


def read_line(line: Line, terms: Terms) -> ChargeRequest:
    """The charge that a line asks for; BadRequest names the column that is wrong.

    Without a request key of its own it has one of the batch's key and the line's number.
    """
    if line.wrong is not None:
        raise BadRequest(Code.INVALID, "line", line.wrong)
    said = {name: cleaned(name, (line.columns.get(name) or "").strip()) for name in COLUMNS}
    checked_words("customer_uid", said["customer_uid"], LONGEST_UID)
    try:
        money = parse_money(said["amount"], said["currency"] or terms.currency)
    except BadMoney as error:
        raise BadRequest(Code.INVALID, "currency" if "currency" in str(error) else "amount", str(error)) from None
    request_key = said["request_key"] or f"{terms.key}/{line.number}"
    checked_words("request_key", request_key, LONGEST_REQUEST_KEY)
    return ChargeRequest(
        customer_uid=said["customer_uid"], money=money, name=said["name"] or terms.name,
        request_key=request_key, reason=terms.reason, policy=terms.policy,
    )  # fmt: skip


@dataclass(slots=True)
class Preview:
    """The totals of a batch, added line by line; only the largest lines are kept."""

    count: int = 0
    sums: dict[str, int] = field(default_factory=dict)  # minor units by currency
    _largest: list[tuple[int, int, str, str]] = field(default_factory=list)

    def count_line(self, number: int, customer_uid: str, money: Money) -> None:
        """Add a line."""
        self.count += 1
        self.sums[money.currency] = self.sums.get(money.currency, 0) + money.amount
        entry = (money.amount, -number, customer_uid, money.currency)
        if len(self._largest) < MOST_LARGEST:
            heapq.heappush(self._largest, entry)
        else:
            heapq.heappushpop(self._largest, entry)

    @property
    def largest(self) -> list[tuple[int, str, Money]]:
        """The largest amounts, largest first: line, customer and amount."""
        ordered = sorted(self._largest, reverse=True)
        return [(-number, uid, Money(amount, currency)) for amount, number, uid, currency in ordered]
