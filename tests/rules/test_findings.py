"""What a payment at the gateway means for a debt here: every case, as a table."""

from dataclasses import replace

import pytest

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import GatewayPayment, PaymentState
from schedules.money.amounts import Money
from schedules.operations.findings import FindingKind, OurSide, judge

UID = merchant_uid("prod", "r" + "0" * 25, 1)
OTHER_UID = merchant_uid("prod", "r" + "0" * 25, 2)
PAYMENT = GatewayPayment(
    imp_uid="imps_1", merchant_uid=UID, state=PaymentState.PAID, amount=9900, cancelled_amount=0, currency="KRW",
    started_at=None, paid_at=None, failed_at=None, cancelled_at=None, fail_reason=None, pg_provider="kcp",
    pg_tid=None, receipt_url=None, customer_uid="ann",
)  # fmt: skip
ANNS = frozenset({"ann", "ann-2"})
OPEN = OurSide(AttemptState.UNKNOWN, None, Money(9900, "KRW"), ANNS, False, ChargeStatus.OPEN, None, 0)
PAID = OurSide(AttemptState.PAID, "imps_1", Money(9900, "KRW"), ANNS, False, ChargeStatus.PAID, UID, 0)
BACK = replace(PAYMENT, state=PaymentState.CANCELLED, cancelled_amount=9900)
PART = replace(PAYMENT, state=PaymentState.CANCELLED, cancelled_amount=900)


@pytest.mark.parametrize(
    ("payment", "ours", "kind"),
    [
        (PAYMENT, PAID, None),
        (PAYMENT, OPEN, FindingKind.LOST),
        (PAYMENT, replace(OPEN, attempt_state=None), FindingKind.LOST),
        (PAYMENT, replace(OPEN, attempt_state=AttemptState.NOT_SENT), FindingKind.LOST),
        (PAYMENT, replace(OPEN, attempt_state=AttemptState.SENDING), FindingKind.LOST),
        (PAYMENT, replace(OPEN, attempt_state=AttemptState.SENDING, under_way=True), None),
        (PAYMENT, replace(OPEN, attempt_state=AttemptState.DECLINED), FindingKind.LATE_PAID),
        (PAYMENT, replace(OPEN, attempt_state=AttemptState.REFUSED), FindingKind.LATE_PAID),
        (PAYMENT, replace(OPEN, charge_status=ChargeStatus.WAIVED), FindingKind.LOST),
        (PAYMENT, replace(OPEN, paid_uid=OTHER_UID), FindingKind.DOUBLE),
        (PAYMENT, replace(PAID, attempt_imp_uid="imps_2"), FindingKind.DOUBLE),
        (replace(PAYMENT, amount=9800), PAID, FindingKind.AMOUNT),
        (replace(PAYMENT, currency="USD"), PAID, FindingKind.AMOUNT),
        (replace(PAYMENT, amount=9800), OPEN, FindingKind.AMOUNT),
        (replace(PAYMENT, customer_uid="bob"), OPEN, FindingKind.AMOUNT),
        (replace(PAYMENT, customer_uid="bob"), PAID, FindingKind.AMOUNT),
        (
            replace(PAYMENT, customer_uid="bob"),
            replace(OPEN, attempt_state=AttemptState.DECLINED),
            FindingKind.AMOUNT,
        ),
        (replace(PAYMENT, customer_uid="ann-2"), OPEN, FindingKind.LOST),
        (replace(PAYMENT, customer_uid=None), PAID, None),
        (replace(PAYMENT, sandbox=True), replace(OPEN, attempt_state=AttemptState.REFUSED), None),
        (replace(PAYMENT, sandbox=True), OPEN, None),
        (replace(PAYMENT, sandbox=True), replace(OPEN, paid_uid=OTHER_UID), None),
        (replace(PAYMENT, sandbox=True, merchant_uid="order-1"), None, None),
        (BACK, PAID, FindingKind.REFUND_DRIFT),
        (PART, PAID, FindingKind.REFUND_DRIFT),
        (PART, replace(PAID, refunded=900), None),
        (PAYMENT, replace(PAID, refunded=900), FindingKind.REFUND_DRIFT),
        (BACK, OPEN, FindingKind.REFUND_DRIFT),
        (BACK, replace(OPEN, attempt_state=AttemptState.DECLINED), None),
        (PART, OPEN, FindingKind.REFUND_DRIFT),
        (BACK, replace(OPEN, paid_uid=OTHER_UID), None),
        (PART, replace(OPEN, paid_uid=OTHER_UID), FindingKind.DOUBLE),
        (PAYMENT, None, FindingKind.LOST),
        (BACK, None, None),
        (replace(PAYMENT, merchant_uid="order-1"), None, FindingKind.ORPHAN),
        (replace(PAYMENT, merchant_uid="order-1", customer_uid=None), None, None),
        (replace(PAYMENT, merchant_uid=merchant_uid("stag", "r" + "0" * 25, 1)), None, FindingKind.ORPHAN),
        (replace(PAYMENT, state=PaymentState.FAILED), OPEN, None),
        (replace(PAYMENT, state=PaymentState.READY), PAID, None),
    ],
)
def test_each_case_has_its_name(payment: GatewayPayment, ours: OurSide | None, kind: FindingKind | None) -> None:
    found = judge(payment, ours, "prod")
    assert (found.kind if found else None) is kind


def test_only_what_the_gateway_settles_for_us_mends_itself() -> None:
    assert {kind for kind in FindingKind if kind.mends_itself} == {FindingKind.LOST, FindingKind.LATE_PAID}
