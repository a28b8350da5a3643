"""Entries of a history, made of rows that no later change rewrites; what is stored nowhere is not invented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.masking import named_card
from schedules.money.amounts import amount_words
from worker.store.reporting.stories import Step, StoryAct, StoryCharge, StoryEvent, StoryFinding, StoryRefund

NOT_RECORDED = "not recorded"
BEGAN = ("subscribe", "take-over")  # acts that a subscription begins with; its first entry has what they say
CARD_FACTS = frozenset({"pg_provider", "pg_id", "card_name", "card_number"})
# The fields of an event that its entry says, in their order.
SAID = (
    "plan", "was", "decline_class", "reason", "why", "final", "next_attempt_at", "due_at", "old_due_at",
    "next_due_at", "usable_until", "gives_up_at", "expires_on",
)  # fmt: skip
# Entries of one instant: what a person did, what it opened, what the gateway answered, what the shop is sent.
BEGINNING, ACT, OPENED, STEP, ENDED, EVENT, DELIVERY = range(7)


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of a history."""

    at: datetime
    what: str
    words: str
    subject: str | None = None  # the key of the charge, subscription or card that it is about
    actor: str | None = None
    why: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    place: tuple[int, int] = (ACT, 0)  # among the entries of one instant

    @property
    def order(self) -> tuple[datetime, tuple[int, int]]:
        """Its place in the history."""
        return self.at, self.place


@dataclass(frozen=True, slots=True)
class Cards:
    """The facts that a card had at a time, from the changes of it that were recorded."""

    acts: Sequence[StoryAct]  # of all cards, in order

    def at(self, step: Step) -> str | None:
        """The card of an attempt as it was at a step: issuer and last four digits."""
        for act in self.acts:
            was = act.details.get("before")
            if act.subject == step.customer_uid and act.at > step.at and isinstance(was, Mapping):
                return card_of(was)
        return named_card(step.card_name, step.card_number)


def card_of(facts: Mapping[str, object]) -> str | None:
    """Issuer and last four digits of a card, from its stored facts."""
    name, number = (facts.get(part) for part in ("card_name", "card_number"))
    return named_card(name if isinstance(name, str) else None, number if isinstance(number, str) else None)


def of_charge(charge: StoryCharge, plan: str | None) -> list[Happening]:
    """The entries of a charge: opened, with the plan's version of that time, and ended without a payment."""
    opened = Happening(
        charge.created_at, "opened", _opened_as(charge, plan), charge.key,
        details={
            "period_no": charge.period_no, "amount": charge.amount, "currency": charge.currency,
            "due_at": charge.due_at, "plan": plan,
        },
        place=(OPENED, charge.id),
    )  # fmt: skip
    if charge.closed_at is None or charge.status in (ChargeStatus.PAID, ChargeStatus.REFUNDED):
        return [opened]
    words = f"{charge.key}: {charge.closed_why or NOT_RECORDED}"
    ended = Happening(charge.closed_at, charge.status, words, charge.key, place=(ENDED, charge.id))
    return [opened, ended]


def _opened_as(charge: StoryCharge, plan: str | None) -> str:
    money = amount_words(charge.amount, charge.currency)
    sold = "" if plan is None else f", plan {plan}"
    return f"{charge.key}, {money}, due {_moment(charge.due_at)}{sold}"


def of_step(step: Step, cards: Cards) -> Happening:
    """A step of an attempt: an answer of the gateway with its class, and the card that it is about."""
    is_declined, is_paid = step.state is AttemptState.DECLINED, step.state is AttemptState.PAID
    card = cards.at(step) if is_declined or is_paid else None
    details: dict[str, object] = {
        "merchant_uid": step.merchant_uid, "amount": step.amount, "currency": step.currency,
        "decline_class": step.decline_class if is_declined else None,
        "customer_uid": step.customer_uid if card is not None else None, "card": card,
        "imp_uid": step.imp_uid if is_paid else None,
        "pg_provider": step.pg_provider if is_paid or is_declined else None,
    }  # fmt: skip
    said = [step.words or "", f"({step.decline_class})" if is_declined and step.decline_class else ""]
    if is_paid:
        said.append(amount_words(step.amount, step.currency))
    said += [f"card {card}"] if card is not None else []
    words = " ".join([step.merchant_uid, *filter(None, said)])
    return Happening(step.at, step.state, words, step.charge, details=_known(details), place=(STEP, step.id))


def of_act(act: StoryAct) -> Happening:
    """What a person did: what it changed from and to, who did it and why."""
    details = _shown(act.details)
    changed = ", ".join(part for part in _changes(act.verb, details) if part)
    done = f"by {act.actor}: {act.why or ''}".strip(": ")
    words = f"{changed}, {done}" if changed else done
    return Happening(act.at, act.verb, words, act.subject, act.actor, act.why, details, (ACT, act.id))


def _shown(details: Mapping[str, object]) -> dict[str, object]:
    """The details of an act, with the issuer and the last four digits of each card, and nothing else of it."""
    shown: dict[str, object] = {}
    for name, value in details.items():
        is_card = isinstance(value, Mapping) and CARD_FACTS & value.keys()
        shown[name] = card_of(value) if is_card and isinstance(value, Mapping) else value
    if CARD_FACTS & shown.keys():
        shown = {name: value for name, value in shown.items() if name not in CARD_FACTS}
        shown["card"] = card_of(details)
    return shown


