"""PortOne's own timer: booked, moved, revoked, failed and tried again."""

from typing import Any

import pytest

from tests.simulator.running import RunningSimulator

BASE = "/subscribe/payments"
HOUR = 3600


def book(simulator: RunningSimulator, *uids: str, customer_uid: str = "ann", **card: str) -> dict[str, Any]:
    """Book a charge for each uid, an hour from now."""
    at = int(simulator.see("clock")["now"]) + HOUR
    wishes = [{"merchant_uid": uid, "schedule_at": at, "amount": 5000, "name": "Later"} for uid in uids]
    body = {"customer_uid": customer_uid, "schedules": wishes, **card}
    return dict(simulator.call("POST", f"{BASE}/schedule", json=body).json())


def pass_an_hour(simulator: RunningSimulator) -> None:
    simulator.tell("clock", {"advance": HOUR + 1})
    simulator.forget_token()


def entry(simulator: RunningSimulator, uid: str) -> dict[str, Any]:
    return dict(simulator.call("GET", f"{BASE}/schedule/{uid}").json()["response"])


def test_an_entry_that_ran_names_its_payment(simulator: RunningSimulator) -> None:
    simulator.card()
    booked = book(simulator, "later1")["response"][0]
    assert (booked["schedule_status"], booked["payment_status"], booked["imp_uid"]) == ("scheduled", None, None)
    pass_an_hour(simulator)
    ran = entry(simulator, "later1")
    assert (ran["schedule_status"], ran["payment_status"], ran["amount"]) == ("executed", "paid", 5000)
    payment = simulator.call("GET", f"/payments/{ran['imp_uid']}").json()["response"]
    assert (payment["customer_uid_usage"], payment["merchant_uid"]) == ("payment.scheduled", "later1")
    assert [movement["uid"] for movement in simulator.movements()] == ["later1"]


def test_a_uid_can_be_booked_once(simulator: RunningSimulator) -> None:
    simulator.card()
    book(simulator, "later1")
    assert book(simulator, "later1")["code"] == 1
    assert book(simulator, "later2", "later2")["code"] == 1


def test_a_customer_without_a_key_needs_a_card(simulator: RunningSimulator) -> None:
    assert book(simulator, "later1", customer_uid="bob")["message"] == "등록된 고객정보가 없습니다."
    card = {"card_number": "5333-1234-5678-1234", "expiry": "2030-12"}
    assert book(simulator, "later1", customer_uid="bob", **card)["code"] == 0
    assert simulator.call("GET", "/subscribe/customers/bob").json()["code"] == 0


def test_what_is_past_cannot_be_booked(simulator: RunningSimulator) -> None:
    simulator.card()
    wish = {"merchant_uid": "later1", "schedule_at": 1000, "amount": 5000, "name": "Later"}
    answer = simulator.call("POST", f"{BASE}/schedule", json={"customer_uid": "ann", "schedules": [wish]})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("ask", "revoked"),
    [
        ({"customer_uid": "ann"}, ["later1", "later2"]),
        ({"customer_uid": "ann", "merchant_uid": "later2"}, ["later2"]),
        ({"merchant_uid": ["later1", "others1"]}, ["later1", "others1"]),
        ({"customer_uid": "ann", "merchant_uid": ["others1"]}, []),
        ({"customer_uid": "nobody"}, []),
        ({}, []),
    ],
)
def test_unschedule_takes_what_is_named_or_all_of_a_customer(
    simulator: RunningSimulator, ask: dict[str, object], revoked: list[str]
) -> None:
    simulator.card("ann")
    simulator.card("bob")
    book(simulator, "later1", "later2")
    book(simulator, "others1", customer_uid="bob")
    answer = simulator.call("POST", f"{BASE}/unschedule", json=ask).json()
    if revoked:
        assert [one["merchant_uid"] for one in answer["response"]] == revoked
    else:
        assert (answer["code"], answer["message"]) == (1, "취소할 예약결제 기록이 존재하지 않습니다.")


