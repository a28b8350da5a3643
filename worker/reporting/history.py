"""History of a subscription, a charge or a merchant_uid."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from schedules.charging.charges import ChargeKind
from schedules.charging.identity import (
    CHARGE_KEY_LENGTH,
    SUBJECT_LENGTH,
    UID_LENGTH,
    charge_key,
    parse_merchant_uid,
)
from schedules.dunning.standings import Standing, standing
from schedules.errors import BadUid, Code, OwnCode
from schedules.money.amounts import amount_words
from schedules.outbox.events import in_json
from worker.charging import dunning
from worker.gateway.port import Found
from worker.reporting import happenings
from worker.reporting.happenings import BEGINNING, NOT_RECORDED, Cards, Happening, Span, Term
from worker.services import Services, UnusableAccount
from worker.store.charging import adhoc_charges, charges
from worker.store.customers import plans, subscriptions
from worker.store.customers.subscriptions import Subscription
from worker.store.reporting import stories, timeline
from worker.store.reporting.stories import Page, Scope, StoryAct
from worker.store.reporting.timeline import ChargeRow

MOST_AHEAD = 14  # periods that may be announced before they are opened: those that may be skipped, and the next
Document = dict[str, Any]
"""Names and values as they are shown, and printed with --json; the names are part of the interface."""


class NothingToShow(OwnCode, LookupError):
    """There is nothing under this key."""


@dataclass(frozen=True, slots=True)
class Story:
    """The present state of a subject, and its history."""

    kind: str
    facts: Document
    happenings: list[Happening]
    parts: list[Document] = field(default_factory=list)  # its charges, or its attempts
    zone: str | None = None  # of its plan, for local times; None without a plan
    has_older: bool = False  # whether entries before the first one were left out


def show(services: Services, key: str, *, ask_gateway: bool = False, page: Page = Page()) -> Story:
    """Return state and history of a subscription (20 characters), a charge (26) or a merchant_uid (38).

    Of the history and of the charges of a subscription, those of the page. The number of statements does not
    depend on the number of charges.
    """
    with services.one_moment() as db:
        if len(key) == SUBJECT_LENGTH:
            return _subscription(db, key, services.clock.now(), page)
        if len(key) == CHARGE_KEY_LENGTH:
            return _charge(db, key, page)
        if len(key) != UID_LENGTH:
            raise NothingToShow(
                Code.INVALID,
                f"{key!r} has {len(key)} characters; a subscription's key has {SUBJECT_LENGTH}, "
                f"a charge's {CHARGE_KEY_LENGTH}, a merchant_uid {UID_LENGTH}",
            )
        story = _charge(db, _charge_of(key), page)
        account = story.facts["account"]
    if ask_gateway:
        story.parts.extend(_at_gateway(services, account, key))
    return story


def _charge_of(uid: str) -> str:
    try:
        return parse_merchant_uid(uid).charge_key
    except BadUid as error:
        raise NothingToShow(Code.INVALID, str(error)) from None


def _subscription(db: Connection, key: str, now: datetime, page: Page) -> Story:
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
    own = stories.acts_on(db, [key])
    cards = happenings.terms(own, "change-card", row.customer_uid)
    coming = [charge_key(ChargeKind.RENEWAL, key, row.next_period_no + later) for later in range(MOST_AHEAD)]
    scope = Scope(subscription_id=row.id, subjects=(key, *coming))
    entries = _entries(db, scope, page, _sold(row, own))
    entries += _of_cards(db, happenings.spans(cards, row.created_at), page)
    if page.before is None or row.created_at < page.before:
        entries.append(_began(row, own, cards))
    parts = [_brief(charge) for charge in timeline.charges_of(db, row.id, page.limit)]
    zone = plans.by_id(db, row.plan_id).plan.zone
    return _story("subscription", facts, entries, parts, zone, page)


def _story(
    kind: str, facts: Document, entries: list[Happening], parts: list[Document], zone: str | None, page: Page
) -> Story:  # fmt: skip
    ordered = sorted(entries, key=lambda entry: entry.order)
    shown = ordered if page.limit is None else ordered[-page.limit :]
    return Story(kind, facts, shown, parts, zone, has_older=len(shown) < len(ordered))


def _sold(row: Subscription, acts: Sequence[StoryAct]) -> list[Term]:
    """The versions of plans that a subscription had, from what each change recorded."""
    price = amount_words(row.price, row.currency)
    return happenings.terms(acts, "change-plan", f"{row.code}/{row.version}", price)


def _began(row: Subscription, acts: Sequence[StoryAct], cards: Sequence[Term]) -> Happening:
    """The first entry of a subscription: what was sold, and the card, of that time."""
    first, card = _sold(row, acts)[0], cards[0].value or NOT_RECORDED
    act = next((each for each in acts if each.verb in happenings.BEGAN), None)
    done = f", by {act.actor}: {act.why or ''}".rstrip(": ") if act is not None else ""
    sold = f"plan {first.value or NOT_RECORDED}, {first.price or NOT_RECORDED}"
    return Happening(
        row.created_at, "subscribed", f"{sold}, customer_uid {card}{done}", row.key,
        act.actor if act is not None else None, act.why if act is not None else None,
        {"plan": first.value, "price": first.price, "customer_uid": cards[0].value}, (BEGINNING, row.id),
    )  # fmt: skip


def _entries(db: Connection, scope: Scope, page: Page, sold: Sequence[Term]) -> list[Happening]:
    """The entries of charges, their attempts, acts, events, refunds and findings; one more than the page has."""
    more = replace(page, limit=None if page.limit is None else page.limit + 1)
    steps = stories.steps_of(db, scope, more)
    uids = sorted({step.customer_uid for step in steps if step.customer_uid is not None})
    cards = Cards(stories.acts_on(db, uids, ["card.changed"]))
    entries = [happenings.of_step(step, cards) for step in steps]
    for charge in stories.charges_of(db, scope, more):
        plan = happenings.at(sold, charge.created_at).value or NOT_RECORDED if sold else None
        entries += happenings.of_charge(charge, plan)
    acts = stories.acts_of(db, scope, more)
    entries += [happenings.of_act(act) for act in acts if act.verb not in happenings.BEGAN]
    for event in stories.events_of(db, scope, more):
        entries += happenings.of_event(event)
    for refund in stories.refunds_of(db, scope, more):
        entries += happenings.of_refund(refund)
    for finding in stories.findings_of(db, scope, more):
        entries += happenings.of_finding(finding)
    return [entry for entry in entries if page.before is None or entry.at < page.before]


def _of_cards(db: Connection, used: Sequence[Span], page: Page) -> list[Happening]:
    """What was recorded of the cards of a subscription while it used each."""
    acts = stories.acts_on(db, sorted({span.value for span in used}), ["card."])
    entries = [happenings.of_act(act) for act in acts if any(span.has(act.subject, act.at) for span in used)]
    return [entry for entry in entries if page.before is None or entry.at < page.before]


def subscription_standing(db: Connection, row: Subscription, now: datetime) -> Standing:
    """Compute the present standing of a subscription."""
    owed = [dunning.overdue(charge) for charge in charges.owed_of(db, row.id)]
    return standing(row.status, row.ends_at, owed, now)


def _charge(db: Connection, key: str, page: Page) -> Story:
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
    sold, zone = list[Term](), None
    subscription = subscriptions.by_key(db, row.subscription) if row.subscription is not None else None
    if subscription is not None:
        sold = _sold(subscription, stories.acts_on(db, [subscription.key], ["change-plan"]))
        zone = plans.by_id(db, subscription.plan_id).plan.zone
    entries = _entries(db, Scope(charge_id=row.id), page, sold)
    return _story("charge", facts, entries, parts, zone, page)


def _brief(row: ChargeRow) -> Document:
    return {
        "key": row.key, "kind": row.kind, "period_no": row.period_no, "amount": row.amount,
        "currency": row.currency, "status": row.status, "due_at": row.due_at,
        "next_attempt_at": row.next_attempt_at, "held_why": row.held_why, "closed_at": row.closed_at,
        "closed_why": row.closed_why,
    }  # fmt: skip


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
