"""`again archive` as a person runs it."""

import subprocess
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.acceptance.again import AGAIN, again, plain_environment, refused, told, told_json
from tests.factories import charge_rows, collect_due, move_to, on_sale, subscribed
from worker.clock import SystemClock
from worker.services import Services

NOW = SystemClock().now()
PAID_AT = NOW.replace(day=15, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=480)  # 09:00 in Seoul
MONTH = f"{PAID_AT + timedelta(days=31):%Y-%m}"  # the one after it, more than thirteen months ago


@pytest.fixture
def settings(services: Services, database: str) -> dict[str, str]:
    """An installation with three charges that were paid more than fourteen months ago; their shop was told."""
    move_to(services, PAID_AT)
    on_sale(services)
    for name in ("ann", "ben", "cho"):
        subscribed(services, name)
    collect_due(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE outbox SET next_try_at = NULL, delivered_at = created_at"))
    return {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0", "AGAIN_PORTONE_KEY": "key",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_SECRET": "secret",
        "AGAIN_DATABASE_URL": database,
    }  # fmt: skip


def test_a_person_counts_archives_and_looks(services: Services, settings: dict[str, str]) -> None:
    counted = told("archive", "--before", MONTH, "--dry-run", settings=settings)
    assert "nothing is done; it would be" in counted
    assert "attempts moved: 3" in counted
    done = told_json("archive", "--before", MONTH, settings=settings)
    assert (done["before"], done["looked_at"], done["charges"], done["attempts"]) == (MONTH, 3, 3, 3)
    assert done["is_whole"] is True
    assert list(done["months"]) == [f"{PAID_AT:%Y-%m}"]
    story = told("show", str(charge_rows(services)[0]["key"]), settings=settings)
    assert "archived at:" in story
    assert "paid" in story
    (act,) = told_json("audit", "--verb", "archive", settings=settings)
    assert (act["actor"], act["subject"]) == ("tester", MONTH)


def test_a_month_that_is_too_young_or_none_is_refused_in_words(settings: dict[str, str]) -> None:
    young = f"{NOW - timedelta(days=300):%Y-%m}"
    assert f"{young} is too young" in refused("archive", "--before", young, settings=settings)
    assert "is not a month; write it like 2026-01" in refused("archive", "--before", "2025-13", settings=settings)
    assert "is not a month" in refused("archive", "--before", "soon", settings=settings)


def test_ctrl_c_ends_the_batch_and_says_how_to_go_on(settings: dict[str, str]) -> None:
    """It comes before the first batch here: nothing is half done, and the same command does the rest."""
    slow = "import signal, os; from worker import cli, failpoints; "
    slow += "failpoints._action = lambda *_: os.kill(os.getpid(), signal.SIGINT); cli.main()"
    python = AGAIN.with_name("python")
    done = subprocess.run(
        [python, "-c", slow, "archive", "--before", MONTH], env=plain_environment(settings), capture_output=True,
        text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "the same command goes on with what is left" in done.stderr
    assert "attempts moved: 3" in done.stdout
    assert again("archive", "--before", MONTH, settings=settings).returncode == 0
