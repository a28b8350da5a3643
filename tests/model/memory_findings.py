"""worker.store.reconciliation.findings and worker.store.reconciliation.reconciliations on the tables in memory."""

from collections.abc import Sequence
from datetime import datetime

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.identity import charge_key_of
from schedules.charging.outcomes import GatewayPayment
from schedules.money.amounts import Money
from schedules.operations.findings import Discrepancy, FindingKind, FindingState, OurSide
from tests.model.linking import StandsFor
from tests.model.memory import Row, Tables, Transaction
from worker.store.reconciliation import findings as real_findings
from worker.store.reconciliation import reconciliations as real_reconciliations
from worker.store.reconciliation.findings import OVER, Finding
from worker.store.reconciliation.reconciliations import Debt, Run, RunKind

SENDING, PAID = AttemptState.SENDING.value, AttemptState.PAID.value


class Findings(StandsFor):
    """worker.store.reconciliation.findings."""

    real = real_findings

    def note(
        self,
        db: Transaction,
        account: str,
        payment: GatewayPayment,
        charge_key: str | None,
        found: Discrepancy,
        now: datetime,
    ) -> tuple[Finding, bool]:
        same = (found.kind.value, account, payment.merchant_uid, payment.imp_uid)
        for row in db.tables.findings.values():
            if (row["kind"], row["account"], row["merchant_uid"], row["imp_uid"]) == same:
                return self._seen_again(db, row, payment.balance, found.words, now)
        fresh = {
            "kind": found.kind.value, "account": account, "merchant_uid": payment.merchant_uid,
            "imp_uid": payment.imp_uid, "charge_key": charge_key, "amount": payment.amount,
            "balance": payment.balance, "currency": payment.currency, "words": found.words,
            "state": FindingState.OPEN.value, "fence": 0, "lease_until": None, "found_at": now, "seen_at": now,
            "ended_at": None, "ended_by": None, "ended_why": None,
        }  # fmt: skip
        return _finding(db.insert(db.tables.findings, fresh)), True

    def _seen_again(
        self, db: Transaction, row: Row, balance: int, words: str, now: datetime
    ) -> tuple[Finding, bool]:
        before = row["state"]
        over = before in OVER and row["balance"] > balance
        back = before == FindingState.REPAIRED.value or over
        values: Row = {"seen_at": now, "words": words}
        if back:
            values |= {"state": FindingState.OPEN.value, "ended_at": None}
        if before in (*OVER, FindingState.OPEN.value):
            values["balance"] = balance
        db.write(row, values)
        return _finding(row), row["state"] != before

    def open_of(self, db: Transaction, account: str, uids: Sequence[str]) -> dict[tuple[str, str], Finding]:
        return {
            (row["merchant_uid"], row["imp_uid"]): _finding(row)
            for row in db.tables.findings.values()
            if row["ended_at"] is None
            and row["account"] == account
            and row["merchant_uid"] in uids
            and FindingKind(row["kind"]).is_judged
        }

    def end_mendable(self, db: Transaction, finding: Finding, now: datetime, by: str) -> None:
        about = (finding.account, finding.merchant_uid, finding.imp_uid)
        for row in db.tables.findings.values():
            same = (row["account"], row["merchant_uid"], row["imp_uid"]) == about
            if same and FindingKind(row["kind"]).mends_itself and row["state"] == FindingState.OPEN.value:
                why = f"it is finding {finding.id}, {finding.kind}"
                ended = {"state": FindingState.REPAIRED.value, "ended_at": now, "ended_by": by, "ended_why": why}
                db.write(row, ended | {"fence": row["fence"] + 1})

    def end_paid(self, db: Transaction, account: str, now: datetime, by: str) -> Sequence[int]:
        paid = []
        for row in db.tables.findings.values():
            attempt = db.tables.attempts.get(db.tables.uids.get(row["merchant_uid"], 0))
            is_open = row["state"] == FindingState.OPEN.value and row["account"] == account
            if attempt is None or not (is_open and FindingKind(row["kind"]).mends_itself):
                continue
            same = all(row[name] == attempt[name] for name in ("imp_uid", "amount", "currency"))
            if same and attempt["state"] == PAID:
                why = "the attempt is paid by this payment now"
                ended = {"state": FindingState.REPAIRED.value, "ended_at": now, "ended_by": by, "ended_why": why}
                db.write(row, ended | {"fence": row["fence"] + 1})
                paid.append(row["id"])
        return paid

    def open_for(
        self, db: Transaction, charge_key: str, but: int = 0, kind: FindingKind | None = None
    ) -> Finding | None:
        for row in db.tables.findings.values():
            is_open = row["charge_key"] == charge_key and row["ended_at"] is None and row["id"] != but
            if is_open and kind in (None, row["kind"]):
                return _finding(row)
        return None

    def change(self, db: Transaction, finding: Finding, state: FindingState, **values: object) -> Finding | None:
        row = db.tables.findings[finding.id]
        if (row["fence"], row["state"]) != (finding.fence, finding.state.value):
            return None
        db.write(row, {"state": state.value, "fence": row["fence"] + 1, "lease_until": None} | values)
        return _finding(row)


