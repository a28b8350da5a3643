"""A changed accounts file or secret is in use without a restart; one that cannot be read changes nothing."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schedules.charging.outcomes import Outcome
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, many_opened, on_sale, write
from tests.services import end_engine
from tests.simulator.running import RunningSimulator, running_simulator
from worker import failpoints, wiring
from worker.accounts import Account
from worker.charging import attempt_charge
from worker.charging.executor import Executor
from worker.charging.unsendable import set_aside_unsendable
from worker.clock import FixedClock
from worker.config import load_settings
from worker.customers import enrollment
from worker.failpoints import Failpoint
from worker.gateway.port import ChargeOrder, Sending
from worker.operations import operate
from worker.renewals import open_charges
from worker.services import Services, UnknownAccount
from worker.store.charging import account_bindings
from worker.wiring import Wired

MOVE_TO_SECOND = "UPDATE charges SET account = 'second' WHERE id = :charge"


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """The gateway of both accounts, with one secret."""
    with running_simulator() as running:
        yield running


class Shop:
    """A process whose accounts and secrets stand in files."""

    def __init__(self, folder: Path, database: str, url: str) -> None:
        self.url = url
        self.accounts = folder / "accounts.toml"
        self.main_secret = folder / "secret"
        self.main_secret.write_text("sim_secret\n")
        self.has()
        self.settings = {
            "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database,
            "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0", "AGAIN_PORTONE_URL": url, "AGAIN_PORTONE_KEY": "sim_key",
            "AGAIN_PORTONE_SECRET_FILE": str(self.main_secret), "AGAIN_ACCOUNTS_FILE": str(self.accounts),
        }  # fmt: skip
        made = wiring.connect(load_settings(self.settings))
        operate.bind_if_new(made, "test")
        self.wired = Wired(made, read_every=0)
        on_sale(made, billing_time=made.clock.now().time().replace(hour=0, minute=0, second=0, microsecond=0))

    @property
    def now(self) -> Services:
        """The services as whoever asks for them now has them."""
        return self.wired.services()

    def has(self, *sections: str) -> None:
        """Write the accounts file."""
        self.accounts.write_text("[accounts]\n" + "".join(sections))
        self.accounts.chmod(0o600)

    def second(self, key: str = "sim_key", secret: str = "sim_secret", more: str = "") -> str:
        """The section of the further account."""
        return f'[accounts.second]\nportone_url = "{self.url}"\nkey = "{key}"\nsecret = "{secret}"\n{more}'

    def subscribed(self, customer_uid: str, account: str) -> None:
        """A customer of an account, with a charge that is due."""
        services = self.now
        enrollment.add_customer(services, customer_uid, None, None, None, "test", account=account)
        enrollment.subscribe(services, customer_uid, "monthly", "test")
        open_charges.open_due(services)

    def statuses(self) -> dict[str, str]:
        """Each account's charges, which are all alike."""
        return {row["account"]: row["status"] for row in charge_rows(self.now)}


@pytest.fixture
def shop(tmp_path: Path, database: str, simulator: RunningSimulator) -> Iterator[Shop]:
    """A process with the main account alone."""
    for customer_uid in ("ann", "ben", "cleo"):
        simulator.card(customer_uid)
    made = Shop(tmp_path, database, simulator.url)
    yield made
    end_engine(made.now.engine)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as an ERROR."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_an_account_that_is_added_is_bound_and_charged_without_a_restart(shop: Shop) -> None:
    executor = shop.wired.executor
    with pytest.raises(UnknownAccount):
        shop.subscribed("ben", "second")
    shop.has(shop.second())
    shop.subscribed("ben", "second")
    collect_due(shop.now)
    assert shop.statuses() == {"second": "paid"}
    assert shop.wired.executor is executor
    assert executor.services is shop.now
    with shop.now.engine.begin() as db:
        assert account_bindings.all_bound(db).keys() == {"second"}


def test_an_unchanged_file_keeps_the_clients(shop: Shop) -> None:
    shop.has(shop.second())
    before = shop.now
    shop.has(shop.second())
    assert shop.now is before
    shop.has(shop.second(more="rate = 7\n"))
    assert shop.now.account("second").rate == 7
    assert shop.now.gateways == before.gateways


