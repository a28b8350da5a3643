"""The chaos run itself: what it decides is decided by its seed, and its verdict sees what it must."""

from typing import Any

import pytest

from schedules.charging.identity import merchant_uid
from schedules.operations.findings import FindingKind, FindingState
from tests.chaos.blows import planned
from tests.chaos.verdict import Verdict, judge_ledger
from tests.factories import START
from worker.store.reconciliation.findings import Finding

KEY = "r" + "0" * 25
FIRST, SECOND = merchant_uid("chao", KEY, 1), merchant_uid("chao", KEY, 2)


def moved(uid: str, imp_uid: str, amount: int = 9900, *, late: bool = False) -> dict[str, Any]:
    """A movement in the simulator's ledger."""
    return {"kind": "charge", "uid": uid, "imp_uid": imp_uid, "amount": amount, "late": late}


def finding(kind: FindingKind, imp_uid: str, state: FindingState = FindingState.OPEN) -> Finding:
    """A finding of the reconciler about a payment."""
    return Finding(
        id=1, kind=kind, account="main", merchant_uid=FIRST, imp_uid=imp_uid, charge_key=KEY, amount=9900,
        balance=9900, currency="KRW", words="", state=state, fence=0, found_at=START, ended_at=None, ended_by=None,
        ended_why=None,
    )  # fmt: skip


def judged(movements: list[dict[str, Any]], paid: dict[str, int], *listed: Finding) -> Verdict:
    """The verdict on these books."""
    verdict = Verdict()
    judge_ledger(verdict, list(listed), movements, paid, 9900)
    return verdict


def test_one_seed_gives_one_schedule_of_blows_and_another_gives_another() -> None:
    def first(seed: int) -> list[object]:
        following = planned(seed)
        return [following() for _ in range(50)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_books_that_agree_are_good() -> None:
    assert judged([moved(FIRST, "a")], {FIRST: 9900}).is_good


@pytest.mark.parametrize(
    ("movements", "paid", "name"),
    [
        ([moved(FIRST, "a")], {}, "lost"),
        ([], {FIRST: 9900}, "ghost"),
        ([moved(FIRST, "a", 10_000)], {FIRST: 9900}, "amount"),
        ([moved(FIRST, "a"), moved(SECOND, "b")], {FIRST: 9900}, "double"),
        ([moved(FIRST, "a"), moved(FIRST, "b")], {FIRST: 9900}, "double"),
        ([moved(FIRST, "a", late=True), moved(SECOND, "b")], {SECOND: 9900}, "double"),
    ],
)
def test_what_nobody_found_breaks_the_promise(
    movements: list[dict[str, Any]], paid: dict[str, int], name: str
) -> None:
    verdict = judged(movements, paid)
    assert getattr(verdict, name)
    assert not verdict.is_good


def test_a_double_that_the_gateway_made_by_paying_late_is_kept_apart_when_it_was_found() -> None:
    found = finding(FindingKind.DOUBLE, "a", FindingState.REFUNDED)
    verdict = judged([moved(FIRST, "a", late=True), moved(SECOND, "b")], {SECOND: 9900}, found)
    assert verdict.is_good
    assert verdict.doubles_by_late_payment == 1


def test_a_double_that_is_nobodys_late_payment_is_ours_even_when_it_was_found() -> None:
    found = finding(FindingKind.DOUBLE, "b")
    assert judged([moved(FIRST, "a"), moved(SECOND, "b")], {FIRST: 9900}, found).double == [KEY]
