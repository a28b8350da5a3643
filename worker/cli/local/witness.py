"""The other set of books: the simulator's own side over HTTP, and our paid attempts held against its ledger."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.request import Request, urlopen

from schedules.charging.identity import parse_merchant_uid
from schedules.errors import BadUid


@dataclass(slots=True)
class Books:
    """Our books held against the simulator's ledger."""

    double: list[str] = field(default_factory=list)  # debts paid more than once there
    lost: list[str] = field(default_factory=list)  # paid there, not here
    ghost: list[str] = field(default_factory=list)  # paid here, not there
    amount: list[str] = field(default_factory=list)  # paid with another amount

    @property
    def agree(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.double or self.lost or self.ghost or self.amount)


class SimulatorWitness:
    """The simulator's own side: its cards, faults, clock and ledger, over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, path: str, document: object) -> Any:
        """Post a document to the simulator's own side."""
        body = json.dumps(document).encode()
        request = Request(f"{self._url}/_simulator/{path}", body, {"Content-Type": "application/json"})  # noqa: S310 # our own http:// address
        with urlopen(request, timeout=30) as answer:  # noqa: S310 # as above
            return json.load(answer)

    def now(self) -> datetime:
        """What the simulator's clock shows."""
        with urlopen(f"{self._url}/_simulator/clock", timeout=10) as answer:  # noqa: S310 # as above
            return datetime.fromtimestamp(json.load(answer)["now"], UTC)

    def summary(self) -> Any:
        """The ledger in a few numbers."""
        with urlopen(f"{self._url}/_simulator/ledger/summary", timeout=30) as answer:  # noqa: S310 # as above
            return json.load(answer)

    def movements(self) -> Iterator[Mapping[str, Any]]:
        """Every movement of money, in order."""
        after = 0
        while True:
            with urlopen(f"{self._url}/_simulator/ledger?after={after}&limit=5000", timeout=30) as answer:  # noqa: S310 # as above
                page = json.load(answer)["movements"]
            if not page:
                return
            yield from page
            after += len(page)


def compare(movements: Iterator[Mapping[str, Any]], paid: Mapping[str, int]) -> Books:
    """Hold the ledger's charges against our paid attempts, by merchant_uid and by debt."""
    books = Books()
    debts: Counter[str] = Counter()
    there: dict[str, int] = {}
    for movement in movements:
        if movement["kind"] != "charge":
            continue
        uid = str(movement["uid"])
        there[uid] = int(movement["amount"])
        try:
            debts[parse_merchant_uid(uid).charge_key] += 1
        except BadUid:
            books.lost.append(uid)
    books.double = [key for key, count in debts.items() if count > 1]
    books.lost += [uid for uid in there if uid not in paid]
    books.ghost = [uid for uid in paid if uid not in there]
    books.amount = [uid for uid, amount in paid.items() if there.get(uid, amount) != amount]
    return books
