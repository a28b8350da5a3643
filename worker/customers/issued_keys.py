"""Store a typed-in card at the gateway as a billing key, show it, and delete it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from schedules.charging.outcomes import Unknown
from schedules.errors import BadRequest, Code, OwnCode
from schedules.outbox.events import in_json
from schedules.requests.adhoc import VerbRequest
from worker import idempotency
from worker.charging.close import cancel_subscription
from worker.customers import cards
from worker.customers.card_entry import Holder
from worker.customers.enrollment import check_facts
from worker.gateway.port import BillingKey, Card, Gateway, KeyMissing, code_of
from worker.services import Services, UnusableAccount, are_ours_and_known
from worker.store import request_keys
from worker.store.charging import debts
from worker.store.customers import customers, subscriptions
from worker.store.customers.customers import CardFacts, StoredKey
from worker.store.outbox import event_log
from worker.store.reporting import timeline
from worker.store.reporting.timeline import Act

ASKED_AFTER = timedelta(minutes=1)  # longer than the call and the read after it take


class CannotIssue(OwnCode):
    """The card was not stored, or not deleted; the message says what the state is."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A card that is stored at the gateway and here; masked facts only."""

    customer_uid: str
    channel: str  # where it is stored, as `name.MID`
    asked_channel: str | None  # the requested channel, if the gateway used another
    card_name: str | None
    card_number: str | None
    is_new: bool = True  # False when an earlier call with the same request key stored it


@dataclass(frozen=True, slots=True)
class Deleted:
    """A card that is deleted here."""

    subscriptions_ended: int
    deleted_at: str  # when it was deleted here, ISO 8601
    at_gateway: str  # DELETED, or why the gateway may still have it
    code: str = Code.UNAVAILABLE  # error code when the gateway may still have the card
    is_new: bool = True  # False when an earlier call with the same request key deleted it

    @property
    def is_over(self) -> bool:
        """Whether the gateway has deleted the card."""
        return self.at_gateway == DELETED


DELETED, NOT_ASKED = "deleted", "it was not asked yet"


def issue(
    services: Services, customer_uid: str, card: Card, actor: str, why: str, holder: Holder = Holder(),
    *, request_key: str | None = None,
) -> Issued:  # fmt: skip
    """Store a card under a customer_uid; for a known customer it replaces the card, and open debts are tried.

    After an unknown outcome the key is read back, and the card at the gateway counts. If the read is not clear
    either, the key is looked up until it is; the row that requests this is committed before the call. A key that
    was issued on another channel than requested has still replaced the card: it is stored here too, and then
    CannotIssue is raised.

    With a request key it is done once: a repeated request sends nothing and returns the same answer. Card data is
    not stored, so the repeat is compared by its other arguments and by the masked card number.
    """
    if request_key is None:
        issued = _issue(services, customer_uid, card, actor, why, holder)
    else:
        arguments = {"customer_uid": customer_uid, "pg": card.channel, "why": why} | asdict(holder)
        request = VerbRequest(request_key=request_key, verb="card_issue", arguments=arguments)

        def store(at: Services) -> dict[str, Any]:
            return asdict(_issue(at, customer_uid, card, actor, why, holder))

        answer, is_new = idempotency.once(services, request, store)
        issued = Issued(**answer | {"is_new": is_new})
        if not is_new and issued.card_number is not None and not is_this(card, issued.card_number):
            raise BadRequest(
                Code.CONFLICT, "request_key", f"{request_key!r} was used for another card; take a new key for it"
            )
    if issued.asked_channel is not None:
        raise CannotIssue(
            Code.CONFLICT,
            f"the card of {customer_uid!r} is stored, but on channel {issued.channel}, not on "
            f"{issued.asked_channel} as asked, and is charged there; set the channel up at the gateway and issue "
            "the card again, or delete it with `again card delete`",
        )
    return issued


def _issue(services: Services, customer_uid: str, card: Card, actor: str, why: str, holder: Holder) -> Issued:
    check_facts(customer_uid, name=holder.name, email=holder.email, tel=holder.tel)
    with services.engine.begin() as db:
        known = customers.key_by_uid(db, customer_uid)
    customer_uid = known.customer_uid if known is not None else customer_uid
    account = _account(services, known, holder, customer_uid)
    gateway = services.gateway(account)
    if wrong := gateway.wrong_with_card(card):
        raise BadRequest(Code.INVALID, "card", wrong)
    last_day = cards.last_day_of_typed(card.expiry, services.clock.now())
    _refuse_foreign(services)
    key_id, unclear_before = _begin(services, customer_uid, account, holder)
    key = _settled(services, gateway, key_id, customer_uid, card, unclear_before)
    now = services.clock.now()
    with services.act() as db:
        if known is None:
            facts = cards.facts_of(key) | cards.expiry_columns(last_day)
            customers.change_key(db, key_id, **facts | {"deleted_at": None, "unclear_since": None, "ask_at": None})
        elif known.deleted_at is not None:
            customers.change_key(db, key_id, deleted_at=None, stopped_as=None)
        event_log.record(db, actor, "card.issue", customer_uid, why, now, card_name=key.card_name,
                     card_number=key.card_number, pg=card.channel, on_pg=key.channel)  # fmt: skip
    if known is not None:
        cards.changed(services, customer_uid, actor, why, typed=cards.TypedCard(key, last_day))
    asked_channel = None if key.is_on(card.channel) else card.channel
    return Issued(customer_uid, key.channel, asked_channel, key.card_name, key.card_number)