class Reconciliations(StandsFor):
    """worker.store.reconciliation.reconciliations."""

    real = real_reconciliations

    def begin(
        self, db: Transaction, account: str, kind: RunKind, since: datetime, until: datetime, now: datetime
    ) -> Run | None:
        if self.under_way(db, account, kind) is not None:
            return None
        row = {
            "account": account, "kind": kind.value, "since": since, "until": until, "done_until": since,
            "started_at": now, "ended_at": None, "fence": 0, "lease_until": now, "calls": 0, "payments": 0,
            "findings": 0, "words": None,
        }  # fmt: skip
        return _run(db.insert(db.tables.runs, row))

    def newest(self, db: Transaction, account: str, kind: RunKind) -> Run | None:
        return next((_run(row) for row in reversed(_of_kind(db, account, kind))), None)

    def under_way(self, db: Transaction, account: str, kind: RunKind) -> Run | None:
        return next((_run(row) for row in _of_kind(db, account, kind) if row["ended_at"] is None), None)

    def claim(self, db: Transaction, run_id: int, now: datetime, lease_until: datetime) -> Run | None:
        row = db.tables.runs[run_id]
        if row["ended_at"] is not None or row["lease_until"] > now:
            return None
        db.write(row, {"fence": row["fence"] + 1, "lease_until": lease_until})
        return _run(row)

    def advance(self, db: Transaction, run: Run, **values: object) -> Run | None:
        row = db.tables.runs[run.id]
        if row["fence"] != run.fence or row["ended_at"] is not None:
            return None
        db.write(row, dict(values))
        return _run(row)

    def debts_of(
        self, db: Transaction, account: str, environment: str, uids: Sequence[str], now: datetime
    ) -> dict[str, Debt]:
        found = {uid: self._debt_of(db, account, environment, uid, now) for uid in uids}
        return {uid: debt for uid, debt in found.items() if debt is not None}

    def _debt_of(self, db: Transaction, account: str, environment: str, uid: str, now: datetime) -> Debt | None:
        tables = db.tables
        attempt = tables.attempts.get(tables.uids.get(uid, 0))
        key = charge_key_of(uid, environment) if attempt is None else None
        charge_id = attempt["charge_id"] if attempt is not None else tables.charge_keys.get(key or "", 0)
        charge = tables.charges.get(charge_id)
        if charge is None or charge["account"] != account:
            return None
        asked = attempt if attempt is not None else charge
        paid = (other["merchant_uid"] for other in tables.attempts_of[charge["id"]] if other["state"] == PAID)
        leased = attempt is not None and attempt["state"] == SENDING and attempt["lease_until"] >= now
        side = OurSide(
            attempt_state=AttemptState(attempt["state"]) if attempt is not None else None,
            attempt_imp_uid=attempt["imp_uid"] if attempt is not None else None,
            money=Money(asked["amount"], asked["currency"]),
            customer_uids=customer_uids_of(tables, charge),
            under_way=leased,
            charge_status=ChargeStatus(charge["status"]),
            paid_uid=next(paid, None),
            refunded=charge["refunded"],
        )
        return Debt(side, charge["id"], charge["key"], attempt["id"] if attempt is not None else None)

    def paid_between(
        self, db: Transaction, account: str, since: datetime, until: datetime, after: int, limit: int
    ) -> Sequence[tuple[int, str]]:
        found = sorted(
            (row["id"], row["merchant_uid"])
            for row in db.tables.attempts.values()
            if row["state"] == PAID and since <= row["last_sent_at"] < until and row["id"] > after
        )
        return found[:limit]


def customer_uids_of(tables: Tables, charge: Row) -> frozenset[str]:
    """The billing keys of the customer who owes a charge."""
    customer = tables.keys[charge["billing_key_id"]]["customer_id"]
    return frozenset(key["customer_uid"] for key in tables.keys.values() if key["customer_id"] == customer)


def _of_kind(db: Transaction, account: str, kind: RunKind) -> list[Row]:
    return [row for row in db.tables.runs.values() if row["account"] == account and row["kind"] == kind.value]


def _finding(row: Row) -> Finding:
    plain = {name: row[name] for name in Finding.__slots__}
    return Finding(**(plain | {"kind": FindingKind(row["kind"]), "state": FindingState(row["state"])}))


def _run(row: Row) -> Run:
    return Run(**({name: row[name] for name in Run.__slots__} | {"kind": RunKind(row["kind"])}))
