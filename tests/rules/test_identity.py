"""The uid grammar, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.charging.charges import ChargeKind
from schedules.charging.identity import (
    ALPHABET,
    CHARGE_KEY_LENGTH,
    CHECK_ALPHABET,
    UID_LENGTH,
    UidParts,
    charge_key,
    merchant_uid,
    parse_merchant_uid,
    subject_of_entropy,
    subject_of_request,
)
from schedules.errors import BadUid

environments = st.from_regex(r"[a-z][a-z0-9]{3}", fullmatch=True)
subjects = st.binary(min_size=13, max_size=13).map(subject_of_entropy)
parts = st.builds(
    UidParts,
    environments,
    st.sampled_from(ChargeKind),
    subjects,
    st.integers(0, 32**5 - 1),
    st.integers(1, 32**4 - 1),
)


def uid_of(said: UidParts) -> str:
    """The uid that says this."""
    return merchant_uid(said.environment, said.charge_key, said.attempt_no)


@given(parts)
def test_a_uid_is_read_back_into_what_it_was_made_of(said: UidParts) -> None:
    uid = uid_of(said)
    assert parse_merchant_uid(uid) == said
    assert len(uid) == UID_LENGTH <= 40
    assert uid.isascii()
    assert uid.isalnum()
    assert len(said.charge_key) == CHARGE_KEY_LENGTH


@given(parts, parts)
def test_other_parts_give_another_uid(one: UidParts, other: UidParts) -> None:
    assert (uid_of(one) == uid_of(other)) == (one == other)


@given(parts, st.integers(0, UID_LENGTH - 1), st.sampled_from(CHECK_ALPHABET))
def test_one_wrong_character_is_found(said: UidParts, place: int, character: str) -> None:
    uid = uid_of(said)
    wrong = uid[:place] + character + uid[place + 1 :]
    if wrong != uid:
        with pytest.raises(BadUid):
            parse_merchant_uid(wrong)


@given(parts, st.integers(0, UID_LENGTH - 2))
def test_two_swapped_neighbours_are_found(said: UidParts, place: int) -> None:
    uid = uid_of(said)
    swapped = uid[:place] + uid[place + 1] + uid[place] + uid[place + 2 :]
    if swapped != uid:
        with pytest.raises(BadUid):
            parse_merchant_uid(swapped)


@given(st.text(min_size=1, max_size=300))
def test_a_request_key_always_gives_the_same_subject(request_key: str) -> None:
    subject = subject_of_request(request_key)
    assert subject == subject_of_request(request_key)
    assert set(subject) <= set(ALPHABET)
    assert charge_key(ChargeKind.ADHOC, subject, 0).startswith("a")


def test_known_uids_stay_what_they_are() -> None:
    """A change of the grammar would give running debts new uids: it needs a new version, not another meaning."""
    key = charge_key(ChargeKind.RENEWAL, "0123456789abcdefghjk", 7)
    assert key == "r0123456789abcdefghjk00007"
    assert merchant_uid("prod", key, 1) == "ag1prodr0123456789abcdefghjk00007" + "0001" + "j"


@pytest.mark.parametrize("environment", ["", "PROD", "production", "pr-d", "1abc"])
def test_an_environment_that_does_not_fit_is_refused(environment: str) -> None:
    with pytest.raises(BadUid):
        merchant_uid(environment, charge_key(ChargeKind.RENEWAL, "0" * 20, 0), 1)


@pytest.mark.parametrize("uid", ["", "order_1", "ag1" + "x" * 40])
def test_what_is_not_ours_is_refused(uid: str) -> None:
    with pytest.raises(BadUid):
        parse_merchant_uid(uid)