def delete(
    services: Services, customer_uid: str, actor: str, why: str, *, end_subscriptions: bool,
    request_key: str | None = None,
) -> Deleted:  # fmt: skip
    """Delete a stored card here first, and then at the gateway.

    Raises CannotIssue when a debt needs the card, and when a subscription needs it and `end_subscriptions` is not
    set. Called again after an unclear answer, it continues. With a request key the card is deleted once: a repeat
    sends nothing after the gateway deleted it, or after another card was stored.
    """
    with services.engine.begin() as db:
        known = customers.key_by_uid(db, customer_uid)
    if known is None:
        raise BadRequest(Code.NOT_FOUND, "customer_uid", f"customer {customer_uid!r} is not known")
    services.gateway(known.account)  # raises for wrong credentials, before anything is deleted
    if services.dry_run is None:
        _refuse_foreign(services)

    def forget(at: Services) -> dict[str, Any]:
        return asdict(_forget(at, known, actor, why, end_subscriptions=end_subscriptions))

    if request_key is None:
        deleted = Deleted(**forget(services))
    else:
        arguments = {"customer_uid": customer_uid, "reason": why, "end_subscriptions": end_subscriptions}
        request = VerbRequest(request_key=request_key, verb="delete_card", arguments=arguments)
        answer, is_new = idempotency.once(services, request, forget)
        deleted = Deleted(**answer | {"is_new": is_new})
    if services.dry_run is not None or deleted.is_over:
        return deleted
    deleted = _delete_there(services, known.customer_uid, deleted)
    if request_key is not None:
        with services.engine.begin() as db:
            request_keys.keep_answer(db, request_key, asdict(deleted))
    return deleted


def _forget(
    services: Services, known: StoredKey, actor: str, why: str, *, end_subscriptions: bool
) -> Deleted:  # fmt: skip
    now, customer_uid = services.clock.now(), known.customer_uid
    with services.act() as db:
        key = customers.key_by_uid(db, customer_uid) or known
        ended = _end_what_needs_it(db, key, customer_uid, why, now, end_subscriptions=end_subscriptions)
        deleted_at = key.deleted_at or now
        customers.change_key(
            db, key.id, deleted_at=deleted_at, ask_at=None, unclear_since=None, tell_expiry_at=None
        )
        event_log.record(db, actor, "card.delete", customer_uid, why, now, subscriptions_ended=ended)
    return Deleted(ended, str(in_json(deleted_at)), NOT_ASKED)


def _delete_there(services: Services, customer_uid: str, deleted: Deleted) -> Deleted:
    """Delete a card at the gateway that is deleted here; return the result."""
    with services.engine.begin() as db:
        key = customers.key_by_uid(db, customer_uid)
    if key is None or in_json(key.deleted_at) != deleted.deleted_at:
        return replace(deleted, at_gateway="not deleted: another card was stored since", code=Code.CONFLICT)
    gateway = services.gateway(key.account)
    answer = gateway.delete_key(customer_uid)
    if isinstance(answer, BillingKey | KeyMissing) or isinstance(gateway.read_key(customer_uid), KeyMissing):
        return replace(deleted, at_gateway=DELETED)
    return replace(deleted, at_gateway=answer.reason, code=code_of(answer))


def _end_what_needs_it(
    db: Connection, key: StoredKey, customer_uid: str, why: str, now: datetime, *, end_subscriptions: bool
) -> int:
    live = subscriptions.live_by_card(db, key.id)
    if live and not end_subscriptions:
        raise CannotIssue(
            Code.CONFLICT,
            f"customer {customer_uid!r} has {len(live)} subscriptions that are charged to this card, {live[0][1]} "
            "first; `again change-card` moves one to another card, --end-subscriptions ends them",
        )
    for subscription_id, _ in live:
        cancel_subscription(db, subscription_id, why, now)
    owed = debts.owed_by_card(db, key.id)
    if owed:
        raise CannotIssue(
            Code.CONFLICT,
            f"customer {customer_uid!r} owes {len(owed)} charges that this card is to pay; "
            "wait for their answers, or waive them",
        )
    return len(live)


