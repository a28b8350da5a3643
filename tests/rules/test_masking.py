"""Names, e-mail addresses and telephone numbers in lists: a person is recognized, and cannot be reached."""

import pytest

from schedules.masking import masked_email, masked_name, masked_tel, named_card


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("김영준", "김*준"), ("김준", "김*"), ("남궁민수", "남**수"), ("Ann Kim", "A*n K*m"), ("X", "*"),
        ("  Ann   Kim ", "A*n K*m"), ("", ""), (None, None),
    ],
)  # fmt: skip
def test_a_name_shows_the_ends_of_each_word(name: str | None, shown: str | None) -> None:
    assert masked_name(name) == shown


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("ann.kim@example.com", "a***@example.com"), ("a@example.com", "***@example.com"),
        ("a@b@example.com", "a***@example.com"), ("no address", "n***"), ("", "***"), (None, None),
    ],
)  # fmt: skip
def test_an_address_shows_its_first_character_and_its_domain(email: str | None, shown: str | None) -> None:
    assert masked_email(email) == shown


@pytest.mark.parametrize(
    ("tel", "shown"),
    [
        ("010-1234-5678", "010-****-5678"), ("01012345678", "010****5678"), ("02-123-4567", "**-***-4567"),
        ("+82 10-1234-5678", "+82 1*-****-5678"), ("1234", "**34"), ("1", "*"), ("none", "****"), (None, None),
    ],
)  # fmt: skip
def test_a_telephone_number_shows_its_ends(tel: str | None, shown: str | None) -> None:
    assert masked_tel(tel) == shown


@pytest.mark.parametrize(
    ("name", "number", "shown"),
    [
        ("신한카드", "536510******1234", "신한카드 *1234"), (None, "536510******1234", "*1234"),
        ("신한카드", "5365-10**-****-***4", "신한카드"), ("신한카드", None, "신한카드"), (None, None, None),
        ("", "", None),
    ],
)  # fmt: skip
def test_a_card_shows_its_issuer_and_its_last_four_digits(
    name: str | None, number: str | None, shown: str | None
) -> None:
    assert named_card(name, number) == shown