def _changes(verb: str, details: Mapping[str, object]) -> list[str]:
    rest = dict(details)
    said = []
    if {"before", "after"} <= rest.keys():
        unset = "the plan's time" if verb == "move-time" else NOT_RECORDED
        said.append(" -> ".join(_said(rest.pop(name), unset) for name in ("before", "after")))
    for name in [name for name in rest if f"{name.removesuffix('_before')}_after" in rest]:
        label = name.removesuffix("_before")
        was, becomes = rest.pop(name), rest.pop(f"{label}_after")
        if name.endswith("_before") and was != becomes:
            said.append(f"{_label(label)} {_said(was)} -> {_said(becomes)}")
    return said + [f"{_label(name)} {_said(value)}" for name, value in rest.items() if value not in (None, [], "")]


def _said(value: object, unset: str = NOT_RECORDED) -> str:
    match value:
        case None | "None":
            return unset
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return " and ".join(map(str, value))
        case str() if _as_moment(value) is not None:
            return _moment(_as_moment(value))
        case _:
            return str(value)


def of_event(event: StoryEvent) -> list[Happening]:
    """The entries of an event: written, and delivered or given up, with the number of tries."""
    payload = event.payload
    said = [f"{_label(name)} {_said(payload[name])}" for name in SAID if payload.get(name) is not None]
    amount, currency = payload.get("amount"), payload.get("currency")
    if isinstance(amount, int) and isinstance(currency, str):
        said.insert(0, amount_words(amount, currency))
    words = f"event for the shop about {event.subject}" + (f": {', '.join(said)}" if said else "")
    details: dict[str, object] = {"event": event.id} | _known({name: payload.get(name) for name in SAID})
    written = Happening(
        event.created_at, event.kind, words, event.subject, details=details, place=(EVENT, event.id)
    )
    over_at = event.delivered_at or event.dead_at
    if over_at is None:
        return [written]
    tries = f"{event.tries} tries" if event.tries != 1 else "1 try"
    what, after = ("delivered", "") if event.delivered_at else ("not delivered", f": {event.last_answer}")
    over = Happening(
        over_at, what, f"{event.kind} about {event.subject} after {tries}{after}", event.subject,
        details={"event": event.id, "kind": event.kind, "tries": event.tries}, place=(DELIVERY, event.id),
    )  # fmt: skip
    return [written, over]


def of_refund(refund: StoryRefund) -> list[Happening]:
    """The result of a refund; the act that requested it is an entry of its own."""
    if refund.ended_at is None:
        return []
    money = amount_words(refund.amount, refund.currency)
    return [
        Happening(
            refund.ended_at, f"refund {refund.state}", f"{refund.charge}, {money}: {refund.words or ''}",
            refund.charge,
            details={"amount": refund.amount, "currency": refund.currency, "request_key": refund.request_key},
            place=(ENDED, refund.id),
        )
    ]  # fmt: skip


def of_finding(finding: StoryFinding) -> list[Happening]:
    """The entries of a finding: found, and ended."""
    named = f"{finding.kind} {finding.merchant_uid}, {amount_words(finding.amount, finding.currency)}"
    details: dict[str, object] = {"finding": finding.id, "kind": finding.kind}
    found = Happening(
        finding.found_at, "finding", named, finding.charge_key, details=details, place=(ENDED, finding.id)
    )
    if finding.ended_at is None:
        return [found]
    words = f"{finding.kind} by {finding.ended_by}: {finding.ended_why or ''}"
    ended = Happening(
        finding.ended_at, f"finding {finding.state}", words, finding.charge_key, finding.ended_by,
        finding.ended_why, details, (ENDED, finding.id),
    )  # fmt: skip
    return [found, ended]


@dataclass(frozen=True, slots=True)
class Term:
    """A value of a subscription, and until when it had it; None while it has it."""

    value: str | None  # None when it was not recorded
    until: datetime | None
    price: str | None = None


def terms(acts: Sequence[StoryAct], verb: str, value: str | None, price: str | None = None) -> list[Term]:
    """The values that a verb changed, oldest first, from what each change recorded; `value` is the present one."""
    changes = [act for act in acts if act.verb == verb]
    before = [Term(_text(act, "before"), act.at, _text(act, "price_before")) for act in changes]
    return [*before, Term(value, None, price)]


@dataclass(frozen=True, slots=True)
class Span:
    """A known value of a subscription, and from when until when it had it."""

    value: str
    begin: datetime
    end: datetime | None

    def has(self, value: str, moment: datetime) -> bool:
        """Whether the subscription had this value then."""
        return value == self.value and self.begin <= moment and (self.end is None or moment < self.end)


def at(found: Sequence[Term], moment: datetime) -> Term:
    """The value at a time; a change applies from its own instant on."""
    return next(term for term in found if term.until is None or moment < term.until)


def spans(found: Sequence[Term], began: datetime) -> list[Span]:
    """The values that are known, each with its beginning and its end."""
    begins = [began, *(term.until for term in found if term.until is not None)]
    return [
        Span(term.value, begin, term.until)
        for term, begin in zip(found, begins, strict=True)
        if term.value is not None
    ]


def _text(act: StoryAct, name: str) -> str | None:
    value = act.details.get(name)
    return value if isinstance(value, str) and value != "None" else None


def _known(details: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in details.items() if value is not None}


def _label(name: str) -> str:
    return name.removesuffix("_at").removesuffix("_no").replace("_", " ")


def _as_moment(text: str) -> datetime | None:
    if len(text) <= len("2026-01-31"):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _moment(at_time: datetime | None) -> str:
    return f"{at_time.astimezone(UTC):%Y-%m-%d %H:%M}Z" if at_time is not None else NOT_RECORDED
