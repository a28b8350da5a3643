"""The operator's side of the promise, with real processes: the kill switch, findings, unknown answers, refunds."""

from datetime import UTC, datetime, timedelta

from redis import Redis

from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Paid
from schedules.money.amounts import Money
from tests.acceptance.again import again, refused
from tests.installation import Installation
from worker import restore_detector
from worker.cli.terminal.output import instant
from worker.clock import wait, wait_until
from worker.gateway.port import ChargeOrder
from worker.operations import operate
from worker.reconciliation import reconciler
from worker.store.charging import attempts
from worker.store.reporting import timeline


def test_the_kill_switch_is_seen_by_every_worker_before_its_next_call(installation: Installation) -> None:
    """In the middle of a few hundred charges; nothing is sent a second after the stop, and nothing is lost."""
    many = [f"many-{number}" for number in range(300)]
    operate.stop_charging(installation.services, "tester", "until all are there")
    for customer in many:
        installation.customer(customer, "now")
    installation.simulator("faults", {"latency_ms": 200})
    operate.resume_charging(installation.services, "tester", "all are there")
    before = len(installation.simulator("ledger")["movements"])

    def moved() -> int:
        return len(installation.simulator("ledger")["movements"]) - before

    assert wait_until(lambda: moved() > 30, 30)
    operate.stop_charging(installation.services, "tester", "a fire drill")
    wait(1.0)  # the promise; a call that was under way has been answered by then too
    then = moved()
    assert then < len(many)
    wait(2.0)
    assert moved() == then
    installation.told("resume-charging", "--why", "the drill is over")
    assert wait_until(lambda: moved() == len(many), 60)
    installation.simulator("faults", {})


def test_a_second_payment_is_found_shown_and_given_back(installation: Installation) -> None:
    """Crash row 16, by hand: the debt is paid again behind our back, under a uid of ours."""
    key = installation.customer("twice", "now")
    charge = installation.wait_for(key, "paid").facts["key"]
    order = ChargeOrder("twice", merchant_uid("test", charge, 2), Money(9900, "KRW"), "Now")
    assert isinstance(installation.services.gateway("main").charge(order), Paid)
    told = installation.told("reconcile", "--to", instant(installation.services.clock.now()))
    assert "new findings: 1" in told
    assert "newer records are left out: they are after --to" in told
    (finding,) = [f for f in installation.told_json("findings") if f["charge_key"] == charge]
    assert (finding["kind"], finding["state"], finding["balance"]) == ("double", "open", 9900)
    assert installation.told_json("status")["stops"][0]["actor"] == "again"
    installation.told("findings", "refund", str(finding["id"]), "--why", "paid twice")
    assert wait_until(lambda: len(installation.movements("twice")) == 3, 30)
    assert [m["kind"] for m in installation.movements("twice")] == ["charge", "charge", "cancel"]

    def state() -> str:
        listed = installation.told_json("findings", "--all")
        return str(next(found["state"] for found in listed if found["id"] == finding["id"]))

    assert wait_until(lambda: state() == "refunded", 30)
    installation.told("resume-charging", "--account", "main", "--why", "looked at")


def test_a_reconciliation_names_its_span_and_why_it_leaves_newer_records_out(installation: Installation) -> None:
    before = installation.services.clock.now()
    (run,) = installation.told_json("reconcile")["runs"]
    since, until = (datetime.fromisoformat(run[name]) for name in ("since", "done_until"))
    assert until - since == timedelta(days=2) - reconciler.SETTLING_TIME
    assert until >= before - reconciler.SETTLING_TIME
    assert run["newer_left_out"].startswith("calls of the last 2 min may be under way")
    told = installation.told("reconcile", "--from", "2026-01-30", "--to", "2026-01-31T12:00:00+09:00")
    assert "from 2026-01-30 00:00:00Z" in told
    assert "to 2026-01-31 03:00:00Z (12:00 KST)" in told


def test_an_unknown_outcome_is_listed_with_its_age_and_next_look(installation: Installation) -> None:
    rules = [
        {"fault": "reset_after", "customer_uid": "foggy", "times": 1},
        {"call": "find", "fault": "http_500_before", "times": 3},
    ]
    installation.simulator("faults", {"rules": rules})
    key = installation.customer("foggy", "now")
    assert wait_until(lambda: installation.attempt_states(key) == ["unknown"], 30)
    uid = installation.charge(key).parts[0]["merchant_uid"]  # type: ignore[union-attr]  # it is there
    (row,) = [row for row in installation.told_json("unknown") if row["merchant_uid"] == uid]
    assert row["age_seconds"] < 60
    assert row["next_ask_at"]
    assert uid in installation.told("unknown")
    with installation.services.engine.begin() as db:
        assert attempts.unknown_count(db) == installation.told_json("status")["unknown"] >= 1
    installation.simulator("faults", {})
    installation.wait_for(key, "paid", 90)


def test_a_database_that_was_put_back_in_place_is_held_until_all_is_known(installation: Installation) -> None:
    """Its fingerprint is the same; only the mark in the broker tells that the books had come further."""
    services = installation.services
    with services.engine.begin() as db:
        fingerprint = services.fingerprint(db)
    name = restore_detector.mark_name(fingerprint)
    installation.wait_for(installation.customer("before", "now"), "paid")  # without any attempt there is no mark
    # While the list fails, not all is known: the hold lasts until the test has looked at it.
    installation.simulator("faults", {"rules": [{"call": "list", "fault": "http_500_before"}]})
    with Redis.from_url(installation.settings["AGAIN_BROKER_URL"]) as redis:
        assert wait_until(lambda: bool(redis.get(name)), 30)
        redis.set(name, restore_detector.signed(services, fingerprint, 10**9, datetime(2026, 1, 31, tzinfo=UTC)))
    assert wait_until(lambda: installation.told_json("status")["hold"] is not None, 30)
    key = installation.customer("after", "now")
    assert wait_until(lambda: installation.charge(key) is not None, 30)
    assert installation.movements("after") == []
    installation.simulator("faults", {})
    story = installation.wait_for(key, "paid", 90)
    assert installation.told_json("status")["hold"] is None
    assert len(installation.movements("after")) == 1
    with services.engine.begin() as db:
        lifted = timeline.audit_of(db, "test", "lift-hold")[-1].at
    assert [each.at > lifted for each in story.happenings if each.what == "sending"] == [True]


def test_what_cannot_be_compared_or_ended_is_said(installation: Installation) -> None:
    settings = installation.settings
    assert "is empty" in refused("reconcile", "--from", "2026-02-01", "--to", "2026-01-01", settings=settings)
    assert "not an instant" in again("reconcile", "--from", "yesterday", settings=settings).stderr
    assert "no finding 4711" in refused("findings", "resolve", "4711", "--why", "x", settings=settings)
    assert "no credentials for" in refused("reconcile", "--account", "other", settings=settings)
