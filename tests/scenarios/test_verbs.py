"""Every verb in every state, through the real verbs, and two months after it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from schedules.calendar.cadence import Every, Unit
from schedules.charging.outcomes import Declined, Outcome, Unknown
from schedules.dunning.policies import STANDARD, DunningPolicy, FinalAction
from schedules.money.amounts import Money
from schedules.requests.imports import TimerEntry
from schedules.subscriptions.verbs import BESIDE, State, Verb, Verdict, as_markdown, ruling
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move, move_to, on_sale, subscribed
from tests.scenarios.living import kst, live_until, notices
from worker.charging import attempt_charge
from worker.charging.close import set_aside
from worker.customers import adjust, enrollment, signup
from worker.customers.adjustments import Undoable
from worker.customers.admit import CannotAdjust
from worker.gateway.port import Card, ChargeOrder
from worker.onboarding import takeover
from worker.operations import operate
from worker.renewals import open_charges
from worker.services import Services
from worker.store.tables import outbox

WHO = ("kim", "he asked for it")
NO_MONEY = Declined("[CC10]통장 잔액부족")
SHOWN = Path(__file__).parents[2] / "docs" / "reference" / "verbs.md"


@dataclass(frozen=True, slots=True)
class Shop:
    """One subscription in the state of a cell."""

    services: Services
    gateway: ScriptedGateway
    key: str


TIMED = tuple(kst(2026, month, 15, 12) for month in range(2, 13))  # of the gateway's own timer
FAR = kst(2100, 1, 1)
CARD = Card("4000000000001091", "2030-12", "900101", "12")


def lost_decline(services: Services, gateway: ScriptedGateway) -> Callable[[ChargeOrder], Outcome]:
    """A decline whose answer is lost."""

    def answer(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "failed", at=services.clock.now())
        return Unknown("ReadTimeout")

    return answer


def lost_payment(services: Services, gateway: ScriptedGateway) -> Callable[[ChargeOrder], Outcome]:
    """A payment whose answer is lost."""

    def answer(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "paid", at=services.clock.now())
        return Unknown("ReadTimeout")

    return answer


def arranged(services: Services, gateway: ScriptedGateway, state: State) -> Shop:
    """A monthly subscription since 31 January 09:00 in Seoul, brought into a state."""
    policy = STANDARD
    if state is State.RESTING:
        policy = DunningPolicy(ladder=(), final=FinalAction.PAUSE)
    on_sale(services, policy=policy, trial_days=14 if state is State.TRIAL else 0)
    on_sale(services, code="two", cadence=Every(2, Unit.MONTH), policy=policy)
    gateway.schedules += [
        TimerEntry(f"timer-{number}", at, Money(9900, "KRW"), "scheduled") for number, at in enumerate(TIMED)
    ]
    if state in ABSENT:
        return Shop(services, gateway, ABSENT[state](services, gateway))
    key = subscribed(services)
    enrollment.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    shop = Shop(services, gateway, key)
    before_first(shop, state)
    collect_due(services)
    move(services, hours=1)
    after_first(shop, state)
    return shop


def before_first(shop: Shop, state: State) -> None:
    """What the first call comes to."""
    if state in (State.DUNNING, State.RESTING):
        shop.gateway.answers.append(NO_MONEY)
    elif state is State.UNKNOWN:
        shop.gateway.answers.append(lost_decline(shop.services, shop.gateway))
    elif state is State.HELD_CHARGE:
        open_charges.open_due(shop.services)
        with shop.services.engine.begin() as db:
            set_aside(db, charge_rows(shop.services)[0]["key"], "a person must look", shop.services.clock.now())
    elif state is State.SENDING:
        open_charges.open_due(shop.services)
        assert attempt_charge.claim(shop.services, charge_rows(shop.services)[0]["id"]) is not None


def after_first(shop: Shop, state: State) -> None:
    """What else brings the subscription into its state."""
    services, key = shop.services, shop.key
    match state:
        case State.PAUSED:
            adjust.pause(services, key, *WHO)
        case State.ENDING:
            enrollment.unsubscribe(services, key, *WHO, at_period_end=True)
        case State.ENDED:
            enrollment.unsubscribe(services, key, *WHO, at_period_end=False)
        case State.SKIPPING:
            adjust.skip(services, key, *WHO)
        case State.DUE:
            move_to(services, kst(2026, 2, 28) + timedelta(seconds=1))
        case State.BACKLOG:
            move_to(services, kst(2026, 8, 5))  # more than the plan's cap
        case State.STOPPED:
            operate.stop_charging(services, *WHO)
        case State.HELD:
            with services.engine.begin() as db:
                values = {"open_at": None, "tell_at": None, "held_why": "its plan is broken"}
                db.execute(
                    text("UPDATE subscriptions SET open_at = NULL, tell_at = NULL, held_why = :held_why"), values
                )
        case _:
            pass


def none(services: Services, gateway: ScriptedGateway) -> str:
    """A customer without a subscription; answers a key that no subscription has."""
    enrollment.add_customer(services, "ann", None, None, None, "test")
    return "0" * 20


def signup_under_way(services: Services, gateway: ScriptedGateway) -> str:
    """A signup whose payment is not answered clearly; answers the key of the subscription that it begins."""
    gateway.missing_keys.add("ann")
    gateway.answers.append(lost_payment(services, gateway))
    with pytest.raises(signup.NotSignedUp):
        signup.sign_up(services, "ann", "monthly", CARD, *WHO)
    return promised(services, "signups")


def takeover_under_way(services: Services, gateway: ScriptedGateway) -> str:
    """A takeover whose schedules are not revoked; answers the key of the subscription that it begins."""
    gateway.keeps_schedules = True
    with pytest.raises(takeover.CannotTakeOver, match="not surely revoked"):
        takeover.take_over(services, "ann", "monthly", *WHO)
    gateway.keeps_schedules = False
    return promised(services, "takeovers")


def promised(services: Services, table: str) -> str:
    """The key of the subscription that is to begin."""
    with services.engine.begin() as db:
        return str(db.execute(text(f"SELECT subscription_key FROM {table}")).scalar_one())


ABSENT: dict[State, Callable[[Services, ScriptedGateway], str]] = {
    State.NONE: none, State.SIGNUP: signup_under_way, State.TAKEOVER: takeover_under_way,
}  # fmt: skip
CARRY_OUT: dict[Verb, Callable[[Shop], object]] = {
    Verb.PAUSE: lambda shop: adjust.pause(shop.services, shop.key, *WHO),
    Verb.RESUME: lambda shop: adjust.resume(shop.services, shop.key, *WHO),
    Verb.UNDO_END: lambda shop: adjust.undo(shop.services, shop.key, *WHO, Undoable.END),
    Verb.UNDO_SKIP: lambda shop: adjust.undo(shop.services, shop.key, *WHO, Undoable.SKIP),
    Verb.SKIP: lambda shop: adjust.skip(shop.services, shop.key, *WHO),
    Verb.MOVE_ANCHOR: lambda shop: adjust.move_anchor(
        shop.services, shop.key, date.fromordinal(shop.services.clock.now().date().toordinal() + 20), *WHO
    ),
    Verb.MOVE_TIME: lambda shop: adjust.move_time(shop.services, shop.key, time(21), *WHO),
    Verb.CHANGE_PLAN: lambda shop: adjust.change_plan(shop.services, shop.key, "two", *WHO),
    Verb.CHANGE_CARD: lambda shop: adjust.change_card(shop.services, shop.key, "ann-2", *WHO),
    Verb.END_LATER: lambda shop: enrollment.unsubscribe(shop.services, shop.key, *WHO, at_period_end=True),
    Verb.END_NOW: lambda shop: enrollment.unsubscribe(shop.services, shop.key, *WHO, at_period_end=False),
    Verb.SUBSCRIBE: lambda shop: enrollment.subscribe(shop.services, "ann", "monthly", "kim"),
    Verb.TAKE_OVER: lambda shop: takeover.take_over(shop.services, "ann", "monthly", *WHO),
}
REFUSALS = (CannotAdjust, enrollment.CannotEnroll, takeover.CannotTakeOver)


def everything(services: Services) -> tuple[object, ...]:
    """All that a refused verb must leave as it was."""
    with services.engine.begin() as db:
        rows = db.execute(text("SELECT * FROM subscriptions ORDER BY id")).mappings()
        subscribed_to = [dict(row) for row in rows]
    return subscribed_to, charge_rows(services), attempt_rows(services), notices(services)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", Verb)
def test_a_verb_in_a_state_does_what_the_table_says_and_two_months_later_nothing_is_lost(
    services: Services, gateway: ScriptedGateway, verb: Verb, state: State
) -> None:
    shop = arranged(services, gateway, state)
    expected, before = ruling(verb, BESIDE[state]), everything(services)
    if expected.verdict is Verdict.REFUSED:
        with pytest.raises(REFUSALS, match=r"(?:subscription|customer) '?[0-9a-z]+"):
            CARRY_OUT[verb](shop)
        assert everything(services) == before
    else:
        CARRY_OUT[verb](shop)
    if state is State.STOPPED:
        operate.resume_charging(services, *WHO)
    was_due = state in (State.DUE, State.BACKLOG)
    if expected.verdict is Verdict.OPENS_FIRST:
        assert was_due
        opened = [row for row in charge_rows(services) if row["due_at"] <= services.clock.now()]
        assert len(opened) == (2 if state is State.DUE else 7)
    live_until(services, services.clock.now() + timedelta(days=62))
    look_for_losses(services)


def look_for_losses(services: Services) -> None:
    """No period lost, none twice, no debt without a next action, no event that an end contradicts."""
    now = services.clock.now()
    with services.engine.begin() as db:
        every = [dict(row) for row in db.execute(text("SELECT * FROM subscriptions ORDER BY id")).mappings()]
    live = [
        row for row in every if row["status"] != "canceled" and (row["ends_at"] is None or row["ends_at"] > now)
    ]
    assert len(live) <= 1
    for row in every:
        look_at_periods(services, row)
    under_way = {each["charge_id"] for each in attempt_rows(services) if each["state"] in ("sending", "unknown")}
    for charge in charge_rows(services):
        owed = charge["status"] in ("open", "past_due")
        acts = charge["next_attempt_at"] or charge["look_at"] or charge["held_why"] or charge["given_up"]
        assert not owed or acts or charge["id"] in under_way, charge
        paid = [
            each
            for each in attempt_rows(services)
            if each["charge_id"] == charge["id"] and each["state"] == "paid"
        ]
        assert len(paid) <= 1


def look_at_periods(services: Services, row: dict[str, Any]) -> None:
    """Each period of a subscription up to the next one has one charge, and what was told of it fits its end."""
    now = services.clock.now()
    charges = [charge for charge in charge_rows(services) if charge["subscription_id"] == row["id"]]
    with services.engine.begin() as db:
        query = select(outbox.c.kind, outbox.c.created_at).where(outbox.c.subject == row["key"])
        told = list(db.execute(query.order_by(outbox.c.id)))
        signed_up = db.execute(text("SELECT count(*) FROM signups")).scalar_one()  # by it period 0 was paid
    first = min((charge["period_no"] for charge in charges), default=row["next_period_no"])
    assert first == signed_up
    assert sorted(charge["period_no"] for charge in charges) == list(range(first, row["next_period_no"]))
    if row["ends_at"] is not None and row["ends_at"] <= now:
        assert row["open_at"] is None
        later = {"subscription.resumed", "subscription.changed", "charge.upcoming", "subscription.paused"}
        assert not [kind for kind, at in told if at > row["ends_at"] and kind in later]
        assert not [charge for charge in charges if charge["due_at"] > row["ends_at"]]
        assert "subscription.canceled" in {kind for kind, _ in told}
    elif row["status"] == "active" and row["held_why"] is None:
        assert row["next_due_at"] > now


@pytest.mark.parametrize("verb", [Verb.SUBSCRIBE, Verb.TAKE_OVER])
def test_who_begins_while_the_account_is_stopped_is_charged_when_it_goes_on(
    services: Services, gateway: ScriptedGateway, verb: Verb
) -> None:
    """The guard: a stop of the account loses no period of a subscription that begins meanwhile."""
    shop = arranged(services, gateway, State.NONE)
    operate.stop_charging(services, *WHO)
    assert ruling(verb, {State.NONE, State.STOPPED}).verdict is Verdict.ACCEPTED
    CARRY_OUT[verb](shop)
    for at in (kst(2026, 2, 15, 12), kst(2026, 4, 15, 12)):
        move_to(services, at)
        collect_due(services)
    assert gateway.sent == []
    operate.resume_charging(services, *WHO)
    live_until(services, kst(2026, 4, 20))
    assert {row["status"] for row in charge_rows(services)} == {"paid"}
    look_for_losses(services)


def test_the_documentation_shows_the_table() -> None:
    assert as_markdown() in SHOWN.read_text()
