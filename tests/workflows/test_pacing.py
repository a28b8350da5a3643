"""Pacing: each in its slot, first things first, and no account waits for another."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from schedules.charging.charges import ChargeKind
from schedules.charging.outcomes import Outcome, Paid
from tests.factories import many_opened, with_settings
from worker.charging import rate_limiter, send_queue
from worker.charging.claim import Claimed, claim_many
from worker.charging.rate_limiter import LATE, LATEST, NO_SLOT, interval, request_permits
from worker.charging.send_queue import QueuedCall, SendQueue
from worker.clock import elapsed, wait, wait_until
from worker.gateway.port import Missed, Slot
from worker.operations import operate
from worker.runtime.check_times import LASTS, CheckTimes
from worker.services import Services
from worker.store.charging import rates
from worker.store.charging.charges import Obstacle

PAID = Paid("imps_1")


@dataclass
class Line:
    """A gateway's end, and what was told of what it was sent."""

    begun: list[tuple[str, Slot, float]] = field(default_factory=list)
    untils: list[float] = field(default_factory=list)
    told: list[tuple[str, object]] = field(default_factory=list)
    answer: Callable[[str, Slot], Outcome | Missed | None] = lambda name, slot: PAID
    unanswered: list[Callable[[Outcome | Missed], None]] = field(default_factory=list)

    def queued(self, name: str, claimed: Claimed, services: Services) -> QueuedCall:
        """One that leaves by this line."""
        return QueuedCall(
            claimed, services, _Sent(self, name),
            answered=lambda answer: self.told.append((name, answer)),
            begun=lambda: None,
        )  # fmt: skip

    def wait_for(self, many: int, seconds: float = 10) -> None:
        """Until so many have been told of."""
        assert wait_until(lambda: len(self.told) == many, seconds), self.told

    @property
    def order(self) -> list[str]:
        """Who has left, in order."""
        return [name for name, _, _ in self.begun]


@dataclass
class _Sent:
    line: Line
    name: str

    def begin(self, until: float, slot: Slot, then: Callable[[Outcome | Missed], None]) -> None:
        answer = self.line.answer(self.name, slot)
        self.line.begun.append((self.name, slot, elapsed()))
        self.line.untils.append(until)
        if answer is None:
            self.line.unanswered.append(then)
        else:
            threading.Thread(target=self._tell, args=(slot, then, answer)).start()

    def _tell(self, slot: Slot, then: Callable[[Outcome | Missed], None], answer: Outcome | Missed) -> None:
        wait(max(0.0, slot.earliest - elapsed()))
        # Not by this thread's own clock: a busy machine misses slots that the queue gave correctly.
        then(answer if slot.earliest <= slot.latest else Missed())


def claimed_many(services: Services, many: int) -> list[Claimed]:
    """So many charges, each claimed."""
    claims = claim_many(services, many_opened(services, many))
    return [claim for claim in claims if isinstance(claim, Claimed)]


class Quick(CheckTimes):
    """Of a process whose checks take no longer than usual, on whatever machine: each counts for `LASTS`."""

    takes = 0.0


def test_each_leaves_in_a_slot_of_its_own(services: Services) -> None:
    line, made = Line(), replace(with_settings(services, rate=40), check_times=Quick())
    sends = SendQueue(made, 10)
    for number, claimed in enumerate(claimed_many(made, 12)):
        sends.submit(line.queued(str(number), claimed, made))
    line.wait_for(12)
    slots = sorted(slot.earliest for _, slot, _ in line.begun)
    apart = [later - earlier for earlier, later in pairwise(slots)]
    assert min(apart) > interval(40) * 0.99
    assert line.order == [str(number) for number in range(12)]
    for (_, slot, at), until in zip(line.begun, line.untils, strict=True):
        looked_at = until - made.settings.call_deadline
        assert looked_at < at
        assert slot.earliest < slot.latest <= min(slot.earliest + LATEST, looked_at + LASTS)


def test_a_new_rate_of_the_account_holds_for_what_is_lined_up_next(services: Services) -> None:
    """Guard: the cap is the one of the newest accounts file."""
    line, sends = Line(), SendQueue(services, 10)
    capped = with_settings(services, rate=40)
    first, *others = claimed_many(services, 4)
    sends.submit(line.queued("first", first, services))
    line.wait_for(1)
    for number, claimed in enumerate(others):
        sends.submit(line.queued(str(number), claimed, capped))
    line.wait_for(4)
    slots = sorted(slot.earliest for name, slot, _ in line.begun if name != "first")
    assert min(later - earlier for earlier, later in pairwise(slots)) > interval(40) * 0.99


