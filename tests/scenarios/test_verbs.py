"""Every verb in every state, through the real verbs, and two months after it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from schedules.cadence import Every, Unit
from schedules.outcomes import Declined, Outcome, Unknown
from schedules.policies import STANDARD, DunningPolicy, FinalAction
from schedules.verbs import BESIDE, State, Verb, Verdict, as_markdown, ruling
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move, move_to, on_sale, subscribed
from tests.scenarios.living import kst, live_until, notices
from worker.gateway.port import ChargeOrder
from worker.store import subscriptions
from worker.store.schema import outbox
from worker.workflows import adjusting, charging, enrolling, opening, operating
from worker.workflows.adjusted import Undoable
from worker.workflows.admitting import CannotAdjust
from worker.workflows.services import Services

WHO = ("kim", "he asked for it")
NO_MONEY = Declined("[CC10]통장 잔액부족")
SHOWN = Path(__file__).parents[2] / "docs" / "verbs.md"


@dataclass(frozen=True, slots=True)
class Shop:
    """One subscription in the state of a cell."""

    services: Services
    gateway: ScriptedGateway
    key: str


def lost_decline(services: Services, gateway: ScriptedGateway) -> Callable[[ChargeOrder], Outcome]:
    """A decline whose answer is lost."""

    def answer(order: ChargeOrder) -> Outcome:
        gateway.remember(order, "failed", at=services.clock.now())
        return Unknown("ReadTimeout")

    return answer


def arranged(services: Services, gateway: ScriptedGateway, state: State) -> Shop:
    """A monthly subscription since 31 January 09:00 in Seoul, brought into a state."""
    policy = STANDARD
    if state is State.RESTING:
        policy = DunningPolicy(ladder=(), final=FinalAction.PAUSE)
    on_sale(services, policy=policy, trial_days=14 if state is State.TRIAL else 0)
    on_sale(services, code="two", cadence=Every(2, Unit.MONTH), policy=policy)
    key = subscribed(services)
    enrolling.add_customer(services, "ann-2", None, None, None, "test", of="ann")
    shop = Shop(services, gateway, key)
    if state is State.TAKEOVER:
        begin_takeover(shop)
        return shop
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
    elif state is State.SENDING:
        opening.open_due(shop.services)
        assert charging.claim(shop.services, charge_rows(shop.services)[0]["id"]) is not None


def after_first(shop: Shop, state: State) -> None:
    """What else brings the subscription into its state."""
    services, key = shop.services, shop.key
    match state:
        case State.PAUSED:
            adjusting.pause(services, key, *WHO)
        case State.ENDING:
            enrolling.unsubscribe(services, key, *WHO, at_period_end=True)
        case State.ENDED:
            enrolling.unsubscribe(services, key, *WHO, at_period_end=False)
        case State.SKIPPING:
            adjusting.skip(services, key, *WHO)
        case State.DUE:
            move_to(services, kst(2026, 2, 28) + timedelta(seconds=1))
        case State.BACKLOG:
            move_to(services, kst(2026, 8, 5))  # more than the plan's cap
        case State.STOPPED:
            operating.stop_charging(services, *WHO)
        case State.HELD:
            with services.engine.begin() as db:
                values = {"open_at": None, "tell_at": None, "held_why": "its plan is broken"}
                db.execute(
                    text("UPDATE subscriptions SET open_at = NULL, tell_at = NULL, held_why = :held_why"), values
                )
        case _:
            pass


def begin_takeover(shop: Shop) -> None:
    """In the place of the subscription, a takeover that is to begin it."""
    with shop.services.engine.begin() as db:
        db.execute(
            text(
                "INSERT INTO takeovers (billing_key_id, plan_id, plan, entries, billing_time, subscription_key, "
                "actor, why, created_at) SELECT billing_key_id, plan_id, 'monthly', '[]', '09:00', key, 'kim', "
                "'moves in', created_at FROM subscriptions"
            )
        )
        db.execute(text("DELETE FROM subscriptions"))


CARRY_OUT: dict[Verb, Callable[[Shop], object]] = {
    Verb.PAUSE: lambda shop: adjusting.pause(shop.services, shop.key, *WHO),
    Verb.RESUME: lambda shop: adjusting.resume(shop.services, shop.key, *WHO),
    Verb.UNDO_END: lambda shop: adjusting.undo(shop.services, shop.key, *WHO, Undoable.END),
    Verb.UNDO_SKIP: lambda shop: adjusting.undo(shop.services, shop.key, *WHO, Undoable.SKIP),
    Verb.SKIP: lambda shop: adjusting.skip(shop.services, shop.key, *WHO),
    Verb.MOVE_ANCHOR: lambda shop: adjusting.move_anchor(
        shop.services, shop.key, date.fromordinal(shop.services.clock.now().date().toordinal() + 20), *WHO
    ),
    Verb.MOVE_TIME: lambda shop: adjusting.move_time(shop.services, shop.key, time(21), *WHO),
    Verb.CHANGE_PLAN: lambda shop: adjusting.change_plan(shop.services, shop.key, "two", *WHO),
    Verb.CHANGE_CARD: lambda shop: adjusting.change_card(shop.services, shop.key, "ann-2", *WHO),
    Verb.END_LATER: lambda shop: enrolling.unsubscribe(shop.services, shop.key, *WHO, at_period_end=True),
    Verb.END_NOW: lambda shop: enrolling.unsubscribe(shop.services, shop.key, *WHO, at_period_end=False),
}


def everything(services: Services) -> tuple[object, ...]:
    """All that a refused verb must leave as it was."""
    with services.engine.begin() as db:
        row = db.execute(text("SELECT * FROM subscriptions")).mappings().first()
    return dict(row or {}), charge_rows(services), attempt_rows(services), notices(services)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", Verb)
def test_a_verb_in_a_state_does_what_the_table_says_and_two_months_later_nothing_is_lost(
    services: Services, gateway: ScriptedGateway, verb: Verb, state: State
) -> None:
    shop = arranged(services, gateway, state)
    expected, before = ruling(verb, BESIDE[state]), everything(services)
    if expected.verdict is Verdict.REFUSED:
        with pytest.raises(CannotAdjust, match=shop.key):
            CARRY_OUT[verb](shop)
        assert everything(services) == before
    else:
        CARRY_OUT[verb](shop)
    if state is State.TAKEOVER:
        return
    if state is State.STOPPED:
        operating.resume_charging(services, *WHO)
    was_due = state in (State.DUE, State.BACKLOG)
    if expected.verdict is Verdict.OPENS_FIRST:
        assert was_due
        opened = [row for row in charge_rows(services) if row["due_at"] <= services.clock.now()]
        assert len(opened) == (2 if state is State.DUE else 7)
    live_until(services, services.clock.now() + timedelta(days=62))
    look_for_losses(shop, state)


def look_for_losses(shop: Shop, state: State) -> None:
    """No period lost, none twice, no debt without a next action, nothing told that an end contradicts."""
    services, now = shop.services, shop.services.clock.now()
    rows = charge_rows(services)
    numbers = [row["period_no"] for row in rows]
    assert len(set(numbers)) == len(numbers)
    with services.engine.begin() as db:
        row = subscriptions.by_key(db, shop.key)
        told = list(db.execute(select(outbox.c.kind, outbox.c.created_at).order_by(outbox.c.id)))
    assert row is not None
    assert sorted(numbers) == list(range(row["next_period_no"]))
    under_way = {each["charge_id"] for each in attempt_rows(services) if each["state"] in ("sending", "unknown")}
    for charge in rows:
        owed = charge["status"] in ("open", "past_due")
        acts = charge["next_attempt_at"] or charge["look_at"] or charge["held_why"] or charge["given_up"]
        assert not owed or acts or charge["id"] in under_way, charge
        paid = [
            each
            for each in attempt_rows(services)
            if each["charge_id"] == charge["id"] and each["state"] == "paid"
        ]
        assert len(paid) <= 1
    if row["ends_at"] is not None and row["ends_at"] <= now:
        assert row["open_at"] is None
        later = {"subscription.resumed", "subscription.changed", "charge.upcoming", "subscription.paused"}
        assert not [kind for kind, at in told if at > row["ends_at"] and kind in later]
        assert not [charge for charge in rows if charge["due_at"] > row["ends_at"]]
        assert "subscription.canceled" in {kind for kind, _ in told}
    elif row["status"] == "active" and row["held_why"] is None:
        assert row["next_due_at"] > now


def test_the_documentation_shows_the_table() -> None:
    assert as_markdown() in SHOWN.read_text()
