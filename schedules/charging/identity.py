"""The grammar of our ids: a merchant_uid is a pure function of the debt and the attempt, and can be parsed."""

import hashlib
import re
from dataclasses import dataclass

from schedules.charging.charges import ChargeKind
from schedules.errors import BadUid

# Crockford's base 32: no i, l, o or u, so that an id can be spelled over the telephone.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
CHECK_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
PREFIX = "ag1"  # ours, and the grammar's version
SUBJECT_LENGTH = 20  # 100 bits: a random subscription key, or the digest of a request key
PERIOD_LENGTH = 5
ATTEMPT_LENGTH = 4
CHARGE_KEY_LENGTH = 1 + SUBJECT_LENGTH + PERIOD_LENGTH
UID_LENGTH = len(PREFIX) + 4 + CHARGE_KEY_LENGTH + ATTEMPT_LENGTH + 1  # 38; PortOne takes 40
_ENVIRONMENT = re.compile(r"[a-z][a-z0-9]{3}")
_SUBJECT = re.compile(f"[{ALPHABET}]{{{SUBJECT_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class UidParts:
    """The parts of a merchant_uid."""

    environment: str
    kind: ChargeKind
    subject: str  # the subscription's key, or the digest of an ad-hoc request key
    period_no: int
    attempt_no: int

    @property
    def charge_key(self) -> str:
        """The key of the charge that this uid belongs to."""
        return charge_key(self.kind, self.subject, self.period_no)


def checked_environment(name: str) -> str:
    """Return the environment's name if it is four lower-case letters or digits and starts with a letter."""
    if not _ENVIRONMENT.fullmatch(name):
        raise BadUid(
            f"environment {name!r} cannot be part of a merchant_uid; "
            "take a letter and three lower-case letters or digits, such as 'prod'"
        )
    return name


def subject_of_request(request_key: str) -> str:
    """The 100-bit digest that stands for a caller's request key in the uid."""
    number = int.from_bytes(hashlib.sha256(request_key.encode()).digest(), "big") >> (256 - 5 * SUBJECT_LENGTH)
    return _digits(number, SUBJECT_LENGTH)


def subject_of_entropy(entropy: bytes) -> str:
    """Return a subscription key made of 13 or more random bytes, which the caller provides."""
    if len(entropy) * 8 < 5 * SUBJECT_LENGTH:
        raise BadUid(f"{len(entropy)} random bytes are too few for a subscription key; give at least 13")
    return _digits(int.from_bytes(entropy, "big") & ((1 << 5 * SUBJECT_LENGTH) - 1), SUBJECT_LENGTH)


def charge_key(kind: ChargeKind, subject: str, period_no: int) -> str:
    """Return a charge key: kind, subject and period number; an ad-hoc charge has period 0."""
    if not _SUBJECT.fullmatch(subject):
        raise BadUid(f"{subject!r} is not a subscription key or request digest of {SUBJECT_LENGTH} characters")
    return kind.letter + subject + _digits(period_no, PERIOD_LENGTH)


def merchant_uid(environment: str, key: str, attempt_no: int) -> str:
    """Return the uid of attempt 1, 2, … of a charge: 38 letters and digits, the last one a check character."""
    if attempt_no < 1:
        raise BadUid(f"attempt number {attempt_no} is not 1 or more")
    _split_charge_key(key)
    body = PREFIX + checked_environment(environment) + key + _digits(attempt_no, ATTEMPT_LENGTH)
    return body + _check_character(body)


def parse_merchant_uid(uid: str) -> UidParts:
    """Parse a merchant_uid; a uid that is not ours or is mistyped is refused."""
    if len(uid) != UID_LENGTH or not uid.startswith(PREFIX):
        raise BadUid(f"{uid!r} is not one of ours: they start with {PREFIX!r} and have {UID_LENGTH} characters")
    if not set(uid) <= set(CHECK_ALPHABET) or _check_character(uid[:-1]) != uid[-1]:
        raise BadUid(f"merchant_uid {uid!r} does not match its check character: a character is wrong or swapped")
    environment = checked_environment(uid[3:7])
    kind, subject, period_no = _split_charge_key(uid[7 : 7 + CHARGE_KEY_LENGTH])
    return UidParts(environment, kind, subject, period_no, _number(uid[7 + CHARGE_KEY_LENGTH : -1]))


def charge_key_of(uid: str, environment: str) -> str | None:
    """The charge key that a merchant_uid of this environment names; None for any other uid."""
    try:
        parts = parse_merchant_uid(uid)
    except BadUid:
        return None
    return parts.charge_key if parts.environment == environment else None


def period_of(key: str) -> int | None:
    """The period number in the key of a renewal; None for any other key."""
    try:
        kind, _, period_no = _split_charge_key(key)
    except BadUid:
        return None
    return period_no if kind is ChargeKind.RENEWAL else None


def _split_charge_key(key: str) -> tuple[ChargeKind, str, int]:
    for kind in ChargeKind:
        if (
            len(key) == CHARGE_KEY_LENGTH
            and key[0] == kind.letter
            and _SUBJECT.fullmatch(key[1 : 1 + SUBJECT_LENGTH])
        ):
            return kind, key[1 : 1 + SUBJECT_LENGTH], _number(key[1 + SUBJECT_LENGTH :])
    raise BadUid(f"{key!r} is not a charge key of {CHARGE_KEY_LENGTH} characters")


def _digits(number: int, width: int) -> str:
    if not 0 <= number < 32**width:
        raise BadUid(f"number {number} does not fit into {width} base-32 digits")
    return "".join(ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(width)))


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        value = ALPHABET.find(digit)
        if value < 0:
            raise BadUid(f"{digit!r} is not a base-32 digit")
        number = number * 32 + value
    return number


def _check_character(body: str) -> str:
    """ISO 7064 MOD 37,36: finds every single wrong character and every swap of two neighbours."""
    product = 36
    for character in body:
        product = (product + CHECK_ALPHABET.index(character)) % 36 or 36
        product = product * 2 % 37
    return CHECK_ALPHABET[(37 - product) % 36]
