"""Each further account is bound to its credentials; another merchant's are noticed and stop that account."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import Unknown
from tests.acceptance.again import again, refused, told, told_json
from tests.doubles import ScriptedGateway
from tests.factories import attempt_rows, charge_rows, collect_due, heard, move, on_sale
from worker.charging import attempt_charge, resolve_unknown
from worker.charging.claim import Claimed, claim_many
from worker.config import load_settings
from worker.customers import enrollment
from worker.operations import operate
from worker.reconciliation import reconciler
from worker.renewals import open_charges
from worker.services import OtherCredentials, Services
from worker.store.charging import account_bindings
from worker.store.tables import audit, charges
from worker.wiring import account_fingerprint

ANOTHER = "fingerprint of another merchant's credentials"


@pytest.fixture
def second() -> ScriptedGateway:
    """The gateway of the further account."""
    return ScriptedGateway()


@pytest.fixture
def two(services: Services, gateway: ScriptedGateway, second: ScriptedGateway) -> Services:
    """Services with a further account, bound on first use, and a due charge for each account."""
    main = services.settings.main_account
    made = replace(
        services,
        gateways={"main": gateway, "second": second},
        accounts={"main": main, "second": replace(main, name="second")},
        account_fingerprints={"second": "fingerprint of the first credentials"},
    )
    operate.bind_new_accounts(made, "test")
    on_sale(made)
    for customer, account in (("ann", "main"), ("ben", "second")):
        enrollment.add_customer(made, customer, None, None, None, "test", account=account)
        enrollment.subscribe(made, customer, "monthly", "test")
    open_charges.open_due(made)
    return made


def swapped(services: Services) -> Services:
    """The same process after another merchant's credentials were given to the further account."""
    return replace(services, account_fingerprints={"second": ANOTHER})


def charge_of(services: Services, account: str) -> int:
    """The row id of the account's charge."""
    (found,) = [row["id"] for row in charge_rows(services) if row[charges.c.account.name] == account]
    assert isinstance(found, int)
    return found


def unknown_in_second(services: Services, second: ScriptedGateway) -> int:
    """Make the further account's attempt one with an unknown outcome; return its row id."""
    second.answers.append(lambda order: Unknown("timeout"))
    attempt_charge.attempt(services, charge_of(services, "second"))
    (row,) = attempt_rows(services)
    assert row["state"] == AttemptState.UNKNOWN.value
    attempt_id: int = row["id"]
    return attempt_id


def test_another_merchants_credentials_stop_that_account_alone_until_adopted(
    two: Services, gateway: ScriptedGateway, second: ScriptedGateway
) -> None:
    """Guard: the account's fingerprint."""
    other = swapped(two)
    collect_due(other)
    assert [order.customer_uid for order in gateway.sent] == ["ann"]
    assert second.sent == []
    operate.adopt_account(other, "second", "kim", "the contract moved to another merchant")
    collect_due(other)
    assert [order.customer_uid for order in second.sent] == ["ben"]
    with two.engine.begin() as db:
        entries = db.execute(audit.select().where(audit.c.verb == "adopt-account").order_by(audit.c.id)).all()
    assert [(entry.actor, entry.subject) for entry in entries] == [("test", "second"), ("kim", "second")]


def test_a_group_claim_leaves_out_the_account_with_other_credentials(two: Services) -> None:
    ids = [charge_of(two, "main"), charge_of(two, "second")]
    claimed = claim_many(swapped(two), ids)
    assert isinstance(claimed[0], Claimed)
    assert claimed[1] is None
    assert [row["charge_id"] for row in attempt_rows(two)] == ids[:1]


def test_the_pre_send_check_sees_that_the_account_was_bound_to_other_credentials(
    two: Services, second: ScriptedGateway
) -> None:
    claimed = attempt_charge.claim(two, charge_of(two, "second"))
    assert claimed is not None
    operate.adopt_account(swapped(two), "second", "kim", "moved", same_merchant=True)
    attempt_charge.carry_out(two, claimed)
    assert second.sent == []


def test_new_accounts_are_not_bound_again_and_not_in_a_database_of_another_environment(two: Services) -> None:
    operate.bind_new_accounts(swapped(two), "test")
    foreign = replace(two, fingerprint_in=lambda _: "of a copy", account_fingerprints={"third": "x"})
    operate.bind_new_accounts(foreign, "test")
    with two.engine.begin() as db:
        assert account_bindings.all_bound(db) == two.account_fingerprints


