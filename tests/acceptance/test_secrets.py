"""Nothing that must stay secret gets out: the demo runs with known secrets, and all that it leaves is searched."""

import base64
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pytest
from psycopg import sql
from redis import Redis
from rich.console import Console

from schedules.money.amounts import Money
from tests.acceptance.again import again
from tests.factories import START
from worker import wiring
from worker.cli.local.demo import BEGIN, SETTINGS, Shop
from worker.cli.local.stack import Standing
from worker.cli.local.witness import SimulatorWitness
from worker.clock import MovedClock, wait_until
from worker.config import load_settings
from worker.gateway.port import Card, ChargeOrder
from worker.services import Services
from worker.store.tokens import SealedTokens

CARDS = (
    Card("4000-0000-0000-7301", "2031-07", birth="7301926458", password_2_digits="83", channel="kcp"),
    Card("4000-0001-0011-0000", "2032-11", birth="6194837205", password_2_digits="47", channel="nice"),
)
KEY, SECRET = "imp-key-4471902635", "imp-secret-b81f0c92aa7d4e63"
WEBHOOK, SIGNS = "http://127.0.0.1:1/hooks/4b7e11d09a", "ZXZlbnRzLWFyZS1zaWduZWQtd2l0aC10aGlz"


@dataclass(frozen=True, slots=True)
class Secret:
    """Something that must be found nowhere."""

    name: str
    value: str

    def spellings(self) -> set[str]:
        """The value as it could stand somewhere: plain, without dashes, quoted for an address, in base 64."""
        bare = self.value.replace("-", "")
        plain = {self.value, bare, " ".join(self.value.split("-"))}
        encoded = {base64.b64encode(text.encode()).decode().rstrip("=") for text in plain}
        return plain | encoded | {quote(self.value, safe="")}


def found_in(text: str, secrets: list[Secret]) -> set[str]:
    """The names of the secrets that stand in a text."""
    return {secret.name for secret in secrets if any(spelling in text for spelling in secret.spellings())}


@dataclass
class Aftermath:
    """A demo that has run and still stands, what it printed, and the secrets that it was given."""

    standing: Standing
    services: Services
    printed: str
    secrets: list[Secret]


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """The demo, small, with every process logging all it can, after cards, outages and errors of all kinds."""
    data = tmp_path_factory.mktemp("secrets")
    data.chmod(0o711)
    data.parent.chmod(0o711)
    clock = MovedClock(data / "clock")
    clock.move_to(START)
    settings = SETTINGS | {
        "AGAIN_CLOCK_FILE": str(clock.path), "AGAIN_LOG_LEVEL": "DEBUG", "AGAIN_PORTONE_KEY": KEY,
        "AGAIN_PORTONE_SECRET": SECRET, "AGAIN_WEBHOOK_URL": WEBHOOK, "AGAIN_WEBHOOK_SECRET": f"whsec_{SIGNS}",
    }  # fmt: skip
    heard = io.StringIO()
    ear = logging.StreamHandler(heard)
    logging.getLogger().addHandler(ear)
    logging.getLogger().setLevel(logging.DEBUG)
    with Standing(
        data / "services", settings=settings, beats=2, charge_workers=2, durable=False, logs=data / "logs",
        named_services=False,
    ) as standing:  # fmt: skip
        services = wiring.connect(load_settings(standing.environment))
        witness = SimulatorWitness(standing.environment["AGAIN_PORTONE_URL"])
        shop = Shop(services, clock, witness, standing)
        shop.open(40, 1)
        shop.live(BEGIN + timedelta(days=3), Console(file=heard))
        secrets = known_secrets(standing, services)
        use_cards(services)
        provoke(standing, services, heard)
        yield Aftermath(standing, services, heard.getvalue(), secrets)
        services.engine.dispose()
        services.gateways["main"].close()
    logging.getLogger().removeHandler(ear)
    logging.getLogger().setLevel(logging.WARNING)


def known_secrets(standing: Standing, services: Services) -> list[Secret]:
    """Everything that must be found nowhere, from the cards to the token that is in use."""
    environment = standing.environment
    shared = SealedTokens(services.engine, "main", SECRET).read()
    assert shared is not None
    secrets = [Secret("imp_secret", SECRET), Secret("imp_key", KEY), Secret("access token", shared[0])]
    secrets += [Secret("webhook's address", WEBHOOK), Secret("webhook's secret", SIGNS)]
    for name in ("AGAIN_DATABASE_URL", "AGAIN_BROKER_URL"):
        password = urlsplit(environment[name]).password
        if password is not None:
            secrets.append(Secret(f"password of {name}", unquote(password)))
    for place, card in enumerate(CARDS, start=1):
        secrets.append(Secret(f"number of card {place}", card.number))
        secrets.append(Secret(f"birth of card {place}", card.birth or ""))
    return secrets


def use_cards(services: Services) -> None:
    """Give the gateway's client whole cards, one that pays and one that declines."""
    gateway = services.gateway("main")
    for place, card in enumerate(CARDS):
        gateway.issue_key(f"keyed-{place}", card)
        order = ChargeOrder(f"keyed-{place}", f"secret{place}", Money(1000, "KRW"), "x")
        gateway.charge_card(order, card, keep=False)
        gateway.charge_card(
            ChargeOrder(f"keyed-{place}", f"kept{place}", Money(1000, "KRW"), "x"), card, keep=True
        )


