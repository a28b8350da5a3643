"""Card numbers are seen where there must be none, and ids of shops are not taken for them."""

import pytest

from schedules.cards import holds_card_number


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        "card4111111111111111",
        "4111 1111 1111 1111",
        "ann-5555-5555-5555-4444",
        "378282246310005",
    ],
)
def test_a_card_number_is_seen_in_any_writing(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "ann", "customer_000000000001", "user_1700000000000", "20231123000000000001", "4111111111111112",
        "+4915112345676", "010-1234-5678", "550e8400-e29b-41d4-a716-446655440000",
        "1a34111111111111111122334455667f", "41111111111111111111",
    ],
)  # fmt: skip
def test_an_id_a_time_or_a_telephone_number_is_none(text: str) -> None:
    assert not holds_card_number(text)