def test_an_entry_can_be_moved_until_it_has_run(simulator: RunningSimulator) -> None:
    simulator.card()
    book(simulator, "later1")
    to = int(simulator.see("clock")["now"]) + 2 * HOUR
    assert simulator.call("PUT", f"{BASE}/schedule/later1", json={"schedule_at": to}).json()["code"] == 0
    pass_an_hour(simulator)
    assert simulator.movements() == []
    pass_an_hour(simulator)
    assert len(simulator.movements()) == 1
    late = simulator.call("PUT", f"{BASE}/schedule/later1", json={"schedule_at": to + 9 * HOUR})
    assert late.status_code == 400


def test_a_failed_entry_is_tried_again_under_its_uid(simulator: RunningSimulator) -> None:
    simulator.card(card="approve_on_try", k=2)
    book(simulator, "later1")
    assert simulator.call("POST", f"{BASE}/schedule/later1/retry").status_code == 400, "it has not run yet"
    pass_an_hour(simulator)
    assert entry(simulator, "later1")["payment_status"] == "failed"
    assert simulator.call("POST", f"{BASE}/schedule/later1/retry").json()["response"]["status"] == "paid"
    assert simulator.call("POST", f"{BASE}/schedule/later1/retry").status_code == 400, "it is paid"
    assert simulator.call("POST", f"{BASE}/schedule/none/retry").status_code == 404


def test_a_failed_entry_is_booked_anew(simulator: RunningSimulator) -> None:
    simulator.card(card="approve_on_try", k=2)
    book(simulator, "later1")
    pass_an_hour(simulator)
    to = int(simulator.see("clock")["now"]) + HOUR
    again = simulator.call("POST", f"{BASE}/schedule/later1/reschedule", json={"schedule_at": to}).json()
    assert again["response"]["schedule_status"] == "scheduled"
    pass_an_hour(simulator)
    assert entry(simulator, "later1")["payment_status"] == "paid"


def test_an_entry_whose_uid_was_paid_in_the_meantime_fails(simulator: RunningSimulator) -> None:
    simulator.card()
    book(simulator, "later1")
    simulator.again("later1")
    pass_an_hour(simulator)
    ran = entry(simulator, "later1")
    assert (ran["payment_status"], ran["fail_reason"].startswith("이미 주문이")) == ("failed", True)
    assert simulator.see("ledger/summary")["double"] == []


def test_entries_are_listed_by_time_customer_and_status(simulator: RunningSimulator) -> None:
    simulator.card("ann")
    simulator.card("bob")
    book(simulator, "later1")
    book(simulator, "others1", customer_uid="bob")
    simulator.call("POST", f"{BASE}/unschedule", json={"merchant_uid": "later1"})
    now = int(simulator.see("clock")["now"])
    span = {"schedule_from": now, "schedule_to": now + 2 * HOUR}

    def listed(path: str, **query: object) -> list[str]:
        answer = simulator.call("GET", path, params=query).json()["response"]
        assert (answer["previous"], answer["next"]) == (0, 0)
        assert answer["total"] == len(answer["list"])
        return sorted(one["merchant_uid"] for one in answer["list"])

    assert listed(f"{BASE}/schedule", **span) == ["later1", "others1"]
    assert listed(f"{BASE}/schedule", **span, schedule_status="scheduled") == ["others1"]
    window = {"from": now, "to": now + 2 * HOUR}
    assert listed(f"{BASE}/schedule/customers/ann", **window) == ["later1"]
    assert listed("/subscribe/customers/ann/schedules", **window, **{"schedule-status": "scheduled"}) == []
    assert simulator.call("GET", f"{BASE}/schedule", params={**span, "page": 2}).status_code == 400
    paged = simulator.call("GET", f"{BASE}/schedule", params={**span, "limit": 1}).json()["response"]
    assert (paged["total"], paged["previous"], paged["next"], len(paged["list"])) == (2, 0, 2, 1)
