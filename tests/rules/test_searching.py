"""What a person types to find something: spaces, digits of telephones and cards, and what is refused."""

import unicodedata

import pytest

from schedules.errors import BadRequest
from schedules.searching import LONGEST, read_sought


@pytest.mark.parametrize(
    ("text", "tel"),
    [
        ("5678", "5678"),
        ("0078", "0078"),  # the last digits as they are
        ("1234-5678", "12345678"),
        ("010-1234-5678", "1012345678"),
        ("010 1234 5678", "1012345678"),
        ("01012345678", "1012345678"),
        ("+82 10-1234-5678", "1012345678"),
        ("+82 (0)10 1234 5678", "1012345678"),
        ("821012345678", "1012345678"),
        ("0082-10-1234-5678", "1012345678"),
        ("010 1234\u20135678", "1012345678"),  # an en dash
        ("010\u00a01234\u00a05678", "1012345678"),
        ("8212345", "8212345"),  # the end of a number
        ("０１０－１２３４－５６７８", "1012345678"),
        ("02-123-4567", "21234567"),
        ("567", None),
        ("+82", None),
        ("010-****-5678", None),
        ("ann5678", None),
        ("kim@example.com", None),
    ],
)
def test_a_telephone_number_is_read_by_the_digits_that_it_ends_with_in_every_writing(
    text: str, tel: str | None
) -> None:
    assert read_sought(text).tel == tel


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("1234", "1234"), ("****1234", "1234"), ("5333-12**-****-1234", "1234"), ("5333 12xx xxxx 1234", "1234"),
        ("123", None), ("12345", None), ("ann-1234", None), ("xx-large 1234", None), ("010-1234-5678", None),
    ],
)  # fmt: skip
def test_the_last_digits_of_a_card_are_written_alone_or_behind_a_mask(text: str, card: str | None) -> None:
    assert read_sought(text).card == card


def test_spaces_around_a_text_are_no_part_of_it() -> None:
    assert read_sought("  ann \u3000").text == "ann"


def test_a_text_of_hangul_has_the_form_of_every_system() -> None:
    decomposed = unicodedata.normalize("NFD", "김민준")
    assert set(read_sought(decomposed).forms) == {"김민준", decomposed}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"), ("   ", "it is empty"), ("a\x1bb", "control character"),
        ("a\nb", "control character"), ("\x00", "control character"), ("4111 1111 1111 1111", "card number"),
        ("x" * (LONGEST + 1), f"at most {LONGEST}"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_found_is_refused_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as refused:
        read_sought(text)
    assert len(str(refused.value)) < 200


def test_a_long_text_is_shortened_in_messages() -> None:
    assert len(read_sought("x" * 400).quoted) < 70
