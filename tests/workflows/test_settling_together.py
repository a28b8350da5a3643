"""A batch of answers of every kind comes to the same rows as the same answers one by one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import Phase, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Connection, text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Declined, NotSent, Outcome, Paid, Refused, Unknown, Voided
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import many_opened
from tests.services import drop_database, end_engine, fresh_database
from worker.charging import adhoc, attempt_charge
from worker.charging.settle import Answered, settle_alone, settle_plain
from worker.customers import enrollment
from worker.embedded import EmbeddedServices
from worker.services import Services
from worker.store.charging import attempts
from worker.store.charging.attempts import Attempt
from worker.store.engine import make_engine

# Numbers of rows that are written last: a transaction that is rolled back uses some up.
LEFT_OUT = ("id", "finding")
TABLES = (
    "charges",
    "attempts",
    "attempt_events",
    "outbox",
    "subscriptions",
    "billing_keys",
    "findings",
    "refunds",
)
CALL, LOOK_UP = AttemptState.SENDING, AttemptState.UNKNOWN
CARD = "(SELECT billing_key_id FROM charges WHERE id = :charge)"
FREED = (
    "UPDATE attempts SET billing_key_id = NULL WHERE charge_id = :charge"  # two calls of one card, both answered
)
ANOTHER_PAID = (
    "INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, last_sent_at, "
    "imp_uid, created_at) SELECT id, 9, 'u' || id, 'paid', amount, currency, 1, 1, due_at, 'imps_other', due_at "
    "FROM charges WHERE id = :charge"
)
# Another charge of the same card: one that has never been tried, and waits behind this one or for the card.
BEHIND = (
    f"UPDATE charges SET billing_key_id = {CARD}, next_attempt_at = next_attempt_at + interval '5 minutes' "
    "WHERE id = :charge + 1"
)
WAITING = (
    f"UPDATE charges SET billing_key_id = {CARD}, next_attempt_at = NULL, waits = 'card', status = 'past_due', "
    "first_declined_at = due_at, look_at = due_at + interval '9 days' WHERE id = :charge + 1"
)
DECLINED_BEFORE = (
    "UPDATE charges SET status = 'past_due', first_declined_at = due_at, ladder_began_at = due_at, declines = 1, "
    "look_at = due_at + interval '9 days' WHERE id = :charge"
)
RESTS = (
    "UPDATE charges SET given_up = 'pause' WHERE id = :charge",
    "UPDATE subscriptions SET status = 'paused', open_at = NULL "
    "WHERE id = (SELECT subscription_id FROM charges WHERE id = :charge)",
)
SIBLING = (
    "UPDATE charges SET subscription_id = (SELECT subscription_id FROM charges WHERE id = :charge), period_no = 7 "
    "WHERE id = :charge + 1"
)
FENCE_MOVED = "UPDATE attempts SET fence = fence + 1 WHERE charge_id = :charge"
WAIVED = "UPDATE charges SET status = 'waived', closed_at = due_at, next_attempt_at = NULL WHERE id = :charge"


@dataclass(frozen=True)
class Case:
    """One answer, and what is written about its charge before: the charge after it may be its neighbour."""

    outcome: Outcome
    statements: tuple[str, ...] = ()
    before: AttemptState = CALL
    sends: int = 1
    quiet_answers: int = 0
    with_neighbour: bool = False  # answered too, as a payment
    canceled: bool = False
    typed: str | None = None


CASES = {
    "plain": Case(Paid("imps", pg_provider="kcp")),
    "plain too": Case(Paid("imps", receipt_url="https://example.com/")),
    "plain, found by a look-up": Case(Paid("imps"), before=LOOK_UP, quiet_answers=1),
    "held": Case(Paid("imps"), ("UPDATE charges SET held_why = 'a person looks' WHERE id = :charge",)),
    "wanted by a person": Case(Paid("imps"), ("UPDATE charges SET tried_by = 'person' WHERE id = :charge",)),
    "after a decline": Case(Paid("imps"), (DECLINED_BEFORE,)),
    "after a decline, another one owed": Case(
        Paid("imps"), (DECLINED_BEFORE, SIBLING, DECLINED_BEFORE.replace(":charge", ":charge + 1"))
    ),
    "of a subscription that rests": Case(Paid("imps"), (DECLINED_BEFORE, *RESTS)),
    "of a subscription that rests for another too": Case(
        Paid("imps"),
        (
            DECLINED_BEFORE,
            *RESTS,
            SIBLING,
            DECLINED_BEFORE.replace(":charge", ":charge + 1"),
            RESTS[0].replace(":charge", ":charge + 1"),
        ),
    ),
    "of a canceled subscription": Case(Paid("imps"), canceled=True),
    "beside another payment": Case(Paid("imps"), (ANOTHER_PAID,)),
    "of a charge that is over": Case(Paid("imps"), (WAIVED,)),
    "of a card that is kept": Case(Paid("imps"), typed="keep"),
    "of a card that is not kept": Case(Paid("imps"), typed="once"),
    "of a stopped card": Case(
        Paid("imps"), ("UPDATE billing_keys SET stopped_as = 'never_again' WHERE id = " + CARD, WAITING)
    ),
    "with one behind": Case(Paid("imps"), (BEHIND,)),
    "with one of the card that is paid too": Case(
        Paid("imps"),
        (FREED, f"UPDATE charges SET billing_key_id = {CARD} WHERE id = :charge + 1"),
        with_neighbour=True,
    ),
    "moved on": Case(Paid("imps"), (FENCE_MOVED,)),
    "declined": Case(Declined("[CC10]통장 잔액부족", "CC10", "imps", "kcp")),
    "declined at last": Case(Declined("한도초과"), (DECLINED_BEFORE,)),
    "never again": Case(Declined("분실 카드", None, None, "nice"), (BEHIND,)),
    "fault of ours": Case(Declined("[CC40]승인거래 제한 업종", pg_provider="kcp")),
    "declined, of a canceled subscription": Case(Declined("한도초과"), canceled=True),
    "declined, of a typed card": Case(Declined("한도초과"), typed="keep"),
    "declined by a look-up": Case(Declined("xyzzy", None, None, "nice"), before=LOOK_UP, quiet_answers=2),
    "refused": Case(Refused("no such channel")),
    "refused after several sends": Case(Refused("no such channel"), sends=3),
    "not sent": Case(NotSent("ConnectError")),
    "not sent, of a charge that is over": Case(NotSent("ConnectError"), (WAIVED,)),
    "unknown": Case(Unknown("ReadTimeout")),
    "unknown again": Case(Unknown("not found"), before=LOOK_UP, quiet_answers=1),
    "another amount": Case(Unknown("the amount is another", mismatch=True)),
    "given back": Case(Voided("given back")),
    "late decline": Case(Declined("too late"), (FENCE_MOVED,)),
}


def _answers(services: Services, gateway: ScriptedGateway) -> list[Answered]:
    """Arrange the charges of all cases in one database; return the answers that come for them."""
    ids = many_opened(services, 2 * len(CASES))
    answered = []
    for charge_id, (name, case) in zip(ids[::2], CASES.items(), strict=True):
        taken = [_taken(services, gateway, charge_id, name, case)]
        if case.with_neighbour:
            _write(services, case.statements[:1], charge_id)
            taken.append(_claimed(services, charge_id + 1))
        if case.canceled:
            (key,) = _write(services, ("SELECT key FROM subscriptions WHERE id = "
                "(SELECT subscription_id FROM charges WHERE id = :charge)",), charge_id)  # fmt: skip
            enrollment.unsubscribe(services, key, "kim", "enough", at_period_end=False)
        _write(services, case.statements, charge_id)
        for attempt in taken:
            outcome = case.outcome
            if isinstance(outcome, Paid):
                outcome = replace(outcome, imp_uid=f"imps_{attempt.merchant_uid}")
            answered.append(Answered(attempt, case.before, outcome, case.quiet_answers))
    return answered


def _taken(services: Services, gateway: ScriptedGateway, charge_id: int, name: str, case: Case) -> Attempt:
    if case.typed is not None:
        query = f"SELECT customer_uid FROM billing_keys WHERE id = {CARD}"
        (customer_uid,) = _write(services, (query, WAIVED), charge_id)
        request = ChargeRequest(
            customer_uid=customer_uid, money=Money(9900, "KRW"), name="fee", request_key=name,
            reason="late", policy="standard",
        )  # fmt: skip
        requested = adhoc.charge(services, request, "shop").id
        attempt = _claimed(services, requested)
        _write(services, (f"UPDATE charges SET keyed_in = '{case.typed}' WHERE id = :charge", FREED), requested)
        return attempt
    if case.before is LOOK_UP:
        gateway.answers.append(Unknown("ReadTimeout"))
        attempt_charge.attempt(services, charge_id)
        (attempt_id,) = _write(services, ("SELECT id FROM attempts WHERE charge_id = :charge",), charge_id)
        now = services.clock.now()
        with services.engine.begin() as db:
            asked = attempts.claim_ask(db, attempt_id, now + timedelta(hours=1), now + timedelta(hours=2))
        assert asked is not None
        return asked[0]
    attempt = _claimed(services, charge_id)
    _write(services, (f"UPDATE attempts SET sends = {case.sends} WHERE charge_id = :charge",), charge_id)
    return replace(attempt, sends=case.sends)


def _claimed(services: Services, charge_id: int) -> Attempt:
    claimed = attempt_charge.claim(services, charge_id)
    assert claimed is not None
    return claimed.intent


def _write(services: Services, statements: Sequence[str], charge_id: int) -> list[Any]:
    found: list[Any] = []
    with services.engine.begin() as db:
        for statement in statements:
            done = db.execute(text(statement), {"charge": charge_id})
            found += list(done.scalars()) if done.returns_rows else []
    return found


def _rows(services: Services) -> dict[str, list[dict[str, Any]]]:
    with services.engine.begin() as db:
        return {table: _rows_of(db, table) for table in TABLES}


def _rows_of(db: Connection, table: str) -> list[dict[str, Any]]:
    left_out = () if table in ("charges", "attempts") else LEFT_OUT
    rows = db.execute(text(f"SELECT * FROM {table}")).mappings()
    found = [{name: value for name, value in row.items() if name not in left_out} for row in rows]
    return sorted(found, key=str)


@pytest.fixture
def copied(services: Services, embedded: EmbeddedServices) -> Callable[[], Any]:
    """Services on a copy of this test's database as it is now."""

    @contextmanager
    def copy() -> Iterator[Services]:
        url = fresh_database(embedded, template=services.settings.database_url.get_secret_value())
        settings = services.settings.model_copy(update={"database_url": SecretStr(url)})
        engine = make_engine(settings.sqlalchemy_url, 2, "copy")
        try:
            yield replace(services, engine=engine)
        finally:
            end_engine(engine)
            drop_database(embedded, url)

    return copy