def test_a_new_secret_is_used_without_a_restart(shop: Shop) -> None:
    """The secret was replaced at the gateway, and then in the file."""
    shop.has(shop.second())
    shop.subscribed("ben", "second")
    shop.has(shop.second(secret="replaced at the gateway"))
    collect_due(shop.now)
    assert shop.statuses() == {"second": "open"}
    shop.has(shop.second())
    key = charge_rows(shop.now)[0]["key"]
    operate.release(shop.now, key, "kim", "the secret is right now")
    collect_due(shop.now)
    assert shop.statuses() == {"second": "paid"}


def test_a_new_secret_of_the_main_account_is_read_from_its_file(shop: Shop) -> None:
    before = shop.now
    shop.main_secret.write_text("another\n")
    after = shop.now
    assert after.settings.main_account.secret.get_secret_value() == "another"
    assert after.account("main").secret.get_secret_value() == "another"
    assert after.fingerprint_in("a database") == before.fingerprint_in("a database")
    assert after.gateways["main"] is not before.gateways["main"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("[accounts.second", "is no TOML"),
        ('[accounts.second]\nkey = "HUSH-HUSH"\n', "give secret, or secret_file"),
    ],
)
def test_a_broken_file_is_refused_once_and_the_former_accounts_stay(
    shop: Shop, caplog: pytest.LogCaptureFixture, broken: str, words: str
) -> None:
    """Guard: a file that cannot be read changes nothing."""
    shop.has(shop.second())
    shop.subscribed("ben", "second")
    before = shop.now
    shop.accounts.write_text(broken)
    assert shop.now is shop.now is before
    (error,) = errors(caplog)
    assert "the former ones stay in use" in error
    assert words in error
    assert "HUSH" not in error
    collect_due(shop.now)
    assert shop.statuses() == {"second": "paid"}
    shop.has(shop.second(more="rate = 7\n"))
    assert shop.now.account("second").rate == 7
    shop.accounts.write_text(broken)
    assert shop.now.account("second").rate == 7
    assert len(errors(caplog)) == 2