def test_what_is_lined_up_leaves_though_its_account_was_removed_meanwhile(services: Services) -> None:
    """Guard: it has the accounts of the moment at which it was lined up."""
    line, sends = Line(), SendQueue(services, 10)
    main = services.settings.main_account
    before = replace(services, accounts={"main": main, "gone": replace(main, name="gone")})
    first, second = claimed_many(services, 2)
    sends.submit(line.queued("gone", replace(first, account="gone"), before))
    line.wait_for(1)
    sends.submit(line.queued("next", second, services))
    line.wait_for(2)
    assert sorted(line.told) == [("gone", PAID), ("next", PAID)]


def test_what_somebody_asked_for_goes_first_and_what_is_tried_again_before_the_rest(services: Services) -> None:
    line, made = Line(), with_settings(services, rate=10)
    sends = SendQueue(made, 10)
    claims = claimed_many(made, 6)
    again = replace(claims[4], intent=replace(claims[4].intent, number=2))
    asked = replace(claims[5], kind=ChargeKind.ADHOC)
    for name, claimed in zip(["r1", "r2", "r3", "r4", "again", "asked"], [*claims[:4], again, asked], strict=True):
        sends.submit(line.queued(name, claimed, made))
    line.wait_for(6)
    # The first of all may have left before the others came, and the second has its slot by then.
    assert line.order.index("asked") < line.order.index("again") < line.order.index("r3")


SLOW = 0.25  # calls a second


@pytest.fixture
def shared(services: Services) -> Services:
    """An account at one call in four seconds, of which another process has taken one for now.

    The next slot is that far away so that a busy machine can do what a test does before it.
    """
    made = with_settings(services, rate=SLOW)
    with made.engine.begin() as db:
        rates.grant(db, "main", 1 / interval(SLOW), 60)
    return made


def test_a_slot_that_is_far_away_is_waited_for(shared: Services) -> None:
    """Guard: it is looked at again when its slot comes; on the first look it would be too late by then."""
    line = Line()
    (claimed,) = claimed_many(shared, 1)
    SendQueue(shared, 10).submit(line.queued("one", claimed, shared))
    line.wait_for(1)
    assert line.told == [("one", PAID)]
    assert len(line.begun) == 1


def test_a_stop_is_seen_by_a_charge_that_has_its_slot_already(shared: Services) -> None:
    """Guard: the look when its slot comes."""
    line = Line()
    (claimed,) = claimed_many(shared, 1)
    SendQueue(shared, 10).submit(line.queued("one", claimed, shared))
    assert wait_until(lambda: _has_its_slot(shared), 5, every=0.01)
    operate.stop_charging(shared, "test", "fire")
    line.wait_for(1)
    assert line.begun == []
    assert isinstance(line.told[0][1], Obstacle)


def _has_its_slot(services: Services) -> bool:
    """Whether two slots are taken."""
    with services.engine.begin() as db:
        far = text("SELECT next_free_at > clock_timestamp() + make_interval(secs => :one) FROM rate_buckets")
        return bool(db.execute(far, {"one": interval(SLOW)}).scalar())


def test_a_call_leaves_on_a_fresh_look_or_not_at_all(services: Services) -> None:
    """Guard: an account without a cap has slots that last for ever, but its look does not."""
    line, made = Line(), replace(services, check_times=Quick())
    sends = SendQueue(made, 10)
    (claimed,) = claimed_many(made, 1)
    before = elapsed()
    sends.submit(line.queued("one", claimed, made))
    line.wait_for(1)
    ((_, slot, at),) = line.begun
    looked_at = line.untils[0] - made.settings.call_deadline
    assert before < looked_at < at
    assert slot.latest <= looked_at + LASTS


def test_who_misses_a_slot_takes_another_and_stays_first(services: Services) -> None:
    line, made = Line(), with_settings(services, rate=20)
    missed = iter([Missed()])
    line.answer = lambda name, slot: next(missed, PAID) if name == "0" else PAID
    sends = SendQueue(made, 10)
    for number, claimed in enumerate(claimed_many(made, 5)):
        sends.submit(line.queued(str(number), claimed, made))
    line.wait_for(5)
    mine = [slot.earliest for name, slot, _ in line.begun if name == "0"]
    assert len(mine) == 2
    assert mine[1] > mine[0]
    assert line.order[-1] != "0"


