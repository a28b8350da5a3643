"""History of a subscription, a charge or a merchant_uid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from schedules.charging.charges import SubscriptionStatus
from schedules.charging.identity import CHARGE_KEY_LENGTH, SUBJECT_LENGTH, UID_LENGTH, parse_merchant_uid
from schedules.dunning.standings import Standing, standing
from schedules.errors import BadUid, Code, OwnCode
from schedules.outbox.events import in_json
from worker.charging import dunning
from worker.gateway.port import Found
from worker.services import Services, UnusableAccount
from worker.store.charging import adhoc_charges, charges
from worker.store.customers import subscriptions
from worker.store.reporting import timeline


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
    facts: dict[str, Any]
    happenings: list[Happening]
    parts: list[dict[str, Any]] = field(default_factory=list)


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
    facts = {
        "key": key, "customer_uid": row["customer_uid"], "plan": f"{row['code']} version {row['version']}",
        "price": row["price"], "currency": row["currency"],
        "status": row["status"], "anchor": row["anchor"], "anchor_day": row["anchor_day"],
        "next_period_no": row["next_period_no"],
        "next_due_at": row["next_due_at"] if row["open_at"] else None, "ends_at": row["ends_at"],
        "standing": subscription_standing(db, row, now), "billing_time": row["billing_time"],
        "skips_periods_below": row["skip_to"] if (row["skip_to"] or 0) > row["next_period_no"] else None,
        "external_ref": row["external_ref"],
    }  # fmt: skip
    happenings = [Happening(row["created_at"], "subscribed", facts["plan"])]
    happenings += [
        Happening(a["at"], a["verb"], f"by {a['actor']}: {a['why'] or ''}") for a in timeline.audit_of(db, key)
    ]
    parts = []
    for charge in charges.of_subscription(db, row["id"]):
        parts.append(_brief(charge))
        happenings += _happenings(db, charge)
    return Story("subscription", facts, sorted(happenings, key=lambda happening: happening.at), parts)


def subscription_standing(db: Connection, row: Mapping[str, Any], now: datetime) -> Standing:
    """Compute the present standing of a subscription."""
    owed = [dunning.overdue(charge) for charge in charges.owed_of(db, row["id"])]
    return standing(SubscriptionStatus(row["status"]), row["ends_at"], owed, now)


def _charge(db: Connection, key: str) -> Story:
    row = timeline.charge_row(db, key)
    if row is None:
        raise NothingToShow(Code.NOT_FOUND, f"charge {key} is not known")
    facts = _brief(row) | {
        "subscription": row["subscription"], "customer_uid": row["customer_uid"], "account": row["account"],
        "name": row["name"], "policy": f"{row['policy']} version {row['policy_version']}",
        "declines": row["declines"], "technical_tries": row["technical_tries"], "refusals": row["refusals"],
        "manual_tries": row["manual_tries"], "first_declined_at": row["first_declined_at"], "waits": row["waits"],
        "given_up": row["given_up"], "look_at": row["look_at"], "request_key": row["request_key"],
        "refunded": row["refunded"] or None, "keyed_in": row["keyed_in"], "archived_at": row["archived_at"],
    }  # fmt: skip
    parts = [
        {
            "merchant_uid": a["merchant_uid"], "state": a["state"], "sends": a["sends"], "asks": a["asks"],
            "imp_uid": a["imp_uid"], "reason": a["reason"], "decline_class": a["decline_class"],
            "decline_rule": a["decline_rule"], "tried_by": a["tried_by"], "lease_until": a["lease_until"],
            "next_ask_at": a["next_ask_at"],
        }
        for a in timeline.attempts_of(db, row["id"])
    ]  # fmt: skip
    return Story("charge", facts, sorted(_happenings(db, row), key=lambda happening: happening.at), parts)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    names = ("key", "kind", "period_no", "amount", "currency", "status", "due_at", "next_attempt_at", "held_why")
    return {name: row[name] for name in (*names, "closed_at", "closed_why")}


def _happenings(db: Connection, charge: dict[str, Any]) -> list[Happening]:
    told = [Happening(charge["created_at"], "opened", f"{charge['key']} due {charge['due_at']:%Y-%m-%d %H:%M}Z")]
    for event in timeline.events_of(db, charge["id"]):
        told.append(
            Happening(event["at"], event["state"], f"{event['merchant_uid']} {event['words'] or ''}".strip())
        )
    told += [
        Happening(a["at"], a["verb"], f"by {a['actor']}: {a['why'] or ''}")
        for a in timeline.audit_of(db, charge["key"])
    ]
    told += [Happening(n["created_at"], n["kind"], "notice owed") for n in timeline.notices_of(db, charge["key"])]
    return told


def _at_gateway(services: Services, account: str, uid: str) -> list[dict[str, Any]]:
    try:
        answer = services.gateway(account).find_all(uid)
    except UnusableAccount as error:
        return [{"at_gateway": f"not asked: {error}"}]
    if not isinstance(answer, Found):
        return [{"at_gateway": f"no answer: {answer.reason}"}]
    return [
        {"at_gateway": p.status, "imp_uid": p.imp_uid, "amount": p.amount, "reason": p.fail_reason}
        for p in answer.payments
    ]


def charge_status(services: Services, key: str | None, request_key: str | None) -> dict[str, Any]:
    """Return the state of a charge in a few fields; NothingToShow when there is none with this key."""
    with services.one_moment() as db:
        asked = adhoc_charges.by_request(db, request_key) if request_key is not None else None
        key = asked.key if asked is not None else key
        row = timeline.charge_row(db, key) if key is not None else None
        if row is None:
            raise NothingToShow(Code.NOT_FOUND, f"there is no charge {key or request_key!r}")
        tried = timeline.attempts_of(db, row["id"])
    last = tried[-1] if tried else None
    names = (
        "customer_uid",
        "subscription",
        "amount",
        "currency",
        "status",
        "held_why",
        "closed_why",
        "request_key",
    )
    return {
        "charge": row["key"],
        **{name: row[name] for name in names},
        **{name: in_json(row[name]) for name in ("due_at", "next_attempt_at", "closed_at")},
        "attempts": row["attempts"],
        "merchant_uid": last["merchant_uid"] if last else None,
        "attempt_state": last["state"] if last else None,
        "reason": last["reason"] if last else None,
        "decline_class": last["decline_class"] if last else None,
    }