def _begin(
    services: Services, customer_uid: str, account: str, holder: Holder
) -> tuple[int, datetime | None]:  # fmt: skip
    """Mark a key as unclear, so that it is looked up; a new key counts as deleted until the gateway shows it.

    Returns the row id of the key, and since when an earlier issue is unclear, if one is.
    """
    now = services.clock.now()
    with services.engine.begin() as db:
        known = customers.key_by_uid(db, customer_uid, lock=True)
        if known is None:
            customer_id = customers.add(db, customer_uid, holder.name, holder.email, holder.tel, now)
            key_id = customers.add_key(db, customer_id, customer_uid, account, {"deleted_at": now}, now)
        else:
            key_id = known.id
        unclear_before = customers.unclear_since(db, key_id)
        customers.change_key(db, key_id, unclear_since=now, ask_at=now + ASKED_AFTER)
    return key_id, unclear_before


def _settled(
    services: Services, gateway: Gateway, key_id: int, customer_uid: str, card: Card,
    unclear_before: datetime | None,
) -> BillingKey:  # fmt: skip
    """Issue the key; raise CannotIssue unless the gateway then shows the card that was sent."""
    answer = gateway.issue_key(customer_uid, card)
    if isinstance(answer, BillingKey):
        return answer
    reason = getattr(answer, "reason", "the gateway has no such key")
    if isinstance(answer, Unknown):
        read = gateway.read_key(customer_uid)
        if isinstance(read, BillingKey) and is_this(card, read.card_number):
            return read
        raise CannotIssue(
            Code.UNKNOWN,
            f"it is not clear whether the card is stored: {reason}; the gateway is asked until it is; "
            "`again card show` says so then; do not type the card in again before",
        )
    with services.engine.begin() as db:
        stored = customers.key_by_uid(db, customer_uid, lock=True)
        is_there = stored is not None and stored.deleted_at is None
        # A former card is looked up daily, for the debts that wait for it; without one there is no look-up.
        ask_at = services.clock.now() + cards.ASKED_EVERY if is_there else None
        if unclear_before is not None:  # this answer does not resolve the earlier issue
            ask_at = services.clock.now() + ASKED_AFTER
        customers.change_key(db, key_id, unclear_since=unclear_before, ask_at=ask_at)
    raise CannotIssue(code_of(answer), f"the card is not stored: {reason}")


def is_this(card: Card, masked: str | None) -> bool:
    """Whether a masked number can belong to this card: same length, and same digits where digits are shown."""
    digits = "".join(mark for mark in card.number if mark.isdecimal())
    shown = "".join(mark for mark in masked or "" if mark.isdecimal() or mark == "*")
    return len(shown) == len(digits) and all(a in (b, "*") for a, b in zip(shown, digits, strict=True))


def _account(services: Services, known: StoredKey | None, holder: Holder, customer_uid: str) -> str:
    account = services.account(holder.account or (known.account if known else services.settings.account)).name
    if known is not None and known.account != account:
        raise BadRequest(
            Code.CONFLICT, "account", f"customer {customer_uid!r} belongs to account {known.account!r}"
        )
    return account


def _refuse_foreign(services: Services) -> None:
    if not are_ours_and_known(services):
        raise CannotIssue(
            Code.HELD, "this database is a copy, or on hold; see `again status`: nothing is sent from here"
        )


@dataclass(frozen=True, slots=True)
class CardShown:
    """A card, as it is stored here and at the gateway, and its history."""

    key: StoredKey
    facts: CardFacts
    at_gateway: Mapping[str, object]  # facts, or why there are none
    history: list[Act]


def show(services: Services, customer_uid: str) -> CardShown:
    """What is stored of a card here, what the gateway shows now, and the history of the card."""
    with services.engine.begin() as db:
        key = customers.key_by_uid(db, customer_uid)
        if key is None:
            raise BadRequest(Code.NOT_FOUND, "customer_uid", f"customer {customer_uid!r} is not known")
        facts = customers.card_facts(db, key.id)
        history = timeline.audit_of(db, key.customer_uid, "card.")
    return CardShown(key, facts, _at_gateway(services, key), history)


def _at_gateway(services: Services, key: StoredKey) -> Mapping[str, object]:
    try:
        found = services.gateway(key.account).read_key(key.customer_uid)
    except UnusableAccount as error:
        return {"none": f"the gateway is not asked: {error}"}
    if isinstance(found, BillingKey):
        return {name: getattr(found, name) for name in (*cards.SHOWN, "inserted_at", "updated_at")}
    return {"none": "the gateway has no such key" if isinstance(found, KeyMissing) else found.reason}
