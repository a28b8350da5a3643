"""`again listen`: a webhook is a reason to ask the gateway, from those who may give one, and nothing more."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import time
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from schedules.calendar.cadence import Every, Unit
from schedules.dunning.policies import DunningPolicy
from schedules.money.amounts import Money
from schedules.subscriptions.plans import Plan
from tests.installation import Installation
from worker.cli.local.stack import AGAIN
from worker.clock import wait_until
from worker.customers import enrollment
from worker.embedded import free_port

MONTHLY = Plan(
    code="heard",
    version=1,
    price=Money(9900, "KRW"),
    cadence=Every(1, Unit.MONTH),
    statement_name="월간 구독",
    billing_time=time(0),
)
JSON = {"Content-Type": "application/json"}


def post(url: str, body: bytes, headers: dict[str, str] = JSON) -> int:
    """The status of an answer."""
    try:
        with urlopen(Request(f"{url}/portone", body, headers), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as refusal:
        return refusal.code


def notice(merchant_uid: str) -> bytes:
    return json.dumps({"imp_uid": "imp_1", "merchant_uid": merchant_uid, "status": "paid"}).encode()


@pytest.fixture(scope="module")
def listener(installation: Installation) -> Iterator[str]:
    """A listener that hears this machine; answers where."""
    with listening(installation, "127.0.0.0/8") as url:
        yield url


def listening(installation: Installation, allow: str, *options: str) -> "Listening":
    return Listening(installation, allow, *options)


class Listening:
    """A listener's process, while it is used."""

    def __init__(self, installation: Installation, allow: str, *options: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = installation.settings | {"AGAIN_LISTENER_ALLOW": allow}
        self._child = subprocess.Popen(
            [*AGAIN, "listen", "--port", str(port), *options],
            env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> str:
        assert wait_until(self._answers, 30), self._child.communicate(timeout=5)
        return self.url

    def __exit__(self, *_: object) -> None:
        self._child.send_signal(signal.SIGTERM)
        said, errors = self._child.communicate(timeout=20)
        assert self._child.returncode == 0, (said, errors)

    def _answers(self) -> bool:
        assert self._child.poll() is None, self._child.communicate()
        try:
            with urlopen(f"{self.url}/healthy", timeout=1):
                return True
        except OSError:
            return False


def test_a_card_that_was_changed_is_tried_when_the_webhook_comes(
    installation: Installation, listener: str
) -> None:
    enrollment.add_plan(installation.services, MONTHLY, DunningPolicy(), "tester")
    key = installation.customer("lena", "heard", card="lost")
    assert wait_until(lambda: waits(installation, key), 45)
    uid = installation.charge(key).parts[0]["merchant_uid"]  # type: ignore[union-attr]  # it waits, so it is there
    assert post(listener, notice(uid)) == 200
    # Another PG's card: the gateway tells of changes by the second, and this one may come within the same.
    installation.simulator("cards", {"customer_uid": "lena", "card": "approve", "pg": "nice"})
    form = {"imp_uid": "imp_1", "merchant_uid": uid, "status": "failed", "later_key": "x"}
    assert post(listener, urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}) == 200
    installation.wait_for(key, "paid", 60)


def waits(installation: Installation, key: str) -> bool:
    story = installation.charge(key)
    return story is not None and story.facts["waits"] == "card"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"imp_uid": "imp_1"}', 400),
        (b'{"imp_uid": "../../x", "merchant_uid": "a"}', 400),
        (b'{"imp_uid": "imp_1", "merchant_uid": "' + b"a" * 41 + b'"}', 400),
        (b"[" * 60_000, 400),
        (b"x" * 70_000, 413),
        (b'{"imp_uid": "imp_1", "merchant_uid": "nobody-knows-it", "status": "paid"}', 200),
    ],
)
def test_what_is_no_notice_is_refused_and_what_is_unknown_changes_nothing(
    listener: str, body: bytes, status: int
) -> None:
    assert post(listener, body) == status


def test_who_is_not_on_the_list_is_not_heard(installation: Installation) -> None:
    with listening(installation, "52.78.5.241") as url:
        assert post(url, notice("order1")) == 403
        assert post(url, notice("order1"), JSON | {"X-Forwarded-For": "52.78.5.241"}) == 403


def test_behind_a_proxy_of_ours_the_last_hop_counts(installation: Installation) -> None:
    with listening(installation, "52.78.5.241", "--trust-proxy", "127.0.0.0/8, 10.0.0.0/8") as url:
        assert post(url, notice("order1")) == 403
        assert post(url, notice("order1"), JSON | {"X-Forwarded-For": "52.78.5.241, 1.2.3.4"}) == 403
        assert post(url, notice("order1"), JSON | {"X-Forwarded-For": "1.2.3.4, 52.78.5.241, 10.0.0.1"}) == 200
