"""What must be true of every charge at every moment, and what must be true when everything has come to rest."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.operations.findings import FindingKind
from tests.model.gateway import ModelGateway, Payment
from tests.model.memory import OPEN_ATTEMPTS, OWED, Row
from worker.charging.claim import NOT_WRITTEN

SENDING, UNKNOWN, PAID = (s.value for s in (AttemptState.SENDING, AttemptState.UNKNOWN, AttemptState.PAID))

MENDS_ITSELF = [kind.value for kind in FindingKind if kind.mends_itself]


class Broken(AssertionError):
    """An invariant does not hold; the words say which, of which charge."""


@dataclass(slots=True)
class Judge:
    """Looks at charges and at the witness; remembers fences, which only rise."""

    gateway: ModelGateway
    fences: dict[str, int] = field(default_factory=dict)

    def look(self, charge: Row, attempts: Sequence[Row], now: datetime) -> None:
        """Every invariant that holds between any two steps."""
        if self.gateway.broken_rules:
            raise Broken(self.gateway.broken_rules[0])
        for words in self._wrong(charge, attempts, now):
            raise Broken(f"charge {charge['key']}: {words}")

    def _wrong(self, charge: Row, attempts: Sequence[Row], now: datetime) -> Iterable[str]:
        states = Counter(attempt["state"] for attempt in attempts)
        open_ones = sum(states[state] for state in OPEN_ATTEMPTS)
        owed = charge["status"] in OWED
        if states[PAID] > 1:
            yield f"{states[PAID]} paid attempts"
        if open_ones > 1:
            yield f"{open_ones} unresolved attempts"
        if (charge["status"] == ChargeStatus.PAID.value) != (states[PAID] == 1):
            yield f"it is {charge['status']} with {states[PAID]} paid attempts"
        if owed and not _has_next_action(charge, states):
            yield f"it is owed and has no next action; attempts: {dict(states)}"
        if not owed and charge["next_attempt_at"] is not None:
            yield "it is over and has a next attempt"
        if NOT_WRITTEN in (charge["held_why"] or ""):
            yield charge["held_why"]
        for attempt in attempts:
            yield from self._wrong_with_attempt(charge, attempt, now)
        payments = self.of_debt(charge["key"], now)
        if sum(not excused(payment, now) for payment in payments) > 1:
            yield f"the gateway took {len(payments)} payments: {payments}"

    def _wrong_with_attempt(self, charge: Row, attempt: Row, now: datetime) -> Iterable[str]:
        uid, fence = attempt["merchant_uid"], attempt["fence"]
        if fence < self.fences.get(uid, 0):
            yield f"the fence of {uid} fell to {fence}"
        self.fences[uid] = fence
        if attempt["state"] != PAID:
            return
        asked = (charge["amount"], charge["currency"])
        match = [payment for payment in self.gateway.ledger[uid] if payment.imp_uid == attempt["imp_uid"]]
        if not match or not match[0].is_paid(now):
            yield f"{uid} is paid here and not at the gateway"
        elif (match[0].money.amount, match[0].money.currency) != asked:
            yield f"{uid} is called paid with {match[0].money}, and {asked} was asked"

    def of_debt(self, key: str, now: datetime) -> list[Payment]:
        """What the witness knows to have been paid for a debt, under whatever uid."""
        return [payment for payment in self.gateway.by_debt.get(key, ()) if payment.is_paid(now)]

    def look_at_the_end(
        self, charge: Row, attempts: Sequence[Row], found: Mapping[str, str], now: datetime
    ) -> list[str]:
        """What holds when all is at rest; answers what a person has to look at, of `found` by imp_uid."""
        self.look(charge, attempts, now)
        payments = self.of_debt(charge["key"], now)
        ours = {attempt["imp_uid"] for attempt in attempts if attempt["state"] == PAID}
        strangers = [payment for payment in payments if payment.imp_uid not in ours]
        unfound = [payment for payment in strangers if payment.imp_uid not in found]
        if unfound:
            raise Broken(f"charge {charge['key']} is {charge['status']}, and nobody found {unfound}: {attempts}")
        kinds = [found[payment.imp_uid] for payment in strangers]
        if charge["held_why"] is not None:
            return ["held", *kinds]
        if charge["status"] in OWED:
            raise Broken(f"charge {charge['key']} is still {charge['status']}: {charge} {attempts}")
        if len(strangers) == 1 and not ours and kinds[0] in MENDS_ITSELF:
            raise Broken(f"charge {charge['key']} is {charge['status']}, and was paid: {strangers} {attempts}")
        return kinds


def excused(payment: Payment, now: datetime) -> bool:
    """Whether a payment came as crash row 11 or 16 says, which cannot be closed from our side alone."""
    return payment.left_stale or payment.has_turned(now)


def no_payment_without_a_debt(
    gateway: ModelGateway, keys: set[str], found: Mapping[str, str], now: datetime
) -> None:
    """Every payment of the witness names a charge of ours, or was found.

    A subscription that is canceled while a restored database is on hold opens no period that it missed.
    """
    for key, payments in gateway.by_debt.items():
        for payment in payments if key not in keys else ():
            if payment.is_paid(now) and payment.imp_uid not in found:
                raise Broken(f"{payment} was paid, the books have no such charge, and nobody found it")


def _has_next_action(charge: Row, states: Counter[str]) -> bool:
    if charge["held_why"] is not None or charge["next_attempt_at"] is not None:
        return True
    if charge["waits"] is not None and (charge["look_at"] is not None or charge["given_up"] is not None):
        return True
    return states[SENDING] + states[UNKNOWN] > 0
