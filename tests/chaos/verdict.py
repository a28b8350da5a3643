"""The verdict on a run: the reconciler's findings, the simulator's ledger, and whether every charge has an end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, exists, select, text

from schedules.charging.charges import AttemptState
from schedules.charging.identity import parse_merchant_uid
from schedules.errors import BadUid
from schedules.operations.findings import FindingKind, FindingState
from worker.reconciliation import reconciler
from worker.services import Services
from worker.store.charging import tallies
from worker.store.reconciliation import findings
from worker.store.reconciliation.findings import Finding
from worker.store.tables import IN_FLIGHT, attempts, charges

TRIES = 20  # a run that waits for the gateway is gone on with so often
MOST = 1_000_000  # findings that are read


@dataclass
class Verdict:
    """What came of a run; good when the last lists are empty."""

    charges: dict[str, int] = field(default_factory=dict)
    found: dict[str, dict[str, int]] = field(default_factory=dict)  # by kind and state
    doubles_by_late_payment: int = 0  # the gateway's own doing, each found
    double: list[str] = field(default_factory=list)  # debts paid twice by our doing, or not found
    lost: list[str] = field(default_factory=list)  # paid there, not here, and no open finding says so
    ghost: list[str] = field(default_factory=list)
    amount: list[str] = field(default_factory=list)  # paid with another amount, and no finding says so
    loose: list[str] = field(default_factory=list)  # charges without an end and without a next action
    open: list[str] = field(default_factory=list)  # lost or paid late, and not mended
    new_after: int = 0  # findings that a second run of the reconciler still found

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""
        wrong = (self.double, self.lost, self.ghost, self.amount, self.loose, self.open)
        return not any(wrong) and not self.new_after

    def as_json(self) -> dict[str, Any]:
        """The verdict as a document."""
        return asdict(self) | {"good": self.is_good}


def reconcile(services: Services, since: datetime) -> int:
    """Compare everything since then; answers how many findings are new."""
    now = services.clock.now()
    run = reconciler.begin_asked(services, "main", since, now)
    for _ in range(TRIES):
        worked = reconciler.work(services, run.id)
        if worked is not None and worked.ended_at is not None:
            return worked.findings
    raise RuntimeError(f"the reconciler did not come to its end: {worked and worked.words}")


def judge(services: Services, since: datetime, movements: Iterable[Mapping[str, Any]], price: int) -> Verdict:
    """Reconcile, and once more a minute later; then hold ledger, books and findings against each other."""
    reconcile(services, since)
    verdict = Verdict(new_after=reconcile(services, since - timedelta(seconds=1)))
    with services.engine.begin() as db:
        listed = list(findings.listed(db, ended=True, limit=MOST))
        verdict.charges = tallies.charge_counts(db)
        paid = tallies.paid_uids(db)
        verdict.loose = _loose(db)
    for finding in listed:
        by_state = verdict.found.setdefault(finding.kind.value, {})
        by_state[finding.state.value] = by_state.get(finding.state.value, 0) + 1
        if finding.kind.mends_itself and not finding.state.is_over:
            verdict.open.append(finding.merchant_uid)
    judge_ledger(verdict, listed, list(movements), paid, price)
    return verdict


def judge_ledger(
    verdict: Verdict,
    listed: list[Finding],
    movements: Sequence[Mapping[str, Any]],
    paid: Mapping[str, int],
    price: int,
) -> None:
    """Write into the verdict what the ledger shows and neither books nor findings account for."""
    known = {(finding.kind, finding.imp_uid) for finding in listed}
    named = {finding.imp_uid for finding in listed if finding.state is not FindingState.REPAIRED}
    moved = [movement for movement in movements if movement["kind"] == "charge"]
    debts: dict[str, list[Mapping[str, Any]]] = {}
    for movement in moved:
        debts.setdefault(_debt(movement["uid"]), []).append(movement)
        told = {(FindingKind.AMOUNT, movement["imp_uid"]), (FindingKind.DOUBLE, movement["imp_uid"])}
        if movement["amount"] != price and not told & known:
            verdict.amount.append(movement["uid"])
        if movement["uid"] not in paid and movement["imp_uid"] not in named:
            verdict.lost.append(movement["uid"])
    verdict.ghost = sorted(set(paid) - {movement["uid"] for movement in moved})
    for debt, payments in debts.items():
        if len(payments) == 1:
            continue
        extra = [p for p in payments if (FindingKind.DOUBLE, p["imp_uid"]) in known]
        late = sum(bool(payment["late"]) for payment in payments)
        if len(extra) == len(payments) - 1 and late:
            verdict.doubles_by_late_payment += 1
        else:
            verdict.double.append(debt)


def _debt(uid: str) -> str:
    try:
        return parse_merchant_uid(uid).charge_key
    except BadUid:
        return uid


def _loose(db: Connection) -> list[str]:
    """Owed charges with no next attempt, nothing under way, that wait for no card, and nobody called."""
    c, a = charges.c, attempts.c
    under_way = exists().where(a.charge_id == c.id, a.state.in_([AttemptState.SENDING, AttemptState.UNKNOWN]))
    query = select(c.key).where(text(IN_FLIGHT), ~under_way)
    return list(db.execute(query).scalars())
