"""What `again clock --next` goes to is what it then waits for."""

from datetime import timedelta

from sqlalchemy import text

from schedules.charging.outcomes import Unknown
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, opened
from worker.charging import attempt_charge
from worker.services import Services
from worker.store.charging import tallies


def test_the_ask_about_a_held_charge_is_gone_to_and_waited_for(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Workers ask about it too; passed over, it would be asked about late, and then be waited for."""
    charge = opened(services)
    gateway.answers.append(Unknown("ReadTimeout"))
    attempt_charge.attempt(services, charge)
    (attempt,) = attempt_rows(services)
    with services.engine.begin() as db:
        db.execute(text("UPDATE charges SET held_why = 'a person looks at it'"))
        moments = tallies.next_moments(db, services.clock.now())
        assert moments["an outcome is asked for"] == attempt["next_ask_at"]
        assert tallies.work_left(db, attempt["next_ask_at"])["to ask"] == 1
        assert tallies.work_left(db, attempt["next_ask_at"] - timedelta(seconds=1))["to ask"] == 0
        ahead = tallies.next_moment(db)
    assert ahead is None or ahead > attempt["next_ask_at"], "a run to the end of all work does not go on for ever"
