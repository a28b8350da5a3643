"""`again policy`, `try`, `card` and `paid-elsewhere` as a person runs them, on real PostgreSQL."""

import json
from datetime import time, timedelta
from pathlib import Path

import pytest

from schedules.calendar.zones import local_date, zone
from schedules.charging.outcomes import Declined
from schedules.dunning.policies import STANDARD
from schedules.dunning.policy_files import written
from tests.acceptance.again import refused, told, told_json
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, move_to, on_sale, subscribed
from worker.clock import SystemClock
from worker.services import Services

NOWHERE = {"AGAIN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}


@pytest.fixture
def settings(database: str) -> dict[str, str]:
    """The settings of a shop whose gateway is not there."""
    return {
        "AGAIN_DATABASE_URL": database, "AGAIN_ENVIRONMENT": "test", "AGAIN_PORTONE_KEY": "key",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_SECRET": "secret",
        "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
    }  # fmt: skip


def test_a_policy_is_added_once_listed_and_shown_as_the_file_that_makes_it(
    services: Services, settings: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(written(STANDARD).replace('"standard"', '"ours"'))
    assert "policy ours version 1 is kept" in told("policy", "add", str(file), settings=settings)
    assert "says the same already" in told("policy", "add", str(file), settings=settings)
    file.write_text(file.read_text().replace('final = "cancel"', 'final = "pause"'))
    assert "version 2 is kept" in told("policy", "add", str(file), settings=settings)
    listed = told_json("policy", "list", settings=settings)
    assert [(found["code"], found["version"]) for found in listed] == [("ours", 2)]
    assert len(told_json("policy", "list", "--all", settings=settings)) == 2
    assert told("policy", "show", "ours", settings=settings).splitlines()[1:] == file.read_text().splitlines()
    assert 'final = "cancel"' in told("policy", "show", "ours", "--version", "1", settings=settings)
    assert "there are: 1, 2" in refused("policy", "show", "ours", "--version", "3", settings=settings)
    assert "there are: ours, and built in: standard, once" in refused(
        "policy", "show", "theirs", settings=settings
    )


def test_a_bad_policy_is_refused_with_the_line_and_nothing_is_kept(
    services: Services, settings: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('code = "ours"\nladder = ["3d", "1d"]\n')
    assert "line 2: ladder: ladder offset 1d does not come after 3d" in refused(
        "policy", "add", str(file), settings=settings
    )
    assert told_json("policy", "list", settings=settings) == []
    assert "cannot be read" in refused("policy", "add", str(tmp_path / "none.toml"), settings=settings)


def test_a_preview_of_the_built_in_policy_or_a_file_needs_no_database(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('code = "ours"\nladder = ["1d", "3d"]\n')
    arguments = ("--text", "[CC01]카드사로 문의", "--pg", "kcp", "--at", "2026-03-02T09:00:00+09:00", "--json")
    answer = json.loads(told("policy", "preview", str(file), *arguments, settings=NOWHERE))
    assert answer["class"] == "unknown_word"
    assert [(thing["local"][:16], thing["what"]) for thing in answer["coming"]][1:] == [
        ("2026-03-03T09:00", "try 2"),
        ("2026-03-05T09:00", "try 3"),
        ("2026-03-05T09:00", "final action: cancel"),
    ]
    assert "give --text with --pg, or --class" in refused("policy", "preview", settings=NOWHERE)


def test_a_plan_is_put_on_sale_under_a_policy_and_shows_it(services: Services, settings: dict[str, str]) -> None:
    sale = ("plan", "add", "coffee", "--price", "9900", "--name", "Coffee", "--unit", "month")
    assert "policy 'ours' is not known" in refused(*sale, "--policy", "ours", settings=settings)
    assert "not both" in refused(*sale, "--policy", "standard", "--ladder", "1d", settings=settings)
    told(*sale, settings=settings)
    told(*sale, "--ladder", "1d,2d", "--final", "cancel", settings=settings)
    plans = told_json("plan", "list", settings=settings)
    assert [(plan["policy"], plan["policy_version"]) for plan in plans] == [("standard", 1), ("coffee", 1)]


def test_a_person_s_verbs_are_done_said_and_written_down(
    services: Services, gateway: ScriptedGateway, settings: dict[str, str]
) -> None:
    move_to(services, SystemClock().now() - timedelta(minutes=1))  # commands have no other clock
    today = local_date(services.clock.now(), zone("Asia/Seoul"))
    on_sale(services, billing_time=time(0))
    subscribed(services, anchor=today)
    gateway.cards["ann"] = lambda order: Declined("분실 카드", None, None, "kcp")
    collect_due(services)
    (charge,) = charge_rows(services)
    why = ("--why", "she called")
    assert "is tried now" in told("try", charge["key"], *why, settings=settings)
    move_to(services, SystemClock().now())
    collect_due(services)
    assert [row["tried_by"] for row in attempt_rows(services)] == [None, "person"]
    assert "open charges that are tried now: 1" in told("card", "changed", "ann", *why, settings=settings)
    assert "is good until 2049-02-28" in told("card", "expires", "ann", "2049-02", settings=settings)
    assert "is past" in refused("card", "expires", "ann", "2020-02", settings=settings)
    assert "customer 'bob' is not known" in refused("card", "changed", "bob", *why, settings=settings)
    assert "is paid" in told("paid-elsewhere", charge["key"], *why, settings=settings)
    assert "nothing is owed any more" in refused("try", charge["key"], *why, settings=settings)
    story = told("show", charge["key"], settings=settings)
    for verb in ("try", "paid-elsewhere", "charge.failed", "charge.paid"):
        assert verb in story


def test_what_waits_for_another_card_is_listed_with_its_reason(
    services: Services, gateway: ScriptedGateway, settings: dict[str, str]
) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("분실 카드", None, None, "kcp"))
    collect_due(services)
    (charge,) = charge_rows(services)
    listed = told_json("held", settings=settings)
    assert listed["charges"] == []
    (waiting,) = listed["waiting_for_card"]
    assert (waiting["key"], waiting["customer_uid"], waiting["amount"]) == (charge["key"], "ann", 9900)
    assert waiting["why"] == "its card is not tried any more, never_again: 분실 카드"
    assert waiting["look_at"] is not None
    shown = told("held", settings=settings)
    assert "held charges: none" in shown
    assert all(
        words in shown for words in ("charges that wait for a card", charge["key"], "9,900 KRW", "분실 카드")
    )
