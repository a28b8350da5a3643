"""Operating: what a person may let go on, and that each such word is written down."""

import pytest
from sqlalchemy import text

from schedules.charging.outcomes import Declined, Refused, Unknown
from schedules.errors import WHEN_KNOWN
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, move, on_sale, opened, subscribed
from worker.operations import operate
from worker.operations.operate import CannotOperate
from worker.services import Services
from worker.store.charging import waits


def refused(services: Services) -> int:
    """How many charges `again status` says were refused."""
    with services.engine.begin() as db:
        return waits.waiting(db, services.clock.now())["refused"]


def audited(services: Services) -> list[tuple[str, str, str]]:
    """Who released what, and why."""
    with services.engine.begin() as db:
        rows = db.execute(text("SELECT actor, subject, why FROM audit WHERE verb = 'release' ORDER BY id"))
        return [(row[0], row[1], row[2]) for row in rows]


def test_a_charge_that_was_refused_is_counted_until_it_is_tried_with_another_end(
    services: Services, gateway: ScriptedGateway
) -> None:
    opened(services)
    gateway.answers.extend([Refused("no such channel"), Declined("no")])
    assert refused(services) == 0
    collect_due(services)
    assert refused(services) == 1
    move(services, hours=1)
    collect_due(services)
    assert charge_rows(services)[0]["declines"] == 1
    assert refused(services) == 0


def test_a_refused_charge_that_is_released_is_tried_now(services: Services, gateway: ScriptedGateway) -> None:
    opened(services)
    gateway.answers.append(Refused("no such channel"))
    collect_due(services)
    key = charge_rows(services)[0]["key"]
    operate.release(services, key, "kim", "the channel is on")
    collect_due(services)
    assert charge_rows(services)[0]["status"] == "paid"
    assert len({order.merchant_uid for order in gateway.sent}) == 2
    assert audited(services) == [("kim", key, "the channel is on")]


def test_all_that_were_refused_are_released_and_nothing_else(services: Services, gateway: ScriptedGateway) -> None:
    on_sale(services)
    for name in ("ann", "ben", "cho", "dan"):
        subscribed(services, name)
    gateway.answers.extend([Refused("x"), Declined("no"), Refused("x"), Unknown("time-out")])
    collect_due(services)
    before = charge_rows(services)
    assert operate.release_refused(services, "kim", "mended").charges == 2
    after = charge_rows(services)
    now = services.clock.now()
    assert [row["next_attempt_at"] for row in after] == [now, before[1]["next_attempt_at"], now, None]
    assert [subject for _, subject, _ in audited(services)] == [after[0]["key"], after[2]["key"]]


def test_a_declined_charge_keeps_its_ladder(services: Services, gateway: ScriptedGateway) -> None:
    """The guard: only a charge whose last attempt was refused may be hurried."""
    opened(services)
    gateway.answers.extend([Refused("x"), Declined("no")])
    collect_due(services)
    move(services, hours=1)
    collect_due(services)
    with pytest.raises(CannotOperate, match="nothing to release"):
        operate.release(services, charge_rows(services)[0]["key"], "kim", "x")


def test_a_charge_under_way_is_left_alone_with_one_advice(services: Services, gateway: ScriptedGateway) -> None:
    opened(services)
    gateway.answers.append(Unknown("time-out"))
    collect_due(services)
    with pytest.raises(CannotOperate, match="money may have moved") as refused:
        operate.waive(services, charge_rows(services)[0]["key"], "kim", "x")
    assert str(refused.value).count("; ") == 2
    assert str(refused.value).endswith(WHEN_KNOWN)
