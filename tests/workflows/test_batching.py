"""Batching: nothing is charged before every line is right; each line once; too many failures stop the rest."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from schedules.charging.charges import ChargeKind
from schedules.charging.outcomes import Declined, Unknown
from schedules.errors import BadRequest, Code
from schedules.requests.batches import BatchState, Line, Terms
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, many_opened, on_sale, subscribed, with_settings
from tests.scenarios.living import notices
from worker.batches import drafts, run_batch
from worker.batches.drafts import BadLines, CannotBatch
from worker.charging import resolve_unknown
from worker.customers import enrollment
from worker.operations import operate
from worker.renewals import enqueue
from worker.services import DryRunChanges, Services
from worker.store import batches
from worker.store.batches import Batch

TERMS = Terms(key="fees", name="Late fee", reason="returned late", policy="once")


@pytest.fixture
def shop(services: Services) -> Services:
    """Ten customers: c0 to c9."""
    for number in range(10):
        enrollment.add_customer(services, f"c{number}", None, None, None, "test")
    return services


def lines(count: int = 10, **columns: str) -> list[Line]:
    """A line for each of so many customers."""
    return [Line(n + 2, {"customer_uid": f"c{n}", "amount": "3000"} | columns) for n in range(count)]


def drafted(services: Services, *more: Line, terms: Terms = TERMS, count: int = 10) -> Batch:
    """A batch whose lines are kept."""
    return drafts.draft(services, terms, [*lines(count), *more], "kim")[0]


def begun(services: Services, **terms: Any) -> Batch:
    """A batch that runs."""
    drafted(services, terms=replace(TERMS, **terms))
    return run_batch.begin(services, "fees", "kim")


def state(services: Services) -> Batch:
    """The batch as it stands."""
    with services.engine.begin() as db:
        return drafts.known_batch(db, "fees", lock=False)


def work(services: Services, rounds: int = 4) -> None:
    """Open and collect, as beat and the workers would."""
    for _ in range(rounds):
        run_batch.go_on(services)
        collect_due(services)
    run_batch.go_on(services)


def test_a_draft_charges_nothing_and_shows_what_it_would(shop: Services) -> None:
    batch, preview = drafts.draft(
        shop, TERMS, [*lines(9), Line(11, {"customer_uid": "c9", "amount": "12.34", "currency": "USD"})], "kim"
    )
    assert (preview.count, preview.sums) == (10, {"KRW": 27000, "USD": 1234})
    assert [(number, str(money)) for number, _, money in preview.largest][:2] == [
        (2, "3,000 KRW"),
        (3, "3,000 KRW"),
    ]
    assert batch.state is BatchState.DRAFT
    work(shop)
    assert not charge_rows(shop)


def test_every_line_is_charged_once(shop: Services, gateway: ScriptedGateway) -> None:
    begun(shop)
    work(shop)
    assert sorted(order.customer_uid for order in gateway.sent) == [f"c{n}" for n in range(10)]
    assert {order.name for order in gateway.sent} == {"Late fee"}
    assert state(shop).state is BatchState.DONE


def test_a_line_that_breaks_a_rule_stops_its_own_batch_alone(shop: Services, gateway: ScriptedGateway) -> None:
    """Guard: a line that an earlier version took, and this one refuses, keeps no other batch from going on."""
    begun(shop)
    drafts.draft(shop, replace(TERMS, key="later"), [Line(2, {"customer_uid": "c0", "amount": "100"})], "kim")
    run_batch.begin(shop, "later", "kim")
    with shop.engine.begin() as db:
        fees = drafts.known_batch(db, "fees", lock=False)
        db.execute(
            text("UPDATE batch_lines SET name = '4111/1111/1111/1111' WHERE batch_id = :batch AND number = 3"),
            {"batch": fees.id},
        )
    work(shop)
    assert [order.money.amount for order in gateway.sent] == [100]
    stopped = state(shop)
    assert stopped.state is BatchState.STOPPED
    assert "line 3: name: it looks like a card number" in str(stopped.words)
    assert notices(shop).count("batch.stopped") == 1


def test_a_request_key_with_groups_of_digits_is_charged(shop: Services, gateway: ScriptedGateway) -> None:
    """Guard: a key that was taken before an upgrade is taken after it: its sender needs no second key."""
    key = "order-664816-69778857"
    drafts.draft(shop, replace(TERMS, key=key), lines(1, request_key=key), "kim")
    run_batch.begin(shop, key, "kim")
    work(shop)
    assert [order.customer_uid for order in gateway.sent] == ["c0"]


BAD = (
    ({"customer_uid": "zoe"}, "customer_uid"),
    ({"customer_uid": ""}, "customer_uid"),
    ({"amount": "3,000"}, "amount"),
    ({"amount": "-1"}, "amount"),
    ({"amount": "0"}, "amount"),
    ({"amount": "1.5"}, "amount"),
    ({"amount": ""}, "amount"),
    ({"currency": "XXX"}, "currency"),
    ({"name": "n" * 41}, "name"),
    ({"request_key": "k" * 201}, "request_key"),
    ({"request_key": "4111111111111111"}, "request_key"),
    ({"request_key": "taken"}, "request_key"),
)


def test_each_bad_line_is_named_and_nothing_is_kept(shop: Services) -> None:
    """The guard: one bad line keeps the whole batch from being charged."""
    taken = Line(2, {"customer_uid": "c1", "amount": "1", "request_key": "taken"})
    drafts.draft(shop, replace(TERMS, key="before"), [taken], "kim")
    run_batch.begin(shop, "before", "kim")
    work(shop)
    bad = [Line(100 + n, {"customer_uid": "c1", "amount": "3000"} | columns) for n, (columns, _) in enumerate(BAD)]
    bad += [Line(200, {"customer_uid": "c1", "amount": "1", "request_key": "twice"}) for _ in range(1)]
    bad += [Line(201, {"customer_uid": "c2", "amount": "1", "request_key": "twice"})]
    bad += [Line(202, {}, "it has 3 columns, the first line 2")]
    with pytest.raises(BadLines) as error:
        drafted(shop, *bad)
    named = {(line.number, line.column) for line in error.value.bad}
    expected = {(100 + n, column) for n, (_, column) in enumerate(BAD)}
    assert named == expected | {(201, "request_key"), (202, "line")}
    assert "4111111111111111" not in str(error.value)
    with shop.engine.begin() as db:
        assert batches.by_key(db, "fees") is None


def test_the_same_lines_under_one_key_are_the_same_batch_and_others_are_refused(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """The guard: one_batch_for_each_key, and its fingerprint."""
    begun(shop)
    work(shop)
    assert drafted(shop).state is BatchState.DONE
    with pytest.raises(CannotBatch, match="with other lines or terms"):
        drafted(shop, count=9)
    with pytest.raises(CannotBatch, match="nothing to begin"):
        run_batch.begin(shop, "fees", "kim")
    work(shop)
    assert len(gateway.sent) == 10


def test_a_draft_that_nobody_went_on_with_is_read_anew(shop: Services, gateway: ScriptedGateway) -> None:
    drafted(shop, count=3)
    batch = drafted(shop, count=4)
    assert batch.lines == 4
    run_batch.begin(shop, "fees", "kim")
    work(shop)
    assert len(gateway.sent) == 4


def test_above_the_limit_another_person_approves(shop: Services, gateway: ScriptedGateway) -> None:
    """The guard: nothing above the limit is charged on one person's word."""
    strict = replace(shop, settings=shop.settings.model_copy(update={"batch_limit": "KRW=29999"}))
    drafted(strict)
    assert run_batch.begin(strict, "fees", "kim", "kim-unix").state is BatchState.WAITING
    work(strict)
    assert not gateway.sent
    with pytest.raises(CannotBatch, match="actor 'kim' as well; another person"):
        run_batch.approve(strict, "fees", "kim", "looks right", "lee-unix")
    with pytest.raises(CannotBatch, match="operating system user 'kim-unix' as well; another person"):
        run_batch.approve(strict, "fees", "lee", "looks right", "kim-unix")
    run_batch.approve(strict, "fees", "lee", "looks right", "lee-unix")
    work(strict)
    assert len(gateway.sent) == 10
    batch = state(strict)
    assert (batch.created_by, batch.created_os_user) == ("kim", "kim-unix")
    assert (batch.approved_by, batch.approved_os_user) == ("lee", "lee-unix")