def settled_together(services: Services, batch: Sequence[Answered]) -> list[AttemptState | None]:
    """Settle a batch as an executor does: what can be is written by the set, the rest alone."""
    states = settle_plain(services, batch)
    return [state or settle_alone(services, each) for each, state in zip(batch, states, strict=True)]


def test_a_batch_of_answers_leaves_the_same_rows_as_the_answers_one_by_one(
    services: Services, gateway: ScriptedGateway, copied: Callable[[], Any]
) -> None:
    """Guard: one rule settles an answer, alone or in a batch."""
    answered = _answers(services, gateway)
    services.engine.dispose()  # a database that somebody is connected to is no template

    @example(answered)
    @given(st.lists(st.sampled_from(answered), min_size=1, unique_by=lambda each: each.attempt.id))
    @hypothesis_settings(max_examples=10, deadline=None, database=None, phases=(Phase.explicit, Phase.generate))
    def same(batch: list[Answered]) -> None:
        with copied() as together, copied() as alone:
            states = settled_together(together, batch)
            assert states == [settle_alone(alone, each) for each in batch]
            assert _rows(together) == _rows(alone)

    same()


def test_two_debts_of_a_subscription_that_are_paid_together_end_its_pause(services: Services) -> None:
    """Guard: what follows for a subscription depends on its other debts, and needs its lock: not by the set."""
    one, other = many_opened(services, 2)
    answered = [
        Answered(_claimed(services, charge), AttemptState.SENDING, Paid(f"imps_{charge}"))
        for charge in (one, other)
    ]
    _write(services, (DECLINED_BEFORE, *RESTS, SIBLING), one)
    _write(services, (DECLINED_BEFORE, RESTS[0]), other)
    assert settled_together(services, answered) == [AttemptState.PAID, AttemptState.PAID]
    with services.engine.begin() as db:
        of_charges = "WHERE id IN (SELECT subscription_id FROM charges)"
        assert db.execute(text(f"SELECT status FROM subscriptions {of_charges}")).scalars().all() == ["active"]
        sent = db.execute(text("SELECT kind FROM outbox")).scalars().all()
    assert {"subscription.resumed", "subscription.recovered"} <= set(sent)