def test_a_secret_file_that_is_gone_is_refused_and_the_former_secret_stays(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    before = shop.now
    shop.main_secret.unlink()
    assert shop.now is before
    (error,) = errors(caplog)
    assert "AGAIN_PORTONE_SECRET_FILE" in error


def test_a_file_that_is_being_written_is_not_read_half(shop: Shop) -> None:
    """Guard: a change must stand still. Half of a file may name fewer accounts, or other rates."""

    class Written(Wired):
        reads: int = 0

        def _read(self) -> tuple[Account, ...] | str:
            read = super()._read()
            self.reads += 1
            if self.reads == 1:
                shop.has(shop.second(more="rate = 7\n"))
            return read

    written = Written(shop.now, read_every=0)
    shop.has(shop.second())
    assert written.services().account_names == ("main",)
    assert written.services().account("second").rate == 7


def test_another_merchants_key_is_named_and_sends_nothing_until_it_is_adopted(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Guard: new credentials are compared with the account's binding before they are used."""
    shop.has(shop.second(key="another merchant's"))
    assert shop.now.account_names == ("main", "second")
    shop.has(shop.second())
    services = shop.now
    assert "run `again adopt --account second`" in errors(caplog)[0]
    shop.subscribed("ann", "main")
    (charge,) = [row["id"] for row in charge_rows(services)]
    write(services, MOVE_TO_SECOND, charge)
    attempt_charge.attempt(shop.now, charge)
    assert shop.statuses() == {"second": "open"}
    operate.adopt_account(shop.now, "second", "kim", "the contract moved")
    attempt_charge.attempt(shop.now, charge)
    assert shop.statuses() == {"second": "paid"}


def test_an_account_that_is_removed_is_not_charged_and_its_charges_are_held(shop: Shop) -> None:
    shop.has(shop.second())
    shop.subscribed("ben", "second")
    shop.subscribed("ann", "main")
    shop.has()
    collect_due(shop.now)
    assert shop.statuses() == {"second": "open", "main": "paid"}
    later = replace(shop.now, clock=FixedClock(shop.now.clock.now()))
    with later.engine.begin() as db:
        db.exec_driver_sql("UPDATE charges SET next_attempt_at = next_attempt_at - interval '2 hours'")
    assert set_aside_unsendable(later) == 1
    (held,) = [row["held_why"] for row in charge_rows(later) if row["held_why"] is not None]
    assert "'second' is not configured" in held
    shop.has(shop.second())
    operate.release(shop.now, next(r["key"] for r in charge_rows(later) if r["held_why"]), "kim", "it is back")
    collect_due(shop.now)
    assert shop.statuses() == {"second": "paid", "main": "paid"}


class ClosedGateway(ScriptedGateway):
    """A gateway that remembers whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("lease", "closed"), [(0.0, True), (3600.0, False)])
def test_a_client_that_is_replaced_is_closed_when_a_lease_has_passed(
    shop: Shop, lease: float, closed: bool
) -> None:
    former = ClosedGateway()
    made = replace(
        shop.now, settings=shop.now.settings.model_copy(update={"lease": lease}), gateways={"main": former}
    )
    wired = Wired(made, read_every=0)
    shop.main_secret.write_text("another\n")
    assert wired.services().gateways["main"] is not former
    wired.services()
    assert former.closed is closed


@pytest.fixture
def two(services: Services, gateway: ScriptedGateway) -> Services:
    """Services with a further account on a scripted gateway."""
    main = services.settings.main_account
    made = replace(
        services,
        gateways={"main": gateway, "second": ScriptedGateway()},
        accounts={"main": main, "second": replace(main, name="second")},
        account_fingerprints={"second": "fingerprint"},
    )
    operate.bind_new_accounts(made, "test")
    return made


def charges_of_second(services: Services, many: int) -> list[int]:
    """So many charges of the further account."""
    ids = many_opened(services, many)
    for charge_id in ids:
        write(services, MOVE_TO_SECOND, charge_id)
    return ids


def scripted(services: Services) -> ScriptedGateway:
    """The further account's gateway."""
    gateway = services.gateways["second"]
    assert isinstance(gateway, ScriptedGateway)
    return gateway


def test_a_call_under_way_ends_on_the_client_that_it_began_with(two: Services) -> None:
    first, second = charges_of_second(two, 2)
    old = scripted(two)
    begun, go_on = threading.Event(), threading.Event()

    def slow(order: ChargeOrder) -> Outcome:
        begun.set()
        assert go_on.wait(10)
        return old.approve(order)

    old.answers.append(slow)
    executor = Executor(two)
    under_way = executor.begin_many([first], "second")
    assert begun.wait(10)
    after = replace(two, gateways={**two.gateways, "second": ScriptedGateway()})
    executor.use(after)
    go_on.set()
    under_way.wait()
    executor.begin_many([second], "second").wait()
    assert [row["status"] for row in charge_rows(two)] == ["paid", "paid"]
    assert len(old.sent) == len(scripted(after).sent) == 1


def test_what_was_lined_up_is_compared_by_the_credentials_that_it_is_sent_with(
    two: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the fingerprint of the client that sends it, not of the accounts that were read since."""
    (charge,) = charges_of_second(two, 1)
    executor = Executor(two)

    class Repaired(ScriptedGateway):
        """Between its client and the pre-send check, the right accounts are read again."""

        def sending(self, order: ChargeOrder) -> Sending:
            executor.use(two)
            return super().sending(order)

    wrong = replace(
        two, gateways={**two.gateways, "second": Repaired()}, account_fingerprints={"second": "another merchant's"}
    )

    def visit(point: Failpoint, subject: str) -> None:
        if point is Failpoint.CHARGING_CLAIMED:
            executor.use(wrong)

    monkeypatch.setattr(failpoints, "_action", visit)
    executor.attempt(charge)
    assert scripted(wrong).sent == scripted(two).sent == []
    assert [row["state"] for row in attempt_rows(two)] == ["ready"]
