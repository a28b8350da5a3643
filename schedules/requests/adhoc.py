"""What a shop asks for outside the schedule: checked as a whole, and known again by its request key."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schedules.errors import BadRequest, Code
from schedules.money.amounts import Money
from schedules.subscriptions.plans import NAME_LENGTH
from schedules.texts import cleaned

LONGEST_UID = 80  # of customer_uid, in PortOne's V1 schema
LONGEST_REQUEST_KEY = 200
LONGEST_WORDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRequest:
    """A charge that no plan asks for. The request key makes it one debt, however often it is asked for."""

    customer_uid: str
    money: Money
    name: str  # on the customer's statement
    request_key: str
    reason: str
    policy: str  # the code of a dunning policy

    def __post_init__(self) -> None:
        for field in ("customer_uid", "name", "request_key", "reason", "policy"):
            object.__setattr__(self, field, cleaned(field, getattr(self, field)))
        checked_words("customer_uid", self.customer_uid, LONGEST_UID)
        checked_words("name", self.name, NAME_LENGTH)
        checked_words("request_key", self.request_key, LONGEST_REQUEST_KEY)
        checked_words("reason", self.reason, LONGEST_WORDS)
        checked_words("policy", self.policy, LONGEST_UID)

    @property
    def fingerprint(self) -> str:
        """Tells another request under the same key from the same one; who sends it again is no difference."""
        return self._said_in("NFC")

    def fingerprints(self) -> frozenset[str]:
        """Its fingerprint, and the one that it has in NFD if it was stored before texts were normalized."""
        return frozenset((self.fingerprint, self._said_in("NFD")))

    def _said_in(self, form: Literal["NFC", "NFD"]) -> str:
        uid, name, reason, policy = (
            unicodedata.normalize(form, text) for text in (self.customer_uid, self.name, self.reason, self.policy)
        )
        return digest("charge", uid, self.money.amount, self.money.currency, name, reason, policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbRequest:
    """A verb with its arguments under a request key: carried out once, however often it is sent."""

    request_key: str
    verb: str
    arguments: Mapping[str, object]  # without the actor, and without those that have their default

    def __post_init__(self) -> None:
        checked_words("request_key", self.request_key, LONGEST_REQUEST_KEY)

    @property
    def fingerprint(self) -> str:
        """Differs for another verb and for other arguments."""
        arguments = json.dumps(dict(self.arguments), sort_keys=True, ensure_ascii=False, default=str)
        return digest("verb", self.verb, arguments)


def digest(*parts: str | int) -> str:
    """The fingerprint of what a request says."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def checked_words(field: str, text: str, longest: int) -> str:
    """The text in NFC, if it says something and fits; else BadRequest names the field."""
    text = cleaned(field, text)
    if not text.strip() or not text.isprintable():
        raise BadRequest(Code.INVALID, field, f"{text[:longest]!r} is empty or cannot be printed")
    if len(text) > longest:
        raise BadRequest(Code.INVALID, field, f"it has {len(text)} characters; the most is {longest}")
    return text
