"""The real command line and processes: plans in PostgreSQL, beat, workers, HTTP to the simulator, real signals."""

import json
import signal
from datetime import datetime

from schedules.calendar.zones import local_date, zone
from tests.acceptance.again import again, refused
from tests.installation import Installation
from worker.clock import wait_until
from worker.store.charging.kill_switch import BREAKER
from worker.store.customers import plans
from worker.store.operations import processes


def test_the_commands_of_the_readme_get_a_charge_paid(installation: Installation) -> None:
    """And though two beats ring, the money moves once."""
    installation.simulator("cards", {"customer_uid": "ann", "card": "approve"})
    installation.told(
        "plan", "add", "coffee", "--price", "9900", "--name", "Coffee", "--unit", "month", "--time", "00:00"
    )
    installation.told("customer", "add", "ann", "--name", "Ann")
    key = installation.told_json("subscribe", "ann", "coffee")["key"]
    charge = installation.wait_for(key, "paid").facts["key"]
    (movement,) = installation.movements("ann")
    story = installation.told_json("show", charge)
    (attempt,) = story["attempts"]
    assert (movement["uid"], movement["amount"]) == (attempt["merchant_uid"], 9900)
    assert attempt["imp_uid"] == movement["imp_uid"]
    told = [happening["what"] for happening in story["history"]]
    assert told == ["opened", "sending", "paid", "charge.paid"]
    assert installation.told_json("show", key)["standing"] == "active"
    beats = installation.told_json("status")["beats"]
    assert len(beats) == 2
    assert [beat["leads"] for beat in beats].count(True) == 1


def test_a_new_plan_is_seen_by_both_beats_without_a_restart(installation: Installation) -> None:
    installation.told("plan", "add", "fresh", "--price", "1000", "--name", "Fresh", "--unit", "week")
    with installation.services.engine.begin() as db:
        there_are = len(plans.listed(db, archived=True))

    def seen() -> list[int]:
        with installation.services.engine.begin() as db:
            return [each.plans for each in processes.seen(db) if each.kind == "beat"]

    assert wait_until(lambda: seen() == [there_are] * 2, 20)


def test_a_declined_card_is_tried_again_by_the_ladder(installation: Installation) -> None:
    key = installation.customer("poor", "now", card="no_money", shape="B")
    story = installation.wait_for(key, "past_due")
    assert story.facts["next_attempt_at"] is not None
    assert installation.movements("poor") == []


def test_sigterm_lets_the_call_under_way_end_and_loses_nothing(installation: Installation) -> None:
    """The workers are told to stop in the middle of a call; its answer is written before they go."""
    installation.simulator("faults", {"rules": [{"fault": "slow", "customer_uid": "slow", "seconds": 3}]})
    before = installation.calls("again")
    key = installation.customer("slow", "now")
    assert wait_until(lambda: installation.calls("again") > before, 30)
    children = installation.standing.children("worker-charges")
    try:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            assert child.wait(60) == 0
        story = installation.charge(key)
    finally:
        installation.restart("worker-charges")
    assert story is not None
    assert story.facts["status"] == "paid", story
    assert [happening.what for happening in story.happenings][:3] == ["opened", "sending", "paid"]


def test_a_database_that_crashes_loses_no_charge(installation: Installation) -> None:
    embedded = installation.standing.services
    assert embedded is not None
    key = installation.customer("crashed", "now")
    embedded.postgres.crash()
    embedded.postgres.restart()
    installation.services.engine.dispose()
    installation.wait_for(key, "paid", 90)
    assert len(installation.movements("crashed")) == 1


def test_what_the_day_brings_is_foreseen(installation: Installation) -> None:
    key = installation.customer("later", "now")
    installation.wait_for(key, "paid")
    due = datetime.fromisoformat(installation.told_json("show", key)["next_due_at"])
    day = local_date(due, zone("Asia/Seoul")).isoformat()
    rows = [row for row in installation.told_json("due", "--on", day) if row["subscription"] == key]
    assert [(row["amount"], row["currency"], row["customer_uid"]) for row in rows] == [(9900, "KRW", "later")]


def test_charging_stops_and_goes_on(installation: Installation) -> None:
    installation.told("stop-charging", "--why", "a fire")
    key = installation.customer("waits", "now")
    assert wait_until(lambda: installation.charge(key) is not None, 30)
    assert [stop["why"] for stop in installation.told_json("status")["stops"]] == ["a fire"]
    assert installation.movements("waits") == []
    installation.told("resume-charging", "--why", "the fire is out")
    installation.wait_for(key, "paid")


def test_an_ended_subscription_is_not_charged(installation: Installation) -> None:
    key = installation.customer("gone", "now")
    installation.wait_for(key, "paid")
    assert "ends with the running period" in installation.told("unsubscribe", key, "--why", "moved")
    assert installation.told_json("show", key)["next_due_at"] is None
    assert "canceled already" not in refused("unsubscribe", "0" * 20, "--why", "x", settings=installation.settings)


def test_a_healthy_installation_says_so_and_one_without_a_broker_does_not(installation: Installation) -> None:
    assert again("status", "--healthy", settings=installation.settings).returncode == 0
    away = installation.settings | {"AGAIN_BROKER_URL": "redis://127.0.0.1:1/0"}
    done = again("status", "--healthy", settings=away)
    assert done.returncode == 1
    assert "the broker at redis://" in done.stderr


def test_a_stop_by_the_breaker_is_unhealthy_and_one_by_a_person_is_not(installation: Installation) -> None:
    stop = (
        "--account", "main", "--why", "calls for 5 customers were refused", "--actor"
    )  # fmt: skip
    installation.told("stop-charging", *stop, "kim")
    assert again("status", "--healthy", settings=installation.settings).returncode == 0
    installation.told("stop-charging", *stop, BREAKER)
    done = again("status", "--healthy", settings=installation.settings)
    assert done.returncode == 1
    assert "the breaker stopped charging for account main: calls for 5 customers were refused" in done.stderr
    installation.told("resume-charging", "--account", "main", "--why", "the key is right")
    assert again("status", "--healthy", settings=installation.settings).returncode == 0


def test_lists_are_told_as_json_too(installation: Installation) -> None:
    for command in (
        ["plan", "list"],
        ["plan", "show", "now"],
        ["held"],
        ["status"],
        ["due", "--on", "2030-01-01"],
        ["forecast", "--by-day"],
    ):
        json.dumps(installation.told_json(*command))


def test_no_secret_is_in_any_log(installation: Installation) -> None:
    logs = "".join(path.read_text() for path in (installation.standing.data / "logs").glob("*.log"))
    secret = installation.settings["AGAIN_PORTONE_SECRET"]
    password = installation.settings["AGAIN_BROKER_URL"].split(":")[2].split("@")[0]
    assert "paid" in logs
    assert secret not in logs
    assert password not in logs
