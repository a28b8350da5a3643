"""Bad input: each a clear error in words, a non-zero exit, and nothing half done."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select, text

from tests import factories
from tests.acceptance.again import again, refused, told, told_json
from tests.simulator.running import RunningSimulator, running_simulator
from worker import wiring
from worker.config import BadSettings, load_settings
from worker.operations import operate
from worker.store.operations import revisions
from worker.store.tables import billing_keys, plans, subscriptions

Settings = dict[str, str]


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """A gateway to be wrong with."""
    with running_simulator() as running:
        running.card("ann")
        yield running


def settings_of(database: str, simulator: RunningSimulator) -> Settings:
    """Settings of an installation on this database."""
    return {
        "AGAIN_ENVIRONMENT": "test",
        "AGAIN_DATABASE_URL": database,
        "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": simulator.url,
        "AGAIN_PORTONE_KEY": "sim_key",
        "AGAIN_PORTONE_SECRET": "sim_secret",
    }


@pytest.fixture
def settings(empty_database: str, simulator: RunningSimulator) -> Settings:
    """Settings of an installation whose database has no tables yet."""
    return settings_of(empty_database, simulator)


@pytest.fixture
def shop(database: str, simulator: RunningSimulator) -> Settings:
    """Settings of an installation with a plan on sale."""
    made = settings_of(database, simulator)
    services = wiring.connect(load_settings(made))
    operate.bind_if_new(services, "test")
    factories.on_sale(services, code="coffee")
    services.engine.dispose()
    return made


def rows(settings: Settings) -> tuple[int, ...]:
    """How many plans, billing keys and subscriptions there are."""
    engine = create_engine(settings["AGAIN_DATABASE_URL"])
    with engine.connect() as db:
        tables = (plans, billing_keys, subscriptions)
        counts = tuple(db.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)
    engine.dispose()
    return counts


ADD = ["plan", "add", "tea", "--name", "Tea", "--unit", "month"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([*ADD, "--price", "-5"], "'-5' is not a plain positive number"),
        ([*ADD, "--price", "99.5"], "more decimals than KRW has"),
        ([*ADD, "--price", "5", "--currency", "XYZ"], "currency 'XYZ' is not known"),
        ([*ADD, "--price", "5", "--name", "x" * 41], "41 characters"),
        ([*ADD, "--price", "5", "--zone", "Asia/Soul"], "did you mean 'Asia/Seoul'"),
        ([*ADD, "--price", "5", "--ladder", "soon"], "'soon' cannot be read"),
        ([*ADD, "--price", "5", "--ladder", "3d,1d"], "give rising offsets"),
        (["plan", "add", "tea", "--name", "Tea", "--cron", "0 9 31 * *", "--price", "5"], "skips every month"),
        (["plan", "show", "tea"], "plan 'tea' is not known"),
        (["plan", "archive", "tea"], "plan 'tea' is not known; there are: coffee"),
        (["customer", "add", "nobody"], "no billing key for customer 'nobody'"),
        (["customer", "add", " "], "customer_uid: ' ' is empty or cannot be printed"),
        (["customer", "add", "4111-1111-1111-1111"], "argument 3: it looks like a card number"),
        (["customer", "add", "ann", "--name", "x" * 17], "name: it has 17 characters"),
        (["customer", "add", "ann", "--email", "x" * 65], "email: it has 65 characters"),
        (["customer", "add", "ann", "--tel", "0" * 17], "tel: it has 17 characters"),
        (["customer", "add", "ann", "--tel", "4111111111111111"], "tel: it looks like a card number"),
        (["subscribe", "nobody", "coffee"], "customer 'nobody' is not known"),
        (["subscribe", "nobody", "tea"], "plan 'tea' is not known"),
        (["subscribe", "nobody", "coffee", "--anchor", "soon"], "'soon' is not a date"),
        (["unsubscribe", "0" * 20, "--why", "x"], "is not known"),
        (["show", "0" * 20], "is not known"),
        (["show", "r" + "0" * 25], "is not known"),
        (["show", "ag1" + "0" * 35], "does not match its check character"),
        (["release", "r" + "0" * 25, "--why", "x"], "is not known"),
        (["release", "--why", "x"], "give a key, or --refused"),
        (["release", "r" + "0" * 25, "--refused", "--why", "x"], "not both"),
        (["waive", "r" + "0" * 25, "--why", "x"], "is not known"),
        (["resume-charging", "--why", "x"], "charging is not stopped"),
        (["stop-charging", "--account", "typo", "--why", "x"], "so nothing is stopped"),
        (["due", "--on", "today"], "'today' is not a date"),
        (["due", "--on", "2026-01-01", "--zone", "Mars"], "'Mars'"),
    ],
)
def test_what_cannot_be_done_is_said_and_left(shop: Settings, command: list[str], words: str) -> None:
    before = rows(shop)
    assert words in refused(*command, settings=shop)
    assert rows(shop) == before


def test_a_card_number_is_not_repeated(shop: Settings) -> None:
    assert "4111" not in refused("customer", "add", "4111111111111111", settings=shop)


def test_a_customer_is_added_once(shop: Settings) -> None:
    told("customer", "add", "ann", settings=shop)
    assert "is known already" in refused("customer", "add", "ann", settings=shop)


def test_an_archived_plan_takes_no_subscriptions(shop: Settings) -> None:
    told("customer", "add", "ann", settings=shop)
    told("plan", "archive", "coffee", settings=shop)
    assert "was archived" in refused("subscribe", "ann", "coffee", settings=shop)


def test_wrong_credentials_are_named_as_such_and_not_shown(shop: Settings) -> None:
    wrong = shop | {"AGAIN_PORTONE_SECRET": "a-wrong-secret"}
    words = refused("customer", "add", "ann", settings=wrong)
    assert "인증에 실패" in words
    assert "a-wrong-secret" not in words


@pytest.mark.parametrize("command", [["worker"], ["beat"], ["plan", "list"], ["status"]])
def test_a_database_without_tables_is_refused(settings: Settings, command: list[str]) -> None:
    assert "run `again migrate`" in refused(*command, settings=settings)


def test_a_database_that_does_not_serve_the_code_is_refused(settings: Settings) -> None:
    engine = create_engine(settings["AGAIN_DATABASE_URL"])
    revisions.migrate(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        db.execute(text("UPDATE served_code SET oldest_revision = '9999'"))
    assert "revision 9999" in refused("beat", settings=settings)
    assert "revision 9999" in refused("migrate", settings=settings)
    with engine.begin() as db:
        db.execute(text("DROP TABLE served_code"))
    for command in ("worker", "migrate"):
        assert "create an empty database" in refused(command, settings=settings)
    engine.dispose()


def test_a_database_of_another_environment_is_named_wherever_one_would_wait_for_charges(shop: Settings) -> None:
    told("migrate", settings=shop)
    assert told_json("status", settings=shop)["why_not"] is None
    other = shop | {"AGAIN_ENVIRONMENT": "prod"}
    words = "nothing will be sent: this database is bound to environment 'test', not to 'prod'; see `again adopt`"
    facts = told_json("status", settings=other)
    assert (facts["may_send"], facts["why_not"]) == (False, words)
    for command in (["migrate"], ["worker", "--until-stdin-closes"], ["beat", "--until-stdin-closes"]):
        assert words in again(*command, settings=other).stderr
    account = shop | {"AGAIN_ACCOUNT": "second"}
    assert "'test' with another gateway, account or database" in told("status", settings=account)


def test_a_database_that_does_not_answer_is_named_without_its_password(settings: Settings) -> None:
    away = settings | {"AGAIN_DATABASE_URL": "postgresql://again:hush@127.0.0.1:1/again"}
    words = refused("status", settings=away)
    assert "the database at postgresql+psycopg://again:***@127.0.0.1:1/again does not answer" in words
    assert "hush" not in words


def test_a_broker_that_does_not_answer_is_named(shop: Settings) -> None:
    assert "the broker at redis://127.0.0.1:1/0 does not answer" in refused_status(shop)


def refused_status(settings: Settings) -> str:
    """What `again status --healthy` says, when it must fail."""
    done = again("status", "--healthy", settings=settings)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AGAIN_ENVIRONMENT": "production"}, "AGAIN_ENVIRONMENT: environment 'production' cannot be"),
        ({"AGAIN_DATABASE_URL": "sqlite:///x"}, "AGAIN_DATABASE_URL: it must start with postgresql"),
        ({"AGAIN_BROKER_URL": "memory://"}, "AGAIN_BROKER_URL: it must start with one of redis"),
        ({"AGAIN_RATE": "fast"}, "AGAIN_RATE: "),
        ({"AGAIN_LEASE": "1"}, "half of AGAIN_LEASE"),
        ({"AGAIN_PORTONE_URL": "https://api.iamport.kr", "AGAIN_READ_TIMEOUT": "5"}, "AGAIN_READ_TIMEOUT 5"),
        ({"AGAIN_PORTONE_URL": "https://api.iamport.kr", "AGAIN_CLOCK_FILE": "c"}, "AGAIN_CLOCK_FILE moves"),
        ({"AGAIN_PORTONE_URL": "http://api.iamport.kr"}, "is not an https:// address"),
        ({"AGAIN_CLOCK_FILE": "nowhere/clock"}, "AGAIN_CLOCK_FILE 'nowhere/clock' is no file"),
        ({"AGAIN_PORTONE_TIER": ""}, "AGAIN_PORTONE_TIER: it must be a code"),
        ({"AGAIN_CONCURENCY": "4"}, "AGAIN_CONCURENCY: is not known; did you mean AGAIN_CONCURRENCY?"),
        ({"AGAIN_PORTONE_SECRET_FILE": "s"}, "AGAIN_PORTONE_SECRET and AGAIN_PORTONE_SECRET_FILE are both set"),
        (
            {"AGAIN_PORTONE_SECRET": "", "AGAIN_PORTONE_SECRET_FILE": "nowhere"},
            "AGAIN_PORTONE_SECRET_FILE 'nowhere'",
        ),
        ({"AGAIN_TEAPOT": "4"}, "AGAIN_TEAPOT: is not known; docs/reference/settings.md lists"),
    ],
)
def test_a_bad_setting_is_named(settings: Settings, changes: Settings, words: str) -> None:
    assert words in refused("status", settings=settings | changes)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AGAIN_PORTONE_KEY", "", "is empty"),
        ("AGAIN_PORTONE_SECRET", " ", "is empty"),
        ("AGAIN_PORTONE_URL", "http://host:hush", "it must be of the form"),
        ("AGAIN_PORTONE_URL", "http://host:99999", "it must be of the form"),
        ("AGAIN_PORTONE_URL", "", "it must be of the form"),
        ("AGAIN_PORTONE_URL", "http://me:hush@host", "it holds a name or password"),
        ("AGAIN_DATABASE_URL", "postgresql://me:hush@host:port/again", "it is not like"),
        ("AGAIN_DATABASE_URL", "postgresql://me:hush@host:99999/again", "it is not like"),
        ("AGAIN_DATABASE_URL", "postgresql://me:hu@sh/hush@host/again", "it is not like"),
        ("AGAIN_DATABASE_URL", "postgresql://me:hush@host/again?hush=1", "it is not like"),
        ("AGAIN_BROKER_URL", "redis://:hush@host:port/0", "it is not like"),
        ("AGAIN_BROKER_URL", "redis://:hu/sh@host:6379/0", "it is not like"),
        ("AGAIN_BROKER_URL", "redis://:99/hush@host:6379/0", "it is not like"),
        ("AGAIN_BROKER_URL", "redis://host/hush", "it is not like"),
        ("AGAIN_BROKER_URL", "rediss://[host/0", "it is not like"),
    ],
)
def test_an_address_or_secret_that_cannot_be_used_is_named_and_not_shown(
    settings: Settings, name: str, value: str, words: str
) -> None:
    with pytest.raises(BadSettings, match=f"{name}: {words}") as caught:
        load_settings(settings | {name: value})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGAIN_DATABASE_URL", "postgresql:///again"),
        ("AGAIN_DATABASE_URL", "postgresql+psycopg://me:p%40ss@[::1]:5432/again?sslmode=require"),
        ("AGAIN_BROKER_URL", "rediss://:p%2Fss@[::1]:6379/3?ssl_cert_reqs=required"),
        ("AGAIN_BROKER_URL", "amqp://me:hush@host:5672/shop"),
        ("AGAIN_PORTONE_URL", "https://api.iamport.kr/"),
        ("AGAIN_ACTOR", "ann"),
    ],
)
def test_an_address_that_can_be_used_is_taken(settings: Settings, name: str, value: str) -> None:
    load_settings(settings | {name: value})


def test_the_secret_may_stand_in_a_file_and_a_variable_that_is_empty_is_not_set(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    with_file = settings | {"AGAIN_PORTONE_SECRET": "", "AGAIN_PORTONE_SECRET_FILE": str(tmp_path / "secret")}
    assert load_settings(with_file).portone_secret.get_secret_value() == "from a file"
    kept = load_settings(settings | {"AGAIN_PORTONE_SECRET_FILE": ""})
    assert kept.portone_secret.get_secret_value() == settings["AGAIN_PORTONE_SECRET"]
    (tmp_path / "secret").write_text(" \n")
    with pytest.raises(BadSettings, match="is empty"):
        load_settings(with_file)


def test_a_missing_setting_is_named_with_what_to_do(settings: Settings) -> None:
    del settings["AGAIN_PORTONE_SECRET"]
    words = refused("status", settings=settings)
    assert "AGAIN_PORTONE_SECRET: is not set" in words
    assert words.endswith("run `again up` in this folder first, or set them; see docs/reference/settings.md\n")