def test_a_canary_is_looked_at_before_the_others_are_charged(shop: Services, gateway: ScriptedGateway) -> None:
    begun(shop, canary=4, canary_bound=Decimal(25))
    gateway.answers.extend([Declined("[CC10]통장 잔액부족")])
    run_batch.go_on(shop)
    run_batch.go_on(shop)
    assert len(charge_rows(shop)) == 4
    work(shop)
    assert len(gateway.sent) == 10


def test_a_canary_above_its_bound_stops_the_rest_until_a_person_goes_on(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """The guard: the failures of the first lines."""
    begun(shop, canary=4, canary_bound=Decimal(25))
    gateway.answers.extend([Declined("[CC10]통장 잔액부족")] * 2)
    work(shop)
    assert len(gateway.sent) == 4
    assert state(shop).state is BatchState.STOPPED
    assert state(shop).words == "2 of the first 4 failed, above 25%"
    assert "batch.stopped" in notices(shop)
    run_batch.resume(shop, "fees", "kim", "the PG was away")
    work(shop)
    assert len(gateway.sent) == 10


@pytest.mark.parametrize(
    ("canary", "bound", "failed", "goes_on"),
    [
        (1, 1, 1, False),
        (1, 99, 1, False),
        (1, 100, 1, True),
        (3, 20, 1, False),
        (10, 20, 2, True),
        (10, 20, 3, False),
    ],
)
def test_the_bound_of_a_canary_is_never_rounded_up(canary: int, bound: int, failed: int, goes_on: bool) -> None:
    terms = replace(TERMS, canary=canary, canary_bound=Decimal(bound))
    assert terms.allows(failed) is goes_on
    assert terms.allows(0)


def test_a_single_canary_that_is_declined_stops_the_batch(shop: Services, gateway: ScriptedGateway) -> None:
    begun(shop, canary=1, canary_bound=Decimal(1))
    gateway.answers.append(Declined("[CC10]통장 잔액부족"))
    work(shop)
    assert (len(gateway.sent), state(shop).state) == (1, BatchState.STOPPED)


@pytest.mark.parametrize("changes", [{"reason": "another"}, {"name": "another"}, {"policy": "standard"}])
def test_the_lines_of_a_batch_that_was_begun_are_not_charged_again_by_accident(
    shop: Services, gateway: ScriptedGateway, changes: dict[str, Any]
) -> None:
    """The guard: the content of a batch, whatever its key, its reason and the order of its lines."""
    begun(shop)
    work(shop)
    other = replace(TERMS, key="again", **changes)
    with pytest.raises(CannotBatch, match=r"batch 'fees', begun by kim .* --repeats fees"):
        drafts.draft(shop, other, reversed(lines()), "lee")
    with pytest.raises(CannotBatch, match="has not the same lines"):
        drafts.draft(shop, replace(other, repeats="fees"), lines(9), "lee")
    drafts.draft(shop, other, lines(9), "lee")
    drafts.draft(shop, replace(other, repeats="fees"), lines(), "lee")
    run_batch.begin(shop, "again", "lee")
    work(shop)
    assert len(gateway.sent) == 20
    third = replace(other, key="third", repeats="fees")
    with pytest.raises(CannotBatch, match="--repeats again"):
        drafts.draft(shop, third, lines(), "lee")


def test_lines_with_other_request_keys_of_their_own_are_other_lines(shop: Services) -> None:
    for month in ("01", "02"):
        own = [
            replace(line, columns={**line.columns, "request_key": f"{month}-{line.number}"}) for line in lines()
        ]
        drafts.draft(shop, replace(TERMS, key=f"fees-{month}"), own, "kim")
        assert run_batch.begin(shop, f"fees-{month}", "kim").state is BatchState.RUNNING


def test_a_draft_or_a_dropped_batch_is_not_repeated_by_another(shop: Services) -> None:
    drafted(shop)
    drafts.draft(shop, replace(TERMS, key="other"), lines(), "lee")
    run_batch.drop(shop, "fees", "kim", "the other one")
    assert run_batch.begin(shop, "other", "lee").state is BatchState.RUNNING
    with pytest.raises(CannotBatch, match="'other', begun by lee"):
        drafted(shop)


def test_of_two_batches_with_the_same_lines_that_begin_at_once_one_is_refused(
    shop: Services, gateway: ScriptedGateway
) -> None:
    """The guard: one_batch_for_each_content."""
    keys = [f"fees-{number}" for number in range(4)]
    for key in keys:
        drafts.draft(shop, replace(TERMS, key=key), lines(), "kim")
    started = Barrier(len(keys))

    def begin(key: str) -> bool:
        started.wait()
        try:
            run_batch.begin(shop, key, "kim")
        except CannotBatch:
            return False
        return True

    with ThreadPoolExecutor(len(keys)) as pool:
        assert sum(pool.map(begin, keys)) == 1
    work(shop)
    assert len(gateway.sent) == 10


def test_a_batch_leaves_half_of_the_queue_to_renewals(shop: Services) -> None:
    """The guard: renewals do not wait until a batch ends."""
    renewals = many_opened(shop, 8)
    begun(shop)
    run_batch.go_on(shop)
    queued: list[enqueue.Queued] = []
    few = with_settings(shop, queue_bound=8)
    enqueue.top_up(few, queued.extend)
    assert [each.kind for each in queued].count(ChargeKind.ADHOC) == 4
    assert {each.charge_id for each in queued if each.kind is ChargeKind.RENEWAL} <= set(renewals)
    wide = with_settings(shop, queue_bound=40)
    enqueue.top_up(wide, queued.extend)
    assert len(queued) == 18


def test_a_batch_alone_takes_the_whole_queue(shop: Services) -> None:
    begun(shop)
    run_batch.go_on(shop)
    queued: list[enqueue.Queued] = []
    enqueue.top_up(with_settings(shop, queue_bound=8), queued.extend)
    assert len(queued) == 8


def test_an_unclear_canary_is_waited_for(shop: Services, gateway: ScriptedGateway) -> None:
    begun(shop, canary=2)
    gateway.answers.append(Unknown("time-out"))
    work(shop)
    assert len(gateway.sent) == 2
    assert state(shop).state is BatchState.RUNNING


def test_stopped_it_opens_nothing_and_lets_what_is_untried_wait_and_goes_on_where_it_was(
    shop: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_batch, "MOST_AHEAD", 3)
    begun(shop)
    run_batch.go_on(shop)
    assert len(charge_rows(shop)) == 3
    assert run_batch.stop(shop, "fees", "kim", "wrong amount?") == 3
    resolve_unknown.sweep(shop)
    assert [kind for kind in notices(shop) if "held" in kind or "stopped" in kind] == ["batch.stopped"]
    work(shop)
    assert not gateway.sent
    assert run_batch.resume(shop, "fees", "kim", "it was right") == 3
    work(shop, rounds=6)
    assert sorted(order.customer_uid for order in gateway.sent) == [f"c{n}" for n in range(10)]


def test_a_process_that_dies_between_two_chunks_loses_and_repeats_nothing(
    shop: Services, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_batch, "CHUNK", 4)
    begun(shop)
    run_batch.go_on(shop, iter([True, False]).__next__)
    assert len(charge_rows(shop)) == 4
    work(shop)
    assert len(gateway.sent) == 10


def test_a_key_deleted_meanwhile_is_told_in_the_results_and_the_others_go_on(
    shop: Services, gateway: ScriptedGateway
) -> None:
    drafted(shop)
    with shop.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET deleted_at = now() WHERE customer_uid = 'c3'"))
    run_batch.begin(shop, "fees", "kim")
    gateway.cards["c5"] = lambda order: Declined("[CC10]통장 잔액부족")
    work(shop)
    with shop.engine.begin() as db:
        told = {row.customer_uid: row for row in batches.results(db, state(shop).id)}
    assert len(told) == 10
    assert (told["c3"].charge, told["c3"].words) == (None, "its billing key was deleted")
    assert (told["c5"].status, told["c5"].reason) == ("uncollectible", "[CC10]통장 잔액부족")
    assert told["c0"].merchant_uid == gateway.sent[0].merchant_uid


def test_a_segment_has_a_line_for_each_on_the_plan(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    for name in ("ann", "ben", "cho"):
        subscribed(services, name)
    ended = subscribed(services, "dan")
    enrollment.unsubscribe(services, ended, "kim", "x", at_period_end=False)
    chosen = drafts.segment(services, "monthly", "active", "500")
    drafts.draft(services, TERMS, chosen, "kim")
    run_batch.begin(services, "fees", "kim")
    run_batch.go_on(services)
    adhoc = [row for row in charge_rows(services) if row["kind"] == "adhoc"]
    assert len(adhoc) == 3


def test_a_rehearsal_checks_all_and_keeps_nothing(shop: Services) -> None:
    drafts.draft(replace(shop, dry_run=DryRunChanges()), TERMS, lines(), "kim")
    with shop.engine.begin() as db:
        assert batches.by_key(db, "fees") is None


def test_a_dropped_batch_is_not_charged_and_may_be_read_anew(shop: Services, gateway: ScriptedGateway) -> None:
    drafted(shop)
    run_batch.drop(shop, "fees", "kim", "the wrong file")
    work(shop)
    assert not gateway.sent
    assert drafted(shop).state is BatchState.DRAFT
    with pytest.raises(CannotBatch, match="nothing to stop"):
        run_batch.stop(shop, "fees", "kim", "x")


def test_a_batch_that_is_already_what_was_asked_for_says_so(shop: Services) -> None:
    drafted(shop)
    with pytest.raises(CannotBatch) as draft:
        run_batch.approve(shop, "fees", "ben", "x")
    run_batch.begin(shop, "fees", "kim")
    with pytest.raises(CannotBatch) as running:
        run_batch.approve(shop, "fees", "ben", "x")
    assert (draft.value.code, running.value.code) == (Code.CONFLICT, Code.ALREADY_DONE)


def test_nothing_is_opened_by_a_copy_of_the_database(shop: Services) -> None:
    begun(shop)
    assert run_batch.go_on(replace(shop, fingerprint_in=lambda _: "of a copy")) == 0
    assert not charge_rows(shop)


def test_charging_that_is_stopped_stops_batches_too(shop: Services, gateway: ScriptedGateway) -> None:
    begun(shop)
    operate.stop_charging(shop, "kim", "look first")
    work(shop)
    assert not gateway.sent


def test_terms_that_cannot_be_are_refused() -> None:
    for wrong in ({"canary": -1}, {"canary_bound": Decimal(101)}, {"currency": "XXX"}, {"key": ""}):
        with pytest.raises(BadRequest):
            replace(TERMS, **wrong)


def test_memory_does_not_grow_with_the_lines(shop: Services) -> None:
    def peak(key: str, count: int) -> int:
        many = (Line(n + 2, {"customer_uid": f"c{n % 10}", "amount": "1"}) for n in range(count))
        tracemalloc.start()
        try:
            drafts.draft(shop, replace(TERMS, key=key), many, "kim")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak("warm", 1000)
    assert peak("more", 8000) < 1.5 * peak("few", 2000)
