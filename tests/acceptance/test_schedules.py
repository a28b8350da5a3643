"""`again import schedules`: customers that PortOne's own timer charges are taken over, against the simulator."""

from datetime import datetime, timedelta

import httpx

from schedules.calendar.zones import wall_to_utc, zone
from tests.installation import Installation

SEOUL = zone("Asia/Seoul")
MANY = 30  # more than one page of the gateway's list


def book(installation: Installation, customer_uid: str, first: datetime) -> None:
    """Let PortOne's timer charge the customer daily from this instant on."""
    wishes = [
        {
            "merchant_uid": f"old{customer_uid}{number}",
            "schedule_at": int((first + timedelta(days=number)).timestamp()),
            "amount": 9900,
            "name": "old",
        }
        for number in range(MANY)
    ]
    with httpx.Client(base_url=installation.settings["AGAIN_PORTONE_URL"]) as portone:
        account = {"imp_key": "sim_key", "imp_secret": "sim_secret"}
        token = portone.post("/users/getToken", json=account).json()["response"]["access_token"]
        body = {"customer_uid": customer_uid, "schedules": wishes}
        booked = portone.post(
            "/subscribe/payments/schedule", json=body, headers={"Authorization": f"Bearer {token}"}
        )
        assert booked.json()["code"] == 0, booked.text


def test_schedules_on_several_pages_are_taken_over_by_the_command(installation: Installation) -> None:
    installation.told(
        "plan", "add", "daily", "--price", "9900", "--name", "Daily", "--unit", "day", "--time", "00:00"
    )
    installation.simulator("cards", {"customer_uid": "timed"})
    now = datetime.fromtimestamp(installation.simulator("clock")["now"], SEOUL)
    first = wall_to_utc(now.date() + timedelta(days=2), datetime.min.time(), SEOUL)
    book(installation, "timed", first)
    arguments = ("import", "schedules", "timed", "--plan", "daily", "--why", "moving in")
    (seen,) = installation.told_json(*arguments, "--dry-run")
    assert seen["what"].startswith(f"{MANY} from ")
    (done,) = installation.told_json(*arguments, "--yes")
    assert done["why_not"] is None
    assert datetime.fromisoformat(done["first_due_at"]) == first