def test_who_never_keeps_a_slot_is_held_back(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limiter, "PATIENCE", 0.3)
    line = Line(answer=lambda name, slot: Missed())
    (claimed,) = claimed_many(services, 1)
    SendQueue(services, 10).submit(line.queued("one", claimed, services))
    line.wait_for(1)
    assert line.told == [("one", NO_SLOT)]


def test_a_call_that_leaves_too_late_puts_off_those_that_follow(services: Services) -> None:
    """Guard: it falls into a second that is theirs."""
    made = with_settings(services, rate=20)

    def late(name: str, slot: Slot) -> Outcome:
        slot.left(slot.earliest + LATE + 0.4)
        return PAID

    line = Line(answer=late)
    sends = SendQueue(made, 10)
    first, second = claimed_many(made, 2)
    sends.submit(line.queued("first", first, made))
    line.wait_for(1)
    line.answer = lambda name, slot: PAID
    sends.submit(line.queued("second", second, made))
    line.wait_for(2)
    (_, one, _), (_, other, _) = line.begun
    assert other.earliest - one.earliest > 0.4 + interval(20) * 0.9


def test_no_account_waits_for_another_whose_calls_hang(services: Services) -> None:
    """Guard: each account has a line and a room of its own."""
    made = replace(services, accounts=dict.fromkeys(("main", "other"), services.settings.main_account))
    line = Line(answer=lambda name, slot: PAID if name == "other" else None)
    sends = SendQueue(made, 2)
    claims = claimed_many(made, 5)
    for claimed in claims[:4]:
        sends.submit(line.queued("slow", claimed, made))
    sends.submit(line.queued("other", replace(claims[4], account="other"), made))
    line.wait_for(1)
    assert line.told == [("other", PAID)]
    assert not wait_until(lambda: line.order.count("slow") > 2, 0.2)
    line.unanswered.pop()(PAID)
    assert wait_until(lambda: line.order.count("slow") == 3, 20)


def _away(*_: object, **__: object) -> Any:
    raise OperationalError("", {}, Exception("away"))


def test_a_look_that_fails_is_told_to_each_and_the_next_succeeds(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, sends = Line(), SendQueue(services, 2)
    first, second = claimed_many(services, 2)
    with monkeypatch.context() as broken:
        broken.setattr(send_queue, "request_permits", _away)
        sends.submit(line.queued("first", first, services))
        line.wait_for(1)
    assert isinstance(line.told[0][1], OperationalError)
    sends.submit(line.queued("second", second, services))
    line.wait_for(2)
    assert line.told[1] == ("second", PAID)


def test_a_call_that_left_too_late_is_not_forgotten_when_a_look_fails(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: a second would see more than the cap."""
    made = with_settings(services, rate=20)
    asked: list[Mapping[str, float]] = []
    held_up = threading.Event()

    def late(name: str, slot: Slot) -> Outcome:
        monkeypatch.setattr(send_queue, "request_permits", fail)
        slot.left(slot.earliest + LATE + 0.4)
        return PAID

    def fail(services: Services, them: object, overruns: Mapping[str, float]) -> Any:
        if overruns:
            asked.append(overruns)
            monkeypatch.setattr(send_queue, "request_permits", request_permits)
            held_up.set()
        _away()

    line, sends = Line(answer=late), SendQueue(made, 10)
    first, second = claimed_many(made, 2)
    sends.submit(line.queued("first", first, made))
    assert held_up.wait(10)
    line.answer = lambda name, slot: PAID
    sends.submit(line.queued("second", second, made))
    line.wait_for(2)
    (_, one, _), (_, other, _) = line.begun
    assert other.earliest - one.earliest > 0.4 + interval(20) * 0.9
    assert asked[0]["main"] > 0.39


def test_one_that_cannot_be_sent_keeps_no_other_from_leaving(services: Services) -> None:
    def broken(name: str, slot: Slot) -> Outcome:
        if name == "bad":
            raise RuntimeError("a fault of ours")
        return PAID

    line = Line(answer=broken)
    sends = SendQueue(services, 1)
    for name, claimed in zip(["bad", "good"], claimed_many(services, 2), strict=True):
        sends.submit(line.queued(name, claimed, services))
    line.wait_for(2)
    assert isinstance(dict(line.told)["bad"], RuntimeError)
    assert dict(line.told)["good"] == PAID
