"""What cards do, by their numbers and by a tester's words."""

import pytest

from tests.simulator.running import RunningSimulator

CARD = {"expiry": "2030-12", "birth": "820213", "pwd_2digit": "00"}
KINDS = (
    "no_money", "daily_limit", "monthly_limit", "lost", "stolen", "expired", "password", "suspended",
    "do_not_honor", "maintenance", "line_fault",
)  # fmt: skip
GATEWAYS = ("kcp", "nice", "html5_inicis", "tosspayments", "kicc", "danal_tpay", "kakaopay")


def issue(simulator: RunningSimulator, customer_uid: str, number: str, **more: str) -> dict[str, object]:
    answer = simulator.call(
        "POST", f"/subscribe/customers/{customer_uid}", json=CARD | {"card_number": number} | more
    )
    return dict(answer.json())


def statuses(simulator: RunningSimulator, tries: int) -> list[str]:
    answers = [simulator.again(f"order{number}").json() for number in range(tries)]
    return [answer["response"]["status"] for answer in answers]


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_every_gateway_has_words_for_every_decline(simulator: RunningSimulator, gateway: str) -> None:
    simulator.tell("cards", [{"customer_uid": kind, "card": kind, "pg": gateway} for kind in KINDS])
    for kind in KINDS:
        payment = simulator.again(kind, customer_uid=kind).json()["response"]
        assert (payment["status"], payment["pg_provider"]) == ("failed", gateway)
        assert payment["fail_reason"].startswith("["), "a code in brackets comes first"
        assert (payment["paid_at"], payment["failed_at"] > 0, payment["receipt_url"]) == (0, True, None)
    assert simulator.movements() == []


def test_the_digits_of_a_number_are_gateway_scenario_shape_and_k(simulator: RunningSimulator) -> None:
    issue(simulator, "ann", "4000-0006-0120-0002")
    first, second = (simulator.again().json()["response"] for _ in range(2))
    assert (first["pg_provider"], first["fail_reason"]) == ("kakaopay", "[NOT_ENOUGH_BALANCE]잔액 부족")
    assert second["status"] == "paid"


@pytest.mark.parametrize("number", ["4000-0007-0000-0000", "4000-0000-0990-0000", "4000-0000-0012-0000", "12"])
def test_a_number_that_names_nothing_makes_no_key(simulator: RunningSimulator, number: str) -> None:
    refused = issue(simulator, "ann", number)
    assert (refused["code"], refused["response"]) == (-1, None)
    assert "[F112]" in str(refused["message"])


def test_any_other_number_approves_at_the_gateway_that_is_named(simulator: RunningSimulator) -> None:
    key = issue(simulator, "ann", "5333-1234-5678-1234", pg="nice.nictest04m")["response"]
    assert isinstance(key, dict)
    assert (key["pg_provider"], key["pg_id"]) == ("nice", "nictest04m")
    assert simulator.again().json()["response"]["pg_id"] == "nictest04m"


def test_a_gateway_that_is_not_known_falls_back_in_silence(simulator: RunningSimulator) -> None:
    key = issue(simulator, "ann", "5333-1234-5678-1234", pg="nicee.nictest04m")["response"]
    assert isinstance(key, dict)
    assert (key["pg_provider"], key["pg_id"]) == ("kcp", "simulated")


def test_a_card_that_approves_some_times_expires(simulator: RunningSimulator) -> None:
    simulator.card(card="approve_times", k=2)
    assert statuses(simulator, 4) == ["paid", "paid", "failed", "failed"]


def test_a_card_has_money_from_payday_on(simulator: RunningSimulator) -> None:
    simulator.card(card="payday", k=25)
    seen = []
    for day in (24, 25, 29, 30):
        simulator.tell("clock", {"now": f"2026-01-{day}T09:00:00+09:00"})
        simulator.forget_token()
        seen.append(simulator.again(f"day{day}").json()["response"]["status"])
    assert seen == ["failed", "paid", "paid", "failed"]


@pytest.mark.parametrize(
    ("k", "words"), [(0, "[CC72]"), (1, "[CC98]"), (2, "[CC99]"), (6, "[7R01]"), (10, "[8044]")]
)
def test_the_k_of_a_line_fault_chooses_the_words(simulator: RunningSimulator, k: int, words: str) -> None:
    simulator.card(card="line_fault", k=k)
    assert simulator.again().json()["response"]["fail_reason"].startswith(words)


def test_behind_a_line_fault_the_money_may_have_moved(simulator: RunningSimulator) -> None:
    simulator.card(card="line_fault_paid", k=60)
    assert simulator.again().json()["response"]["status"] == "failed"
    simulator.tell("clock", {"advance": 61})
    assert simulator.call("GET", "/payments/findAll/order1/paid").json()["response"]["total"] == 1
    assert [movement["late"] for movement in simulator.movements()] == [True]


def test_a_tester_may_change_what_a_card_does_from_now_on(simulator: RunningSimulator) -> None:
    simulator.card()
    assert statuses(simulator, 1) == ["paid"]
    simulator.card(card="lost")
    assert simulator.again("later").json()["response"]["status"] == "failed"
    (card,) = simulator.see("cards")["cards"]
    assert (card["card"], card["tries"], card["approvals"]) == ("lost", 1, 0)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"customer_uid": "ann", "card": "gold"}, "card: 'gold'"),
        ({"customer_uid": "ann", "pg": "bank"}, "pg: 'bank'"),
        ({"customer_uid": "ann", "shape": "C"}, "shape: 'C'"),
        ({"customer_uid": "ann", "k": "many"}, "k: 'many'"),
        ({"customer_uid": "ann", "colour": "red"}, "colour: there is no such field"),
        ({"card": "lost"}, "customer_uid"),
        ("ann", "customer_uid"),
    ],
)
def test_a_list_of_cards_with_a_bad_one_changes_nothing(
    simulator: RunningSimulator, wish: object, words: str
) -> None:
    answer = simulator.client.post("/_simulator/cards", json=[{"customer_uid": "bob"}, wish])
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert simulator.see("cards") == {"cards": []}


def test_no_whole_card_number_is_ever_told(simulator: RunningSimulator) -> None:
    numbers = ("5333-1234-5678-1234", "4000-0000-0010-0000", "371234567890123")
    told = ""
    for place, number in enumerate(numbers):
        told += str(issue(simulator, f"customer{place}", number))
        body = CARD | {"card_number": number, "merchant_uid": f"one{place}", "amount": 1000}
        told += simulator.call("POST", "/subscribe/payments/onetime", json=body).text
        told += simulator.again(f"order{place}", customer_uid=f"customer{place}").text
    for path in ("ledger", "ledger/summary", "cards", "faults", "rate"):
        told += str(simulator.see(path))
    told += simulator.call("GET", "/payments/status/all").text
    assert not [number for number in numbers if number.replace("-", "") in told.replace("-", "")]
