"""Claiming: a batch of charges of any kind leaves the same rows as its charges claimed one by one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from schedules.dunning.policies import CardCap
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest
from tests.doubles import ScriptedGateway
from tests.factories import LADDER, on_sale, subscribed
from tests.model.postgres import PostgresBooks
from worker.charging import adhoc
from worker.charging.claim import Answer, Claimed, Skipped, claim_many
from worker.customers import enrollment
from worker.renewals import open_charges
from worker.services import Services

RENEWALS, BUYERS = 40, 12  # each buyer has two ad-hoc charges: with the renewals a batch of 64
DEFINITE, INDEFINITE = "[CC10]통장 잔액부족", "이미 처리중인 거래입니다"


def _attempt(number: int, state: str, extra: str = "", values: str = "") -> str:
    uid = f"left(c.key, 30) || '-{number}'"
    return (
        "INSERT INTO attempts (charge_id, number, merchant_uid, state, amount, currency, fence, sends, "
        f"last_sent_at, created_at, billing_key_id{extra}) SELECT c.id, {number}, {uid}, '{state}', c.amount, "
        f"c.currency, 3, 1, c.due_at - interval '2 hours', c.due_at, c.billing_key_id{values} "
        "FROM charges c WHERE c.id = :id ON CONFLICT DO NOTHING"  # one call for a card
    )


def _declined(number: int, reason: str, sends: int = 1, hours: int = 1) -> Sequence[str]:
    extra = ", settled_at, reason, pg_provider, answer, decline_class, decline_rule"
    answer = """CAST('{"pg_code"\\: null}' AS jsonb)"""
    values = f", c.due_at - interval '{hours} hours', '{reason}', 'kcp', {answer}, 'money_short', 'x@1'"
    return (
        _attempt(number, "declined", extra, values),
        f"UPDATE attempts SET sends = {sends} WHERE charge_id = :id AND number = {number}",
    )


DUNNED = (
    "UPDATE charges SET status = 'past_due', declines = 1, first_declined_at = due_at - interval '1 hour', "
    "ladder_began_at = due_at - interval '1 hour' WHERE id = :id"
)
TRIED = "UPDATE charges SET attempts = (SELECT count(*) FROM attempts WHERE charge_id = :id) WHERE id = :id"
TO_CARD = (
    "UPDATE charges SET billing_key_id = (SELECT billing_key_id FROM charges WHERE id = :other) WHERE id = :id"
)
STOPPED = (
    "UPDATE billing_keys SET stopped_as = 'never_again' "
    "WHERE id = (SELECT billing_key_id FROM charges WHERE id = :id)"
)
FINDING = (
    "INSERT INTO findings (id, kind, account, merchant_uid, charge_key, amount, balance, currency, words, state, "
    "found_at, seen_at) OVERRIDING SYSTEM VALUE SELECT id, 'lost', account, key, key, amount, amount, currency, "
    "'x', 'open', due_at, due_at FROM charges WHERE id = :id"
)
# What a charge of a batch may be, and the statements that make it so.
KINDS: dict[str, Sequence[str]] = {
    "first try": (),
    "by a person": ("UPDATE charges SET tried_by = 'person' WHERE id = :id",),
    "retry": (*_declined(1, DEFINITE), DUNNED, TRIED),
    "retry for a card": (
        *_declined(1, DEFINITE),
        DUNNED,
        TRIED,
        "UPDATE charges SET tried_by = 'card' WHERE id = :id",
    ),
    "capped": (*_declined(1, DEFINITE), *_declined(2, DEFINITE, hours=2), DUNNED, TRIED),
    "declined in unclear words": (*_declined(1, INDEFINITE), DUNNED, TRIED),
    "ended in doubt": (*_declined(1, DEFINITE, sends=2), DUNNED, TRIED),
    "not sent": (_attempt(1, "not_sent", ", settled_at", ", c.due_at"), TRIED),
    "not sent, and declined": (_attempt(1, "not_sent", ", settled_at", ", c.due_at"), DUNNED, TRIED),
    "given back": (_attempt(1, "ready"), TRIED),
    "unknown": (_attempt(1, "unknown", ", unknown_since, next_ask_at", ", c.due_at, c.due_at"), TRIED),
    "under way": (_attempt(1, "sending", ", lease_until", ", c.due_at + interval '1 hour'"), TRIED),
    "paid": (_attempt(1, "paid", ", settled_at", ", c.due_at"), TRIED),
    "number taken": _declined(1, DEFINITE),
    "held": ("UPDATE charges SET held_why = 'a person looks' WHERE id = :id",),
    "not due": ("UPDATE charges SET next_attempt_at = next_attempt_at + interval '1 day' WHERE id = :id",),
    "over": ("UPDATE charges SET status = 'waived', closed_at = due_at, next_attempt_at = NULL WHERE id = :id",),
    "typed in": ("UPDATE charges SET keyed_in = 'once' WHERE id = :id",),
    "stopped card": (STOPPED,),
    "stopped card, declined": (STOPPED, *_declined(1, DEFINITE), DUNNED, TRIED),
    "finding": (FINDING,),
    "finding, asked": (FINDING, "UPDATE charges SET asked_at = due_at WHERE id = :id"),
    "unknown account": ("UPDATE charges SET account = 'elsewhere' WHERE id = :id",),
    "stopped account": ("UPDATE charges SET account = 'second' WHERE id = :id",),
    "broken": ("UPDATE charges SET currency = 'XXX' WHERE id = :id",),
    "broken, dunned": (
        *_declined(1, DEFINITE),
        DUNNED,
        TRIED,
        "UPDATE charges SET currency = 'XXX' WHERE id = :id",
    ),
    "older debt of its card": (
        TO_CARD,
        "UPDATE charges SET due_at = due_at - interval '3 days' WHERE id = :other",
    ),
    "older dunned debt of its card": (
        TO_CARD,
        "UPDATE charges SET due_at = due_at - interval '3 days', attempts = 1, status = 'past_due', declines = 1, "
        "first_declined_at = due_at, ladder_began_at = due_at WHERE id = :other",
    ),
    "the same card": (TO_CARD,),
}
STOP = "INSERT INTO stops (account, at, actor, why) VALUES ('second', now(), 'kim', 'a fire')"
# Ids of rows are aside: a sequence counts on where a constraint refuses a row.
ROWS = (
    "SELECT * FROM charges ORDER BY id",
    "SELECT to_jsonb(a) - 'id' FROM attempts a ORDER BY charge_id, number",
    "SELECT a.charge_id, a.number, e.at, e.state, e.fence, e.words FROM attempt_events e "
    "JOIN attempts a ON a.id = e.attempt_id ORDER BY a.charge_id, a.number, e.id",
    "SELECT to_jsonb(o) - 'id' FROM outbox o ORDER BY subject, dedupe_key",
    "SELECT to_jsonb(k) FROM billing_keys k ORDER BY id",
)
Drawn = tuple[int, str]  # the place of a charge, and what it is
# Each kind twice, of renewals and of ad-hoc charges, in a batch of the full size.
EVERY_KIND: list[Drawn] = [
    (place * 37 % 64, kind) for place, kind in enumerate([*KINDS, *KINDS, *["first try"] * 64][:64])
]


def shop_of(services: Services, gateway: ScriptedGateway) -> tuple[Services, list[int]]:
    """A shop with RENEWALS renewals and two ad-hoc charges of each of BUYERS, and the row ids of all charges."""
    shop = replace(services, gateways={"main": gateway, "second": ScriptedGateway()})
    on_sale(shop, policy=replace(LADDER, cap=CardCap(2, timedelta(days=30))))
    for number in range(RENEWALS):
        subscribed(shop, f"customer-{number}")
    open_charges.open_due(shop)
    for buyer in range(BUYERS):
        enrollment.add_customer(shop, f"buyer-{buyer}", None, None, None, "test")
        for number in range(2):
            adhoc.charge(shop, ChargeRequest(
                customer_uid=f"buyer-{buyer}", money=Money(9900, "KRW"), name="수수료",
                request_key=f"fee-{buyer}-{number}", reason="late", policy="standard",
            ), "shop")  # fmt: skip
    with shop.engine.begin() as db:
        db.execute(text(STOP))
        return shop, list(db.execute(text("SELECT id FROM charges ORDER BY id")).scalars())


def arrange(db: Connection, ids: Sequence[int], batch: Sequence[Drawn]) -> None:
    """Make charges what was drawn for them."""
    db.execute(text("SET LOCAL session_replication_role = replica"))
    for place, kind in sorted(batch):
        for statement in KINDS[kind]:
            db.execute(text(statement), {"id": ids[place], "other": ids[place - 1]})


def _written(services: Services) -> list[list[Any]]:
    with services.engine.begin() as db:
        return [[tuple(row) for row in db.execute(text(query))] for query in ROWS]


def _plain(answer: Answer) -> object:
    return replace(answer, intent=replace(answer.intent, id=0)) if isinstance(answer, Claimed) else answer


def _claimed_together(services: Services, ids: list[int]) -> list[Answer]:
    """Claim a batch as an executor does: what is skipped is claimed alone."""
    answers = claim_many(services, ids)
    for place, answer in enumerate(answers):
        if isinstance(answer, Skipped):
            (answers[place],) = claim_many(services, [ids[place]], waits=True)
    return answers


def test_a_batch_leaves_the_same_rows_as_its_charges_one_by_one(
    services: Services, gateway: ScriptedGateway
) -> None:
    """No order is left out: of several charges of one card the first of the batch is the first that is claimed."""
    shop, ids = shop_of(services, gateway)
    assert len(ids) == RENEWALS + 2 * BUYERS == 64
    books = PostgresBooks(shop)
    empty = books.backup()
    kinds = st.sampled_from(list(KINDS))
    places = st.integers(0, len(ids) - 1)
    batches = st.lists(st.tuples(places, kinds), min_size=1, max_size=64, unique_by=lambda drawn: drawn[0])

    def after(batch: Sequence[Drawn], claim: Callable[[list[int]], list[Answer]]) -> tuple[object, object]:
        books.restore(empty)
        with shop.engine.begin() as db:
            arrange(db, ids, batch)
        answers = claim([ids[place] for place, _ in batch])
        return [_plain(answer) for answer in answers], _written(shop)

    @settings(
        max_examples=20, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(batches)
    @example(EVERY_KIND)
    @example(EVERY_KIND[::-1])
    def same(batch: list[Drawn]) -> None:
        together = after(batch, lambda them: _claimed_together(shop, them))
        alone = after(batch, lambda them: [claim_many(shop, [each], waits=True)[0] for each in them])
        assert together == alone

    same()
