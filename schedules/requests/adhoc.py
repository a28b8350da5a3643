"""Requests of a shop outside the schedule: checked as a whole and identified by a request key."""

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
    """An ad-hoc charge. The request key makes repeated requests one charge."""

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
        """A fingerprint that distinguishes two requests under one key; the sender is not part of it."""
        return self._said_in("NFC")

    def fingerprints(self) -> frozenset[str]:
        """Its fingerprint, and its fingerprint in NFD, as stored before texts were normalized."""
        return frozenset((self.fingerprint, self._said_in("NFD")))

    def _said_in(self, form: Literal["NFC", "NFD"]) -> str:
        uid, name, reason, policy = (
            unicodedata.normalize(form, text) for text in (self.customer_uid, self.name, self.reason, self.policy)
        )
        return digest("charge", uid, self.money.amount, self.money.currency, name, reason, policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbRequest:
    """A verb with its arguments under a request key: executed once for repeated requests."""

    request_key: str
    verb: str
    arguments: Mapping[str, object]  # without the actor and without defaults

    def __post_init__(self) -> None:
        checked_words("request_key", self.request_key, LONGEST_REQUEST_KEY)

    @property
    def fingerprint(self) -> str:
        """A fingerprint of the verb and its arguments."""
        arguments = json.dumps(dict(self.arguments), sort_keys=True, ensure_ascii=False, default=str)
        return digest("verb", self.verb, arguments)


def digest(*parts: str | int) -> str:
    """Return the fingerprint of a request's content."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def checked_words(field: str, text: str, longest: int) -> str:
    """Return the text in NFC; BadRequest names the field when it is empty or too long."""
    text = cleaned(field, text)
    if not text.strip() or not text.isprintable():
        raise BadRequest(Code.INVALID, field, f"{text[:longest]!r} is empty or cannot be printed")
    if len(text) > longest:
        raise BadRequest(Code.INVALID, field, f"it has {len(text)} characters; the most is {longest}")
    return text
