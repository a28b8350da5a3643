"""History of a subscription, a charge or a merchant_uid."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from schedules.charging.identity import CHARGE_KEY_LENGTH, SUBJECT_LENGTH, UID_LENGTH, parse_merchant_uid
from schedules.dunning.standings import Standing, standing
from schedules.errors import BadUid, Code, OwnCode
from schedules.outbox.events import in_json
from worker.charging import dunning
from worker.gateway.port import Found
from worker.services import Services, UnusableAccount
from worker.store.charging import adhoc_charges, charges
from worker.store.customers import subscriptions
from worker.store.customers.subscriptions import Subscription
from worker.store.reporting import timeline
from worker.store.reporting.timeline import ChargeRow

Document = dict[str, Any]
"""Names and values as they are shown, and printed with --json; the names are part of the interface."""


class NothingToShow(OwnCode, LookupError):
    """There is nothing under this key."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of a history."""

    at: datetime
    what: str
    words: str


@dataclass(frozen=True, slots=True)
class Story:
    """The present state of a subject, and its history."""

    kind: str
    facts: Document
    happenings: list[Happening]
    parts: list[Document] = field(default_factory=list)  # its charges, or its attempts


def show(services: Services, key: str, *, ask_gateway: bool = False) -> Story:
    """Return state and history of a subscription (20 characters), a charge (26) or a merchant_uid (38)."""
    with services.one_moment() as db:
        if len(key) == SUBJECT_LENGTH:
            return _subscription(db, key, services.clock.now())
        if len(key) == CHARGE_KEY_LENGTH:
            return _charge(db, key)
        if len(key) != UID_LENGTH:
            raise NothingToShow(
                Code.INVALID,
                f"{key!r} has {len(key)} characters; a subscription's key has {SUBJECT_LENGTH}, "
                f"a charge's {CHARGE_KEY_LENGTH}, a merchant_uid {UID_LENGTH}",
            )
        story = _charge(db, _charge_of(key))
        account = story.facts["account"]
    if ask_gateway:
        story.parts.extend(_at_gateway(services, account, key))
    return story


def _charge_of(uid: str) -> str:
    try:
        return parse_merchant_uid(uid).charge_key
    except BadUid as error:
        raise NothingToShow(Code.INVALID, str(error)) from None


def _subscription(db: Connection, key: str, now: datetime) -> Story:
    row = subscriptions.by_key(db, key)
    if row is None:
        raise NothingToShow(Code.NOT_FOUND, f"subscription {key} is not known")
    facts: Document = {
        "key": key, "customer_uid": row.customer_uid, "plan": f"{row.code} version {row.version}",
        "price": row.price, "currency": row.currency,
        "status": row.status, "anchor": row.anchor, "anchor_day": row.anchor_day,
        "next_period_no": row.next_period_no,
        "next_due_at": row.next_due_at if row.open_at else None, "ends_at": row.ends_at,
        "standing": subscription_standing(db, row, now), "billing_time": row.billing_time,
        "skips_periods_below": row.skip_to if (row.skip_to or 0) > row.next_period_no else None,
        "external_ref": row.external_ref,
    }  # fmt: skip
    happenings = [Happening(row.created_at, "subscribed", facts["plan"]), *_acts(db, key)]
    parts = []
    for charge in timeline.charges_of(db, row.id):
        parts.append(_brief(charge))
        happenings += _happenings(db, charge)
    return Story("subscription", facts, sorted(happenings, key=lambda happening: happening.at), parts)


def subscription_standing(db: Connection, row: Subscription, now: datetime) -> Standing:
    """Compute the present standing of a subscription."""
    owed = [dunning.overdue(charge) for charge in charges.owed_of(db, row.id)]
    return standing(row.status, row.ends_at, owed, now)


def _charge(db: Connection, key: str) -> Story:
    row = timeline.charge_row(db, key)
    if row is None:
        raise NothingToShow(Code.NOT_FOUND, f"charge {key} is not known")
    facts = _brief(row) | {
        "subscription": row.subscription, "customer_uid": row.customer_uid, "account": row.account,
        "name": row.name, "policy": f"{row.policy} version {row.policy_version}",
        "declines": row.declines, "technical_tries": row.technical_tries, "refusals": row.refusals,
        "manual_tries": row.manual_tries, "first_declined_at": row.first_declined_at, "waits": row.waits,
        "given_up": row.given_up, "look_at": row.look_at, "request_key": row.request_key,
        "refunded": row.refunded or None, "keyed_in": row.keyed_in, "archived_at": row.archived_at,
    }  # fmt: skip
    parts = [asdict(attempt) for attempt in timeline.attempts_of(db, row.id)]
    return Story("charge", facts, sorted(_happenings(db, row), key=lambda happening: happening.at), parts)


def _brief(row: ChargeRow) -> Document:
    return {
        "key": row.key, "kind": row.kind, "period_no": row.period_no, "amount": row.amount,
        "currency": row.currency, "status": row.status, "due_at": row.due_at,
        "next_attempt_at": row.next_attempt_at, "held_why": row.held_why, "closed_at": row.closed_at,
        "closed_why": row.closed_why,
    }  # fmt: skip


def _happenings(db: Connection, charge: ChargeRow) -> list[Happening]:
    return [
        Happening(charge.created_at, "opened", f"{charge.key} due {charge.due_at:%Y-%m-%d %H:%M}Z"),
        *(
            Happening(event.at, event.state, f"{event.merchant_uid} {event.words or ''}".strip())
            for event in timeline.events_of(db, charge.id)
        ),
        *_acts(db, charge.key),
        *(Happening(its.created_at, its.kind, "notice owed") for its in timeline.notices_of(db, charge.key)),
    ]


def _acts(db: Connection, subject: str) -> list[Happening]:
    acts = timeline.audit_of(db, subject)
    return [Happening(act.at, act.verb, f"by {act.actor}: {act.why or ''}") for act in acts]


def _at_gateway(services: Services, account: str, uid: str) -> list[Document]:
    try:
        answer = services.gateway(account).find_all(uid)
    except UnusableAccount as error:
        return [{"at_gateway": f"not asked: {error}"}]
    if not isinstance(answer, Found):
        return [{"at_gateway": f"no answer: {answer.reason}"}]
    return [
        {"at_gateway": p.state, "imp_uid": p.imp_uid, "amount": p.amount, "reason": p.fail_reason}
        for p in answer.payments
    ]


def charge_status(services: Services, key: str | None, request_key: str | None) -> Document:
    """Return the state of a charge in a few fields; NothingToShow when there is none with this key."""
    with services.one_moment() as db:
        asked = adhoc_charges.by_request(db, request_key) if request_key is not None else None
        key = asked.key if asked is not None else key
        row = timeline.charge_row(db, key) if key is not None else None
        if row is None:
            raise NothingToShow(Code.NOT_FOUND, f"there is no charge {key or request_key!r}")
        tried = timeline.attempts_of(db, row.id)
    last = tried[-1] if tried else None
    return {
        "charge": row.key, "customer_uid": row.customer_uid, "subscription": row.subscription,
        "amount": row.amount, "currency": row.currency, "status": row.status, "held_why": row.held_why,
        "closed_why": row.closed_why, "request_key": row.request_key, "due_at": in_json(row.due_at),
        "next_attempt_at": in_json(row.next_attempt_at), "closed_at": in_json(row.closed_at),
        "attempts": row.attempts,
        "merchant_uid": last.merchant_uid if last else None,
        "attempt_state": last.state if last else None,
        "reason": last.reason if last else None,
        "decline_class": last.decline_class if last else None,
    }  # fmt: skip