def provoke(standing: Standing, services: Services, heard: io.StringIO) -> None:
    """Errors with tracebacks, in our processes and on the command line."""
    embedded = standing.services
    assert embedded is not None
    settings = {name: value for name, value in standing.environment.items() if name.startswith("AGAIN_")}
    for command in (
        ["status"],
        ["due", "--on", "2026-03-01"],
        ["unknown"],
        ["findings"],
        ["events", "--json"],
        ["reconcile"],
        ["show", "x"],
    ):
        done = again(*command, settings=settings)
        heard.write(done.stdout + done.stderr)
    break_a_chore(standing)
    embedded.postgres.crash()
    heard.write(again("status", settings=settings).stderr)
    embedded.postgres.restart()
    services.engine.dispose()
    embedded.valkey.crash()
    heard.write(again("status", "--healthy", settings=settings).stderr)
    embedded.valkey.restart()
    wrong = (
        {"AGAIN_PORTONE_SECRET": SECRET + "x"},
        {"AGAIN_WEBHOOK_URL": WEBHOOK.replace("http", "ftp")},
        {"AGAIN_WEBHOOK_SECRET": f"whsec_{SIGNS}="},
        {"AGAIN_DATABASE_URL": f"postgresql://u:{SECRET}@127.0.0.1:1/x"},
    )
    for changes in wrong:
        heard.write(again("customer", "add", "nobody", settings=settings | changes).stderr)


def break_a_chore(standing: Standing) -> None:
    """Cause a database error that is not transient: a worker logs its traceback. An outage is one line."""
    log = standing.data.parent / "logs/worker-ops.log"
    with psycopg.connect(plain_url(standing)) as db:
        db.execute("ALTER TABLE refunds RENAME TO away")
    assert wait_until(lambda: "Traceback" in log.read_text(errors="replace"), 60), "no traceback was logged"
    with psycopg.connect(plain_url(standing)) as db:
        db.execute("ALTER TABLE away RENAME TO refunds")


def plain_url(standing: Standing) -> str:
    """The database's address without the driver's name."""
    return standing.environment["AGAIN_DATABASE_URL"].replace("+psycopg", "")


def test_the_search_finds_what_it_must() -> None:
    """In every spelling, in the middle of other words."""
    secrets = [Secret("a card", "4000-0000-0000-7301")]
    for text in ("x4000000000007301y", "4000-0000-0000-7301", "4000 0000 0000 7301",
                 base64.b64encode(b"4000-0000-0000-7301").decode()):  # fmt: skip
        assert found_in(text, secrets) == {"a card"}
    assert found_in("4000-0000-0000-7302", secrets) == set()


def test_no_secret_is_in_any_row(aftermath: Aftermath) -> None:
    """Every row of every table, as text."""
    rows = 0
    with psycopg.connect(plain_url(aftermath.standing)) as db:
        tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))
            for (row,) in db.execute(query):
                rows += 1
                assert found_in(row, aftermath.secrets) == set(), table
    assert rows > 200


def test_no_secret_is_in_the_broker(aftermath: Aftermath) -> None:
    """Every key with what it holds, message bodies decoded: task arguments are in there."""
    broker = Redis.from_url(aftermath.standing.environment["AGAIN_BROKER_URL"])
    children = aftermath.standing.children("worker")
    for child in children:  # so that messages wait, and can be read
        child.kill()
        child.wait()
    seen: list[str] = []

    def holds_a_message() -> bool:
        seen[:] = [text for key in broker.scan_iter() for text in values_of(broker, key)]
        return any("again." in text for text in seen)

    assert wait_until(holds_a_message, 60), "no message was there to be searched"
    broker.close()
    for text in seen:
        assert found_in(text, aftermath.secrets) == set()
    aftermath.standing.restart("worker")


def values_of(broker: Any, key: bytes) -> list[str]:
    """A key and all that it holds, as text, with base 64 bodies beside it decoded."""
    match broker.type(key).decode():
        case "list":
            held = broker.lrange(key, 0, -1)
        case "hash":
            held = [part for pair in broker.hgetall(key).items() for part in pair]
        case "set":
            held = list(broker.smembers(key))
        case "zset":
            held = broker.zrange(key, 0, -1)
        case _:
            held = [broker.get(key) or b""]
    texts = [key.decode(errors="replace")]
    for part in held:
        text = part.decode(errors="replace")
        texts += [text, *bodies_in(text)]
    return texts


def bodies_in(text: str) -> list[str]:
    """The decoded bodies of a kombu message."""
    try:
        document = json.loads(text)
    except ValueError:
        return []
    message = document[0] if isinstance(document, list) and document else document
    body = message.get("body") if isinstance(message, dict) else None
    return [base64.b64decode(body).decode(errors="replace")] if isinstance(body, str) else []


def test_no_secret_is_in_any_log_or_output(aftermath: Aftermath) -> None:
    """Of all processes at DEBUG, tracebacks among them, and of the commands."""
    logs = {
        path.name: path.read_text(errors="replace") for path in (aftermath.standing.data.parent / "logs").iterdir()
    }
    assert sum(len(text) for text in logs.values()) > 10_000
    assert any("Traceback" in text for text in logs.values()), "no traceback was there to be searched"
    for name, text in {**logs, "what was printed": aftermath.printed}.items():
        assert found_in(text, aftermath.secrets) == set(), name


def test_no_secret_is_on_a_command_line(aftermath: Aftermath) -> None:
    lines = []
    for child in aftermath.standing.children(""):
        where = Path(f"/proc/{child.pid}/cmdline")
        if where.exists():
            lines.append(where.read_bytes().replace(b"\0", b" ").decode())
        else:
            lines.append(" ".join(str(part) for part in child.args))  # type: ignore[union-attr]  # a list, as we start them
    assert len(lines) >= 5
    for line in lines:
        assert found_in(line, aftermath.secrets) == set()
