"""Accounts: each has its own address, credentials and rate; a wrong file is told without its secrets."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schedules.charging.charges import AttemptState
from tests.acceptance.again import refused, told_json
from tests.doubles import ScriptedGateway
from tests.factories import charge_rows, collect_due, heard, on_sale
from tests.services import end_engine
from tests.simulator.running import RunningSimulator, running_simulator
from worker import wiring
from worker.accounts import Account, BadAccounts, read_accounts
from worker.config import load_settings
from worker.customers import enrollment
from worker.operations import operate
from worker.reconciliation import reconciler
from worker.renewals import open_charges
from worker.services import Services, UnknownAccount
from worker.store.tables import charges

SECOND = '[accounts.second]\nportone_url = "http://127.0.0.1:1"\nkey = "SECOND-KEY"\nsecret = "SECOND-SECRET"\n'


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A file of accounts."""
    file = folder / "accounts.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold sections"),
        ("[other]\n", "must hold sections"),
        ("[accounts", "is no TOML"),
        (SECOND.replace("second]", "Second]"), "small letters"),
        (SECOND.replace("second]", "main]"), "main account's name"),
        (SECOND + 'key_file = "/x"\n', "give key, or key_file"),
        (SECOND.replace('key = "SECOND-KEY"\n', ""), "give key, or key_file"),
        (SECOND.replace('key = "SECOND-KEY"', 'key_file = "/nowhere"'), "key_file '/nowhere' cannot be read"),
        (SECOND + "rate = -1\n", "rate: "),
        (SECOND + "colour = 1\n", "colour: "),
        (SECOND + 'tier = "a b"\n', "tier: "),
        (SECOND.replace("http://127.0.0.1:1", "http://api.iamport.kr"), "not an https:// address"),
    ],
)
def test_a_wrong_file_is_told_by_account_and_field_and_without_its_secrets(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(BadAccounts, match=words.replace("[", r"\[")) as error:
        read_accounts(written(tmp_path, text), "main")
    assert "SECOND-" not in str(error.value)


def test_a_file_with_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadAccounts, match="chmod 600"):
        read_accounts(written(tmp_path, SECOND, 0o644), "main")


def test_secrets_may_stand_in_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("K\n")
    (tmp_path / "secret").write_text("S\n")
    text = f'[accounts.second]\nkey_file = "{tmp_path}/key"\nsecret_file = "{tmp_path}/secret"\nrate = 3\n'
    (account,) = read_accounts(written(tmp_path, text, 0o644), "main")
    assert (account.key.get_secret_value(), account.secret.get_secret_value(), account.rate) == ("K", "S", 3)
    assert "S" not in repr(account).replace("SecretStr", "")


def account(services: Services, name: str, rate: float) -> Account:
    """An account like the main one, with a rate of its own."""
    return replace(services.settings.main_account, name=name, rate=rate)


def test_each_account_keeps_its_own_rate_and_the_others_do_not_wait_for_it(
    services: Services, gateway: ScriptedGateway
) -> None:
    """The guard: the rate of the charge's own account. The slow one may make a call in a thousand seconds."""
    slow, fast = ScriptedGateway(), gateway
    two = replace(
        services,
        gateways={"main": fast, "slow": slow},
        accounts={"main": account(services, "main", 0), "slow": account(services, "slow", 0.001)},
    )
    on_sale(two)
    for number in range(3):
        for name in ("main", "slow"):
            enrollment.add_customer(two, f"{name}-{number}", None, None, None, "test", account=name)
            enrollment.subscribe(two, f"{name}-{number}", "monthly", "test")
    collect_due(two)
    assert [order.customer_uid for order in fast.sent] == ["main-0", "main-1", "main-2"]
    assert [order.customer_uid for order in slow.sent] == ["slow-0"]


def test_an_account_without_credentials_is_named(services: Services) -> None:
    with pytest.raises(UnknownAccount, match="'other' is not known; there are: main"):
        enrollment.add_customer(services, "ann", None, None, None, "test", account="other")


@pytest.fixture
def simulators() -> Iterator[tuple[RunningSimulator, RunningSimulator]]:
    """Two gateways, each with a ledger of its own."""
    with running_simulator() as first, running_simulator() as second:
        yield first, second


def test_two_accounts_are_charged_asked_and_compared_each_at_its_own_gateway(
    database: str, simulators: tuple[RunningSimulator, RunningSimulator], tmp_path: Path
) -> None:
    first, second = simulators
    first.card("ann")
    second.card("ben")
    file = written(
        tmp_path,
        f'[accounts.second]\nportone_url = "{second.url}"\nkey = "sim_key"\nsecret = "sim_secret"\n',
    )
    settings = {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": first.url, "AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret",
        "AGAIN_ACCOUNTS_FILE": str(file),
    }  # fmt: skip
    made = wiring.connect(load_settings(settings))
    operate.bind_if_new(made, "test")
    on_sale(made, billing_time=made.clock.now().time().replace(hour=0, minute=0, second=0, microsecond=0))
    enrollment.add_customer(made, "ann", None, None, None, "test")
    enrollment.add_customer(made, "ben", None, None, None, "test", account="second")
    for name in ("ann", "ben"):
        enrollment.subscribe(made, name, "monthly", "test")
    open_charges.open_due(made)
    collect_due(made)
    assert {row["status"] for row in charge_rows(made)} == {"paid"}
    assert [m["customer_uid"] for m in first.movements()] == ["ann"]
    assert [m["customer_uid"] for m in second.movements()] == ["ben"]
    (of_second,) = [row for row in charge_rows(made) if row[charges.c.account.name] == "second"]
    with made.engine.begin() as db:
        uid = db.exec_driver_sql(
            f"SELECT merchant_uid FROM attempts WHERE charge_id = {of_second['id']}"
        ).scalar_one()
    heard(made, uid)
    for name in made.gateways:
        reconciler.begin_due(made, name)
        reconciler.go_on(made, name)
    with made.engine.begin() as db:
        runs = db.exec_driver_sql("SELECT account, findings FROM reconciliations WHERE kind = 'hourly'")
        assert sorted(map(tuple, runs)) == [("main", 0), ("second", 0)]
        states = db.exec_driver_sql("SELECT state FROM attempts").scalars()
        assert set(states) == {AttemptState.PAID}
    listed = told_json("accounts", settings=settings)
    assert [(a["name"], a["portone_url"]) for a in listed] == [("main", first.url), ("second", second.url)]
    end_engine(made.engine)
    for name in made.gateways:
        made.gateways[name].close()


def test_a_wrong_file_keeps_every_process_from_starting(database: str, tmp_path: Path) -> None:
    settings = {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "k", "AGAIN_PORTONE_SECRET": "s",
        "AGAIN_ACCOUNTS_FILE": str(written(tmp_path, SECOND, 0o644)),
    }  # fmt: skip
    told = refused("worker", settings=settings)
    assert "chmod 600" in told
    assert "SECOND-" not in told
