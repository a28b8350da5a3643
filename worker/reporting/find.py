"""Find what a text names: an id of Again, of the gateway or the shop, a name, an e-mail address, last digits."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from itertools import chain

from sqlalchemy import Connection

from schedules.charging.identity import CHARGE_KEY_LENGTH, PREFIX, SUBJECT_LENGTH, UID_LENGTH, parse_merchant_uid
from schedules.dunning.declines import DeclineClass
from schedules.errors import BadUid, Code, OwnCode
from schedules.masking import masked_email, masked_name, masked_tel
from schedules.money.amounts import amount_words
from schedules.searching import Sought, read_sought
from worker.reporting.history import NothingToShow
from worker.services import Services
from worker.store.reporting import search
from worker.store.reporting.search import (
    FoundAttempt,
    FoundCard,
    FoundCharge,
    FoundCustomer,
    FoundRequest,
    FoundSubscription,
)

SHORTEST_KEY = 6  # characters of the beginning of a key of Again
LISTED = 20  # matches in a message


class Kind(StrEnum):
    """What was found."""

    CUSTOMER = "customer"
    CARD = "card"
    SUBSCRIPTION = "subscription"
    CHARGE = "charge"
    ATTEMPT = "attempt"


class By(StrEnum):
    """What of it the text names."""

    CUSTOMER_UID = "customer_uid"
    KEY = "key"
    MERCHANT_UID = "merchant_uid"
    IMP_UID = "imp_uid"
    REQUEST_KEY = "request_key"
    REFUND = "request_key of a refund"
    EXTERNAL_REF = "external_ref"
    NAME = "name"
    EMAIL = "email"
    TEL = "tel"
    CARD = "card_number"


class Rank(IntEnum):
    """How sure it is that the text means this."""

    OWN = 0  # the text is its id here; what is printed as `key` always is
    OTHER = 1  # the text is an id that the gateway or the shop has given it
    PART = 2  # a name, an e-mail address, or a part of an id or a number


@dataclass(frozen=True, slots=True)
class Match:
    """A thing that the text names. Names, e-mail addresses and telephone numbers are masked."""

    kind: Kind
    key: str  # to be given to `show` and `why`
    found_by: By
    rank: Rank
    customer_uid: str
    name: str | None
    state: str
    about: str
    customer_id: int | None = None  # row id, of a customer or a card

    @property
    def subject(self) -> tuple[Kind, object]:
        """What is shown of it: a card is shown with its customer."""
        return (self.kind, self.key) if self.customer_id is None else (Kind.CUSTOMER, self.customer_id)

    def __str__(self) -> str:
        """Name it in one line."""
        whose = self.name or (self.customer_uid if self.customer_uid != self.key else None)
        return f"{self.kind} {self.key} ({', '.join(each for each in (whose, self.state) if each)})"


@dataclass(frozen=True, slots=True)
class Found:
    """Matches, the surest first, and whether there are more."""

    matches: list[Match]
    more: bool


class SeveralMatches(OwnCode, LookupError):
    """A text names several things, of which one has to be chosen."""

    def __init__(self, sought: Sought, found: Found) -> None:
        some = "; ".join(map(str, found.matches[:LISTED]))
        super().__init__(
            Code.INVALID, f"{sought.quoted} has several matches; give the key of one: {some}{'; …' * found.more}"
        )
        self.found = found


def find(services: Services, text: str, limit: int) -> Found:
    """Return what the text names: exact ids first, then what begins or ends with it. Raises BadRequest."""
    with services.one_moment() as db:
        return _first(_matches(db, read_sought(text), limit + 1), limit)


def as_fields(match: Match) -> dict[str, object]:
    """A match as plain fields."""
    return {
        "kind": match.kind.value, "key": match.key, "found_by": match.found_by.value,
        "is_exact": match.rank is not Rank.PART, "customer_uid": match.customer_uid, "name": match.name,
        "state": match.state, "about": match.about,
    }  # fmt: skip


def one(db: Connection, text: str) -> Match:
    """Return the one thing that the text names; raises NothingToShow, SeveralMatches or BadRequest.

    Where it is the id of something, what merely begins or ends with it is left out.
    """
    sought = read_sought(text)
    surest: dict[tuple[Kind, object], Match] = {}
    for matches in _by_rank(db, sought, LISTED + 1):
        for match in matches:
            if surest and match.rank > next(iter(surest.values())).rank:
                break
            surest.setdefault(match.subject, match)
        if surest:
            break
    if not surest:
        raise _nothing(sought)
    if len(surest) > 1:
        raise SeveralMatches(sought, _first(iter(surest.values()), LISTED))
    return next(iter(surest.values()))


def _nothing(sought: Sought) -> NothingToShow:
    if len(sought.own) == UID_LENGTH and sought.own.startswith(PREFIX):
        try:
            parse_merchant_uid(sought.own)
        except BadUid as error:
            return NothingToShow(Code.INVALID, str(error))
    return NothingToShow(
        Code.NOT_FOUND,
        f"{sought.quoted} is not known: no id, name or e-mail address begins with it, and no telephone or card "
        "number ends with it",
    )


def _first(matches: Iterator[Match], limit: int) -> Found:
    first: dict[tuple[Kind, str], Match] = {}
    for match in matches:
        if len(first) == limit and (match.kind, match.key) not in first:
            return Found(list(first.values()), more=True)
        first.setdefault((match.kind, match.key), match)
    return Found(list(first.values()), more=False)


def _matches(db: Connection, sought: Sought, limit: int) -> Iterator[Match]:
    """Yield the matches, the surest first; a query reads up to `limit`, and runs when its matches are wanted."""
    for matches in _by_rank(db, sought, limit):
        yield from matches


def _by_rank(db: Connection, sought: Sought, limit: int) -> Sequence[Iterator[Match]]:
    """Return the matches that may be of one rank together, the surest first."""
    described = chain(_described(db, sought, limit), _beginning(db, sought, limit))
    return _own(db, sought), _others(db, sought), described


def _own(db: Connection, sought: Sought) -> Iterator[Match]:
    if (card := search.card_by_uid(db, sought.forms)) is not None:
        yield _card(By.CUSTOMER_UID, Rank.OWN, card)
    yield from _of_key(db, sought.own, By.KEY, Rank.OWN)
    if len(sought.own) == UID_LENGTH:
        tried = search.attempts_by_uid(db, sought.own)
        yield from (_attempt(By.MERCHANT_UID, Rank.OWN, each) for each in tried)
        if not tried:
            yield from _of_unknown_uid(db, sought.own)


def _of_unknown_uid(db: Connection, uid: str) -> Iterator[Match]:
    """Yield the charge of a merchant_uid that no attempt has."""
    try:
        key = parse_merchant_uid(uid).charge_key
    except BadUid:
        return
    yield from _of_key(db, key, By.MERCHANT_UID, Rank.OTHER)


def _of_key(db: Connection, key: str, found_by: By, rank: Rank) -> Iterator[Match]:
    if len(key) == SUBJECT_LENGTH:
        yield from (_subscription(found_by, rank, each) for each in search.subscription_by_key(db, key))
    if len(key) == CHARGE_KEY_LENGTH:
        yield from (_charge(found_by, rank, each) for each in search.charge_by_key(db, key))


def _others(db: Connection, sought: Sought) -> Iterator[Match]:
    for found_by, query in (
        (By.REQUEST_KEY, search.charges_by_request), (By.REFUND, search.charges_by_refund),
    ):  # fmt: skip
        yield from (_charge(found_by, Rank.OTHER, each) for each in query(db, sought.forms))
    if (answered := search.request_by_key(db, sought.forms)) is not None:
        yield from _of_request(db, answered)
    payments = search.attempts_by_imp_uid(db, sought.forms)
    yield from (_attempt(By.IMP_UID, Rank.OTHER, each) for each in payments)
    refs = search.subscriptions_by_ref(db, sought.forms)
    yield from (_subscription(By.EXTERNAL_REF, Rank.OTHER, each) for each in refs)


def _of_request(db: Connection, answered: FoundRequest) -> Iterator[Match]:
    """Yield what a request was about: a charge, a subscription, or else a card."""
    keys = [key for key in (answered.charge, answered.subscription, answered.key) if key is not None]
    if keys:
        yield from _of_key(db, keys[0], By.REQUEST_KEY, Rank.OTHER)
    elif answered.customer_uid is not None:
        card = search.card_by_uid(db, (answered.customer_uid,))
        if card is not None:
            yield _card(By.REQUEST_KEY, Rank.OTHER, card)


def _described(db: Connection, sought: Sought, limit: int) -> Iterator[Match]:
    for form in sought.forms:
        for found_by, query in (
            (By.NAME, search.customers_by_name), (By.EMAIL, search.customers_by_email),
        ):  # fmt: skip
            yield from (_customer(found_by, each) for each in query(db, form, limit))
    if sought.tel is not None:
        yield from (_customer(By.TEL, each) for each in search.customers_by_tel(db, sought.tel, limit))
    if sought.card is not None:
        cards = search.cards_by_last_digits(db, sought.card, limit)
        yield from (_card(By.CARD, Rank.PART, each) for each in cards)


def _beginning(db: Connection, sought: Sought, limit: int) -> Iterator[Match]:
    for form in sought.forms:
        cards = search.cards_by_prefix(db, form, limit)
        yield from (_card(By.CUSTOMER_UID, Rank.PART, each) for each in cards)
        refs = search.subscriptions_by_ref_prefix(db, form, limit)
        yield from (_subscription(By.EXTERNAL_REF, Rank.PART, each) for each in refs)
    if len(sought.own) >= SHORTEST_KEY:
        keys = search.subscriptions_by_key_prefix(db, sought.own, limit)
        yield from (_subscription(By.KEY, Rank.PART, each) for each in keys)


def _customer(found_by: By, row: FoundCustomer) -> Match:
    about = (masked_email(row.email), masked_tel(row.tel))
    return Match(
        Kind.CUSTOMER, row.reference, found_by, Rank.PART, row.reference, masked_name(row.name),
        _counted(row.statuses), ", ".join(each for each in about if each), row.id,
    )  # fmt: skip


def _card(found_by: By, rank: Rank, row: FoundCard) -> Match:
    is_customer = found_by is By.CUSTOMER_UID and row.customer_uid == row.reference
    state = card_state(row.deleted_at, row.stopped_as)
    return Match(
        Kind.CUSTOMER if is_customer else Kind.CARD, row.customer_uid, found_by, rank, row.reference,
        masked_name(row.name), _counted(row.statuses) if is_customer else state,
        " ".join(filter(None, (row.card_name, row.card_number))), row.customer_id,
    )  # fmt: skip


def card_state(deleted_at: datetime | None, stopped_as: DeclineClass | None) -> str:
    """Whether a card is deleted, usable, or stopped after a decline of this class."""
    return "deleted" if deleted_at is not None else stopped_as or "usable"


def _counted(statuses: Sequence[str]) -> str:
    counted = sorted(Counter(statuses).items())
    return ", ".join(f"{count} {status}" for status, count in counted) or "no subscription"


def _subscription(found_by: By, rank: Rank, row: FoundSubscription) -> Match:
    return Match(
        Kind.SUBSCRIPTION, row.key, found_by, rank, row.customer_uid, masked_name(row.name),
        _state(row.status, row.held_why), f"plan {row.plan_code}",
    )  # fmt: skip


def _charge(found_by: By, rank: Rank, row: FoundCharge) -> Match:
    return Match(
        Kind.CHARGE, row.key, found_by, rank, row.customer_uid, masked_name(row.name),
        _state(row.status, row.held_why), f"{amount_words(row.amount, row.currency)} due {_moment(row.due_at)}",
    )  # fmt: skip


def _attempt(found_by: By, rank: Rank, row: FoundAttempt) -> Match:
    return Match(
        Kind.ATTEMPT, row.merchant_uid, found_by, rank, row.customer_uid, masked_name(row.name), row.state,
        f"{amount_words(row.amount, row.currency)} sent {_moment(row.last_sent_at)}",
    )  # fmt: skip


def _state(status: str, held_why: str | None) -> str:
    return status if held_why is None else f"{status}, held"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}Z"
