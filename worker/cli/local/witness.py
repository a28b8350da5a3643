"""The simulator's test interface over HTTP, and a comparison of paid attempts with its ledger."""

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
class Comparison:
    """Differences between the database and the ledger of the simulator."""

    double: list[str] = field(default_factory=list)  # keys of debts paid more than once in the ledger
    lost: list[str] = field(default_factory=list)  # uids paid in the ledger only
    ghost: list[str] = field(default_factory=list)  # uids paid in the database only
    amount: list[str] = field(default_factory=list)  # uids paid with different amounts

    @property
    def agree(self) -> bool:
        """Whether there are no differences."""
        return not (self.double or self.lost or self.ghost or self.amount)


class SimulatorWitness:
    """The simulator's test interface: cards, faults, clock and ledger, over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, path: str, document: object) -> Any:
        """Post a JSON document to a path of the test interface."""
        body = json.dumps(document).encode()
        request = Request(f"{self._url}/_simulator/{path}", body, {"Content-Type": "application/json"})  # noqa: S310 # our own http:// address
        with urlopen(request, timeout=30) as answer:  # noqa: S310 # as above
            return json.load(answer)

    def now(self) -> datetime:
        """The time of the simulator's clock."""
        with urlopen(f"{self._url}/_simulator/clock", timeout=10) as answer:  # noqa: S310 # as above
            return datetime.fromtimestamp(json.load(answer)["now"], UTC)

    def summary(self) -> Any:
        """The counts and sums of the ledger."""
        with urlopen(f"{self._url}/_simulator/ledger/summary", timeout=30) as answer:  # noqa: S310 # as above
            return json.load(answer)

    def movements(self) -> Iterator[Mapping[str, Any]]:
        """Yield every movement of money in order."""
        after = 0
        while True:
            with urlopen(f"{self._url}/_simulator/ledger?after={after}&limit=5000", timeout=30) as answer:  # noqa: S310 # as above
                page = json.load(answer)["movements"]
            if not page:
                return
            yield from page
            after += len(page)


def compare(movements: Iterator[Mapping[str, Any]], paid: Mapping[str, int]) -> Comparison:
    """Compare the charges in the ledger with the paid attempts, by merchant_uid and by debt."""
    found = Comparison()
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
            found.lost.append(uid)
    found.double = [key for key, count in debts.items() if count > 1]
    found.lost += [uid for uid in there if uid not in paid]
    found.ghost = [uid for uid in paid if uid not in there]
    found.amount = [uid for uid, amount in paid.items() if there.get(uid, amount) != amount]
    return found