def test_an_account_that_is_not_bound_sends_nothing(two: Services, second: ScriptedGateway) -> None:
    with two.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM account_bindings")
    assert attempt_charge.attempt(two, charge_of(two, "second")) is None
    assert second.sent == []


def test_another_merchant_is_not_asked_about_an_unknown_attempt(two: Services, second: ScriptedGateway) -> None:
    """Guard: it would answer that there is no such payment, and the charge would be sent a second time."""
    attempt_id = unknown_in_second(two, second)
    (uid,) = [row["merchant_uid"] for row in attempt_rows(two)]
    other = swapped(two)
    move(two, hours=1)
    asked_before = len(second.asked)
    assert resolve_unknown.ask(other, attempt_id) is None
    heard(other, uid)
    reconciler.begin_due(other, "second")
    reconciler.go_on(other, "second")
    with pytest.raises(OtherCredentials, match="again adopt --account second"):
        reconciler.begin_asked(other, "second", two.clock.now().replace(day=1), two.clock.now())
    assert len(second.asked) == asked_before
    assert [row["state"] for row in attempt_rows(two)] == [AttemptState.UNKNOWN.value]


def test_credentials_are_not_adopted_while_outcomes_are_unknown_unless_the_merchant_is_the_same(
    two: Services, second: ScriptedGateway
) -> None:
    """Guard: the count of attempts in doubt."""
    attempt_id = unknown_in_second(two, second)
    other = swapped(two)
    with pytest.raises(operate.CannotOperate, match="1 attempts of account second have no known outcome"):
        operate.adopt_account(other, "second", "kim", "moved")
    operate.adopt_account(other, "second", "kim", "the key was reissued", same_merchant=True)
    move(two, hours=1)
    assert resolve_unknown.ask(other, attempt_id) is not None


def test_an_account_that_is_not_configured_cannot_be_adopted(two: Services) -> None:
    for name in ("third", "main"):
        with pytest.raises(operate.CannotOperate, match="there are: second"):
            operate.adopt_account(two, name, "kim", "typo")


def settings_with(database: str, folder: Path, key: str) -> Mapping[str, str]:
    """Settings of a process whose accounts file has this key for the further account."""
    file = folder / "accounts.toml"
    file.write_text(f'[accounts.second]\nportone_url = "http://127.0.0.1:1"\nkey = "{key}"\nsecret = "SECRET"\n')
    file.chmod(0o600)
    return {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "k", "AGAIN_PORTONE_SECRET": "s",
        "AGAIN_ACCOUNTS_FILE": str(file),
    }  # fmt: skip


def test_status_names_the_account_with_other_credentials_and_adopt_binds_them(
    database: str, tmp_path: Path
) -> None:
    told("migrate", settings=settings_with(database, tmp_path, "FIRST-KEY"))
    settings = settings_with(database, tmp_path, "OTHER-KEY")
    status = told_json("status", settings=settings)
    assert status["may_send"] is True
    (wrong,) = status["wrong_accounts"]
    assert "again adopt --account second" in wrong
    assert "OTHER-KEY" not in told("status", settings=settings)
    assert "not in AGAIN_ACCOUNTS_FILE" in refused(
        "adopt", "--account", "third", "--why", "typo", settings=settings
    )
    assert "again adopt --account second" in refused("reconcile", "--account", "second", settings=settings)
    compared = again("reconcile", settings=settings)
    assert "account second is left out" in compared.stderr
    assert compared.returncode == 1
    told("adopt", "--account", "second", "--why", "the contract moved", settings=settings)
    assert told_json("status", settings=settings)["wrong_accounts"] == []
    assert told_json("status", settings=settings)["hold"] is None


def test_the_fingerprint_of_an_account_names_its_merchant_and_survives_a_new_secret(
    database: str, tmp_path: Path
) -> None:
    def fingerprint(key: str = "KEY", **changes: object) -> str:
        settings = load_settings(dict(settings_with(database, tmp_path, key)))
        (account,) = [a for a in settings.accounts() if a.name == "second"]
        return account_fingerprint(settings, replace(account, **changes))  # type: ignore[arg-type]  # any field

    assert fingerprint() == fingerprint(rate=1.0)
    others = {fingerprint("OTHER"), fingerprint(tier="001"), fingerprint(portone_url="http://other:1")}
    assert len(others | {fingerprint()}) == 4
