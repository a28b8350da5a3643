"""The class of a decline: written when it is settled, listed when no rule knew it, and read again later."""

from itertools import islice

import pytest
from sqlalchemy import text

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Declined, Paid, Unknown, Voided
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, collect_due, on_sale, opened, subscribed
from worker.charging import attempt_charge, decline_rules
from worker.charging.settle import settle
from worker.rules import rulebook
from worker.services import Services
from worker.store.charging import attempts, declines

STAMP = f"kcp/money-short@{rulebook().version}"


def declined(services: Services, gateway: ScriptedGateway, *answers: Declined) -> None:
    """One declined attempt for each of these answers."""
    on_sale(services)
    for place, answer in enumerate(answers):
        subscribed(services, f"customer-{place}")
        gateway.answers.append(answer)
    collect_due(services)


def classes(services: Services) -> list[tuple[str | None, str | None]]:
    return [(row["decline_class"], row["decline_rule"]) for row in attempt_rows(services)]


def forget(services: Services) -> None:
    """As if every decline had been settled before there were classes."""
    with services.engine.begin() as db:
        db.execute(text("UPDATE attempts SET decline_class = NULL, decline_rule = NULL"))


def test_a_decline_is_written_with_its_class_and_rule(services: Services, gateway: ScriptedGateway) -> None:
    declined(services, gateway, Declined("[CC10]통장 잔액부족", "CC10", "imps_1", "kcp"))
    assert classes(services) == [("money_short", STAMP)]


def test_where_the_answer_names_no_pg_the_card_s_own_counts(services: Services, gateway: ScriptedGateway) -> None:
    charge = opened(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE billing_keys SET pg_provider = 'kcp'"))
    gateway.answers.append(Declined("결제승인에 실패하였습니다. [CC41]", "CC41"))
    attempt_charge.attempt(services, charge)
    assert classes(services) == [("later", f"kcp/hours@{rulebook().version}")]


@pytest.mark.parametrize("outcome", [Paid("imps_1"), Unknown("no answer")], ids=["paid", "unknown"])
def test_what_is_no_decline_has_no_class(
    services: Services, gateway: ScriptedGateway, outcome: Paid | Unknown
) -> None:
    charge = opened(services)
    gateway.answers.append(outcome)
    attempt_charge.attempt(services, charge)
    assert classes(services) == [(None, None)]


def test_a_payment_that_was_given_back_is_no_decline_of_the_card(services: Services) -> None:
    claimed = attempt_charge.claim(services, opened(services))
    assert claimed is not None
    settle(services, claimed.intent, AttemptState.SENDING, Voided("given back"))
    assert classes(services) == [(None, None)]
    list(decline_rules.reclassify(services))
    assert classes(services) == [(None, None)]


def test_a_decline_that_turns_paid_later_keeps_what_it_was(services: Services, gateway: ScriptedGateway) -> None:
    """Guard: no constraint ties the class to the state, for LATE_PAID repairs itself through the same settling."""
    declined(services, gateway, Declined("[CC10]통장 잔액부족", "CC10", "imps_1", "kcp"))
    with services.engine.begin() as db:
        taken = attempts.take(db, attempt_rows(services)[0]["id"], AttemptState.DECLINED, services.clock.now())
    assert taken is not None
    assert settle(services, taken, AttemptState.DECLINED, Paid("imps_1")) is AttemptState.PAID
    assert classes(services) == [("money_short", STAMP)]


def test_what_no_rule_placed_is_listed_with_its_counts(services: Services, gateway: ScriptedGateway) -> None:
    strange, stranger = Declined("[Z9]뭐라고요", "Z9", None, "kcp"), Declined("xyzzy", None, None, "nice")
    known = Declined("[CC10]통장 잔액부족", "CC10", None, "kcp")
    declined(services, gateway, stranger, strange, known, strange)
    with services.engine.begin() as db:
        found = declines.unplaced(db, 10)
    assert [(f.pg_provider, f.text, f.count) for f in found] == [("kcp", "[Z9]뭐라고요", 2), ("nice", "xyzzy", 1)]


def test_history_is_read_again_in_batches_that_go_on_where_they_were_stopped(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: what is placed carries the rules' version, so that a second run begins with what is left."""
    declined(services, gateway, *[Declined("[CC10]통장 잔액부족", "CC10", None, "kcp")] * 5)
    forget(services)
    stopped = list(islice(decline_rules.reclassify(services, batch=2), 2))
    assert [(p.looked_at, p.left) for p in stopped] == [(0, 5), (2, 3)]
    assert classes(services) == [("money_short", STAMP)] * 2 + [(None, None)] * 3
    went_on = list(decline_rules.reclassify(services, batch=2))
    assert [(p.looked_at, p.changed, p.left) for p in went_on] == [(0, 0, 3), (2, 2, 1), (3, 3, 0)]
    assert classes(services) == [("money_short", STAMP)] * 5


def test_a_class_of_an_older_version_is_replaced_and_a_second_run_finds_nothing(
    services: Services, gateway: ScriptedGateway
) -> None:
    declined(services, gateway, Declined("[CC10]통장 잔액부족", "CC10", None, "kcp"))
    with services.engine.begin() as db:
        db.execute(text("UPDATE attempts SET decline_class = 'limit', decline_rule = 'kcp/limit@0'"))
    assert [(p.looked_at, p.changed) for p in decline_rules.reclassify(services)][-1] == (1, 1)
    assert classes(services) == [("money_short", STAMP)]
    assert [p.left for p in decline_rules.reclassify(services)] == [0]
