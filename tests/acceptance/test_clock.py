"""`again clock`: shop and simulator have one clock, which only goes on, and only where nothing is live."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.again import again, refused
from tests.acceptance.up import Up, running_up
from tests.factories import START, opened
from tests.receiver import SECRET, Shop, open_shop
from tests.simulator.running import running_simulator
from worker.cli.local import pass_time
from worker.cli.local.clock import ClockStays, _show, movable, target_of
from worker.cli.local.stack import Standing
from worker.clock import MovedClock, SystemClock, wait_until
from worker.config import BadSettings, load_settings
from worker.embedded import EmbeddedError, free_port
from worker.services import Services

DAY = timedelta(days=1)


@pytest.fixture
def shop() -> Iterator[Shop]:
    """The shop's own address for events, which verifies their signatures."""
    with open_shop() as opened:
        yield opened


@pytest.fixture
def up(shop: Shop) -> Iterator[Up]:
    """`again up`, whose events the shop takes."""
    with running_up({"AGAIN_WEBHOOK_URL": shop.url, "AGAIN_WEBHOOK_SECRET": SECRET}) as running:
        yield running


def at(text: str) -> datetime:
    """An instant of JSON."""
    return datetime.fromisoformat(text)


def kinds(facts: Any) -> list[str]:
    """The events of all steps, in order."""
    return [event["type"] for step in facts["steps"] for event in step["events"]]


@pytest.mark.timeout(600)  # some twenty commands, each a process of its own
def test_cards_ledger_and_a_moved_clock_outlive_a_kill_and_receivers_accept_what_is_sent(
    up: Up, shop: Shop
) -> None:
    """Guard: the clock of shop and simulator is one, is kept, and signs nothing."""
    up.simulator("cards", [
        {"customer_uid": "ann", "card": "approve"}, {"customer_uid": "bob", "card": "approve_on_try", "k": 2},
    ])  # fmt: skip
    up.told("plan", "add", "coffee", "--price", "9900", "--name", "Coffee", "--unit", "month", "--time", "00:00")
    for name in ("ann", "bob"):
        up.told("customer", "add", name)
        up.told("subscribe", name, "coffee")
    assert wait_until(lambda: up.paid() == ["ann"], 45)

    begun = SystemClock().now()
    facts = up.clock("--next")
    assert "charge.paid" in kinds(facts), "the second try of bob's card, days later"
    assert up.paid() == ["ann", "bob"]
    assert at(facts["now"]) > begun + DAY / 2
    theirs = up.simulator("clock")["now"]
    assert abs(theirs - at(up.clock()["now"]).timestamp()) < 20

    up.kill()
    up.start()
    assert up.paid() == ["ann", "bob"]
    assert {card["customer_uid"]: card["tries"] for card in up.simulator("cards")["cards"]} == {"ann": 1, "bob": 2}
    assert at(up.clock()["now"]) > at(facts["now"])

    before = at(up.clock()["now"])
    facts = up.clock("+40d")
    assert timedelta(0) <= at(facts["now"]) - before - 40 * DAY < timedelta(minutes=3)
    assert kinds(facts).count("charge.paid") == 2, facts
    assert sorted(up.paid()) == ["ann", "ann", "bob", "bob"]
    moments = [at(step["at"]) for step in facts["steps"]]
    assert moments == sorted(moments)
    assert wait_until(lambda: shop.kinds.count("charge.paid") == 4, 60), "each is verified as it comes"
    assert up.told("status", "--healthy")

    done = again("clock", "2026-01-01", cwd=up.folder)
    assert done.returncode == 1
    assert "never goes back" in done.stderr
    assert at(up.clock()["now"]) >= at(facts["now"])


def test_a_clock_goes_on_and_never_back() -> None:
    """Guard: a clock that went back would open, send and ask for what was done already."""
    now = datetime(2027, 1, 31, tzinfo=UTC)
    assert target_of("+1d", now) == datetime(2027, 2, 1, tzinfo=UTC)
    assert target_of("2027-01-31", now) == now
    with pytest.raises(ClockStays, match="never goes back"):
        target_of("2027-01-30T23:59:59", now)


def test_the_clock_of_a_simulator_with_another_time_stays(tmp_path: Path) -> None:
    """Guard: where the gateway has another time than the shop, neither is moved."""
    file = tmp_path / "clock"
    file.write_text("3600")
    with running_simulator() as simulator:
        settings = load_settings(LIVE | {"AGAIN_PORTONE_URL": simulator.url, "AGAIN_CLOCK_FILE": str(file)})
        with pytest.raises(ClockStays, match="they do not share a clock"):
            movable(settings)
        file.write_text("0")
        assert movable(settings).path == file


