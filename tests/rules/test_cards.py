"""Card numbers are seen where there must be none, and ids of shops are not taken for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.charging.cards import holds_card_number, id_holds_card_number
from worker.logs import masked

NUMBERS = [
    "4111111111111111",
    "card4111111111111111",
    "4111 1111 1111 1111",
    "ann-5555-5555-5555-4444",
    "378282246310005",
    "3782 822463 10005",
    "4111/1111/1111/1111",
    "4111_1111_1111_1111",
    "4111·1111·1111·1111",
    "4111•1111•1111•1111",
    "4111 - 1111 - 1111 - 1111",
    "4111,1111,1111,1111",
    "4111:1111:1111:1111",
    "4111\u20131111\u20131111\u20131111",
    "4111\u200b1111\u200b1111\u200b1111",
    "4111\u00a01111\u30001111\u20091111",
    "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "41-11-11-11-11-11-11-11",
    "４１１１１１１１１１１１１１１１",
    "٤١١١ ١١١١ ١١١١ ١١١١",
    "카드4111/1111/1111/1111번호",
    "room 12 4111 1111 1111 1111 12/30 123",
    "paid 2026-11-30, card 4111.1111.1111.1111",
    "6221 2612 3456 7890 123",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_card_number_is_seen_in_any_writing(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize("text", NUMBERS)
def test_a_card_number_is_masked_in_any_writing(text: str) -> None:
    """Guard: what a gateway or a caller writes reaches no row and no log line with a card's number."""
    assert not holds_card_number(masked(text))
    assert masked(masked(text)) == masked(text)
    assert masked(text).count("********") == 1


@pytest.mark.parametrize("length", range(13, 20))
def test_a_number_of_each_length_that_cards_have_is_seen(length: int) -> None:
    digits = "4" + "0" * (length - 2)
    checked = next(digits + last for last in "0123456789" if holds_card_number(digits + last))
    assert masked(f"x {checked} x") == f"x ********{checked[-4:]} x"


@given(st.text(max_size=80))
def test_any_text_can_be_looked_at_and_masked(text: str) -> None:
    assert not holds_card_number(masked(text))


def test_a_long_text_is_looked_at_in_time_that_grows_with_its_length() -> None:
    """Guard: a text of digits and separators of a message's largest size does not hold up a worker."""
    assert not holds_card_number("1 " * 50_000 + "1-1." * 25_000)


@pytest.mark.parametrize(
    "text",
    [
        "ann", "customer_000000000001", "user_1700000000000", "20231123000000000001", "4111111111111112",
        "+4915112345676", "010-1234-5678", "550e8400-e29b-41d4-a716-446655440000",
        "1a34111111111111111122334455667f", "41111111111111111111", "2026-11-30 41 1111 111",
        "ag1prodr4v6z41111111111111111000000001c", "r4111111111111111zzzz00000",
        "9900, 4500, 3300 and 12000", "-" * 50 + "4111", "1111 1111 1111 1117",
    ],
)  # fmt: skip
def test_an_id_a_time_or_a_telephone_number_is_none(text: str) -> None:
    assert not holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111", "4111-1111-1111-1111", "4111 1111 1111 1111", "ann-5555-5555-5555-4444",
        "card.4111.1111.1111.1111", "378282246310005",
    ],
)  # fmt: skip
def test_an_id_may_not_be_a_card_number_as_it_is_printed(text: str) -> None:
    assert id_holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "order-664816-69778857", "3782 822463 10005", "41-11-11-11-11-11-11-11", "4111/1111/1111/1111",
        "550e8400-e29b-41d4-a716-446655440000", "ag1prodr4v6z41111111111111111000000001c",
        "r4111111111111111zzzz00000", "user_1700000000000",
    ],
)  # fmt: skip
def test_an_id_may_have_groups_of_digits(text: str) -> None:
    """Guard: an id that was taken once is taken again, or what is paid already is sent under another key."""
    assert not id_holds_card_number(text)
