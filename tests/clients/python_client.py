"""What `python -m tests.clients` runs in the client's own environment; it prints a line for each call."""

import sys
import time
from collections.abc import Callable
from typing import Any

from iamport import Iamport

CARD = {"card_number": "5333-1234-5678-1234", "expiry": "2030-12", "birth": "900101", "pwd_2digit": "00"}
DAY = 86_400  # seconds


def main(url: str) -> None:
    """Make each call that the client offers for billing keys, schedules and payments."""
    client = Iamport("sim_key", "sim_secret", imp_url=f"{url}/")
    now = int(time.time())
    later = {"merchant_uid": "py-scheduled", "schedule_at": now + DAY, "amount": 1000}
    span = {"schedule_from": now, "schedule_to": now + 2 * DAY, "schedule_status": "scheduled"}
    order = {"customer_uid": "py", "merchant_uid": "py-1", "amount": 1000, "name": "Coffee"}
    made("customer_create", lambda: client.customer_create(customer_uid="py", **CARD))
    made("customer_get", lambda: client.customer_get("py"))
    made("pay_again", lambda: client.pay_again(**order))
    refused("pay_again", lambda: client.pay_again(**order))
    made("pay_onetime", lambda: client.pay_onetime(merchant_uid="py-2", amount=500, **CARD))
    made("find", lambda: client.find(merchant_uid="py-1"))
    made("find", lambda: client.find(imp_uid=client.find(merchant_uid="py-1")["imp_uid"]))
    refused("find", lambda: client.find(merchant_uid="none"))
    made("is_paid", lambda: client.is_paid(1000, merchant_uid="py-1"))
    made("prepare", lambda: client.prepare(merchant_uid="py-3", amount=1000))
    made("prepare_validate", lambda: client.prepare_validate("py-3", 1000))
    made("pay_schedule", lambda: client.pay_schedule(customer_uid="py", schedules=[later]))
    made("pay_schedule_get", lambda: client.pay_schedule_get("py-scheduled"))
    made("pay_schedule_get_between", lambda: client.pay_schedule_get_between(**span)["list"])
    made("pay_unschedule", lambda: client.pay_unschedule(customer_uid="py", merchant_uid="py-scheduled"))
    made("cancel", lambda: client.cancel("part", merchant_uid="py-1", amount=300))
    made("cancel", lambda: client.cancel("rest", merchant_uid="py-1"))
    refused("cancel", lambda: client.cancel("once more", merchant_uid="py-1"))
    made("customer_delete", lambda: client.customer_delete("py"))
    refused("customer_get", lambda: client.customer_get("py"))


def made(name: str, call: Callable[[], Any]) -> None:
    """Print whether a call answered with something."""
    try:
        answer = call()
    except (Iamport.ResponseError, Iamport.HttpError, ValueError) as error:
        print(f"failed {name} {type(error).__name__}")
    else:
        print(f"{'made' if answer else 'failed'} {name}")


def refused(name: str, call: Callable[[], Any]) -> None:
    """Print whether a call was refused as the client expects of a refusal."""
    try:
        call()
    except (Iamport.ResponseError, Iamport.HttpError):
        print(f"refused {name}")
    else:
        print(f"failed {name} was not refused")


main(sys.argv[1])