def test_a_further_account_at_the_live_gateway_keeps_the_clock_real(tmp_path: Path) -> None:
    """Guard: the clock is not moved where any account is at the live gateway."""
    accounts, file = tmp_path / "accounts.toml", tmp_path / "clock"
    accounts.write_text('[accounts.shop]\nkey = "k"\nsecret = "s"\n')
    accounts.chmod(0o600)
    file.write_text("0")
    own = {"AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_ACCOUNTS_FILE": str(accounts)}
    load_settings(LIVE | own).accounts()
    settings = load_settings(LIVE | own | {"AGAIN_CLOCK_FILE": str(file)})
    with pytest.raises(BadSettings, match="while account 'shop' is at the live gateway"):
        settings.accounts()


LIVE = {
    "AGAIN_ENVIRONMENT": "prod", "AGAIN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
}  # fmt: skip


@pytest.mark.parametrize("arguments", [("+1d",), ("--next",), ("2099-01-01",)])
def test_a_live_gateways_clock_is_not_moved(arguments: tuple[str, ...]) -> None:
    """Guard: nothing moves the clock of an installation that charges real cards."""
    assert "is the live one; its time is real" in refused("clock", *arguments, settings=LIVE)


def test_only_a_simulator_that_shares_the_clock_moves(tmp_path: Path) -> None:
    there = LIVE | {"AGAIN_PORTONE_URL": f"http://127.0.0.1:{free_port()}"}
    assert "only `again up` with its own simulator" in refused("clock", "+1d", settings=there)
    (tmp_path / "clock").write_text("3600")
    own = {"AGAIN_CLOCK_FILE": str(tmp_path / "clock")}
    assert "is no simulator that answers" in refused("clock", "+1d", settings=there | own)
    assert (tmp_path / "clock").read_text() == "3600"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("+1d", "--next"), "give a time or --next, not both"),
        (("+1month",), "'+1month' is no span of time"),
        (("tomorrow",), "'tomorrow' is not an instant"),
        (("+99999d",), "+99999d is beyond 2100-01-01T00:00:00Z"),
        (("2026-01-31",), "and 2026-01-31T00:00:00Z (09:00 KST) is before it: it never goes back"),
    ],
)
def test_a_time_that_the_clock_does_not_go_to_is_named(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    file = tmp_path / "clock"
    file.write_text("0")
    with running_simulator("--clock-file", str(file)) as simulator:
        settings = LIVE | {"AGAIN_PORTONE_URL": simulator.url, "AGAIN_CLOCK_FILE": str(file)}
        assert words in refused("clock", *arguments, settings=settings)
    assert file.read_text() == "0"


def test_work_that_stays_after_a_move_is_told_with_the_time_that_the_clock_shows(
    services: Services, tmp_path: Path
) -> None:
    """A person who sees only that nothing changes could move the clock a second time."""
    clock = MovedClock(tmp_path / "clock")
    clock.move_to(START)
    opened(replace(services, clock=clock))
    made = pass_time.Passing(services, clock, patience=0)
    with pytest.raises(pass_time.Stuck, match=r"the clock was not moved and shows 2026-01-31T"):
        made.wait_until_quiet()
    made.move_to(START + DAY)
    with pytest.raises(pass_time.Stuck, match=r"the clock was moved and shows 2026-02-01T.*`again clock DATE`"):
        made.wait_until_quiet()


def test_a_live_installations_clock_is_named_the_shops_alone(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    _show(services)
    assert "clock of the shop\n" in capsys.readouterr().out


def test_up_moves_no_clock_beside_a_database_that_is_named(tmp_path: Path) -> None:
    """Guard: the clock of a production database is never moved; nothing is started."""
    (tmp_path / "clock").write_text(str(95 * 86_400.0))
    names = ("AGAIN_ENVIRONMENT", "AGAIN_DATABASE_URL", "AGAIN_BROKER_URL")
    settings = {name: LIVE[name] for name in names} | {"AGAIN_CLOCK_FILE": str(tmp_path / "clock")}
    words = "`again up` moves the clock of its own database alone; open a new terminal, or unset all AGAIN_"
    with pytest.raises(EmbeddedError, match=words), Standing(tmp_path / "data", settings=settings):
        pass
