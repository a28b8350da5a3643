"""Processes that run use a changed accounts file, and are not started again for it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import QUICK, Installation, installed
from tests.simulator.running import RunningSimulator, running_simulator
from worker.clock import wait_until


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    """The accounts file, without accounts."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "accounts.toml"
        made.write_text("[accounts]\n")
        made.chmod(0o600)
        yield made


@pytest.fixture(scope="module")
def second() -> Iterator[RunningSimulator]:
    """The further account's gateway."""
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def installation(file: Path) -> Iterator[Installation]:
    """Two beats and three workers with this accounts file."""
    with installed(QUICK | {"AGAIN_ACCOUNTS_FILE": str(file)}) as running:
        yield running


def paid_at(gateway: RunningSimulator, customer_uid: str) -> bool:
    """Whether the customer's card was charged there."""
    return wait_until(lambda: customer_uid in {m["customer_uid"] for m in gateway.movements()}, 45)


def logged(installation: Installation, words: str) -> bool:
    """Whether a beat or worker logs these words."""
    logs = installation.standing.data / "logs"
    return wait_until(lambda: any(words in log.read_text() for log in logs.glob("*.log")), 45)


def test_running_processes_charge_an_account_that_is_added_and_drop_one_that_is_removed(
    installation: Installation, second: RunningSimulator, file: Path
) -> None:
    section = (
        f'[accounts.second]\nportone_url = "{second.url}"\nkey = "sim_key"\nsecret = "sim_secret"\nrate = 0\n'
    )
    file.write_text(section)
    assert logged(installation, "accounts: added second")  # its credentials are bound by then
    second.card("ben")
    installation.told("customer", "add", "ben", "--account", "second")
    installation.told("subscribe", "ben", "now", "--request-key", "ben-1")
    assert paid_at(second, "ben")
    file.write_text("[accounts.second\n")
    assert logged(installation, "the former ones stay in use")
    second.card("cleo")
    file.write_text(section)
    installation.told("customer", "add", "cleo", "--account", "second")
    installation.told("subscribe", "cleo", "now", "--request-key", "cleo-1")
    assert paid_at(second, "cleo")
    file.write_text("[accounts]\n")
    assert logged(installation, "accounts: removed second")
