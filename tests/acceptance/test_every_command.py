"""Every command is carried out on a shop: with --json, in a narrow terminal, and in one that knows ASCII alone."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schedules.charging.identity import merchant_uid
from schedules.charging.outcomes import Paid
from schedules.dunning.policies import STANDARD
from schedules.dunning.policy_files import written
from schedules.errors import Code
from schedules.money.amounts import Money
from tests import factories
from tests.acceptance.again import ROOT, plain_environment
from tests.services import drop_database, fresh_database
from tests.simulator.running import RunningSimulator, running_simulator
from worker import wiring
from worker.cli.terminal.examples import EXAMPLES
from worker.cli.terminal.json_fields import JSON_FIELDS
from worker.cli.terminal.output import instant
from worker.cli.terminal.sections import PROCESSES
from worker.config import load_settings
from worker.customers import enrollment
from worker.embedded import EmbeddedServices
from worker.gateway.port import ChargeOrder
from worker.operations import operate
from worker.reporting import history

CARD = json.dumps(
    {"number": "4092023012341234", "expiry": "2030-01", "birth": "900101", "password_2_digits": "12"}
)
WHY = "--why 'a reason'"
# Subscriptions, one for each of these, each with a charge; the cards of the second line decline.
PAID = ("double", "pause", "skip", "anchor", "time", "plan", "card", "end", "refund", "delete")
OWED = ("try", "waive", "cancel", "elsewhere", "release")
# What stands in a command as {name}: a subscription's key, and as {name.charge} its charge's.
REAL: Mapping[str, str] = {
    "migrate": "again migrate",
    "status": "again status",
    "adopt": f"again adopt --complete {WHY}",
    "find": "again find card-try",
    "show": "again show {try.charge} --ask",
    "why": "again why {try.charge}",
    "due": "again due --on 2027-01-01",
    "plan add": "again plan add tea --price 9900 --name '월간 차' --unit month",
    "plan archive": "again plan archive tea",
    "policy add": "again policy add {files}/gentle.toml",
    "customer add": "again customer add new-card --name '김안나'",
    "card issue": f"again card issue typed-card {WHY}",
    "card pay": f"again card pay once-card 9900 --name '방문 결제' --request-key counter-1 {WHY}",
    "card show": "again card show card-pause",
    "card delete": f"again card delete card-delete --end-subscriptions {WHY} --dry-run",
    "card changed": f"again card changed card-try {WHY}",
    "card expires": "again card expires card-pause 2031-05",
    "subscribe": "again subscribe second-card coffee --enroll",
    "unsubscribe": f"again unsubscribe {{end}} {WHY} --dry-run",
    "pause": f"again pause {{pause}} {WHY}",
    "resume": f"again resume {{pause}} {WHY}",
    "skip": f"again skip {{skip}} {WHY}",
    "undo": f"again undo {{skip}} --what skip {WHY}",
    "move-anchor": f"again move-anchor {{anchor}} {{soon}} {WHY} --dry-run",
    "move-time": f"again move-time {{time}} 21:30 {WHY}",
    "change-plan": f"again change-plan {{plan}} large {WHY} --dry-run",
    "change-card": f"again change-card {{card}} other-card {WHY}",
    "charge": f"again charge card-pause 9900 --name '한 번 결제' --request-key order-1 {WHY}",
    "charge-batch": f"again charge-batch {{files}}/extra.csv --key boxes --name '추가 상자' {WHY} --yes",
    "batch list": "again batch list",
    "batch show": "again batch show boxes",
    "batch stop": f"again batch stop boxes {WHY}",
    "batch resume": f"again batch resume boxes {WHY}",
    "batch export": "again batch export boxes --out {files}/results.csv",
    "refund": f"again refund {{refund.charge}} --amount 3000 --request-key refund-1 {WHY}",
    "try": f"again try {{try.charge}} {WHY}",
    "release": f"again release --refused {WHY}",
    "waive": f"again waive {{waive.charge}} {WHY} --dry-run",
    "cancel-charge": f"again cancel-charge {{cancel.charge}} {WHY}",
    "paid-elsewhere": f"again paid-elsewhere {{elsewhere.charge}} {WHY}",
    "reconcile": "again reconcile --to {now}",
    "findings refund": f"again findings refund 1 {WHY}",
    "events show": "again events show 1",
    "events replay": f"again events replay 1 2 {WHY}",
    "import subscriptions": f"again import subscriptions {{files}}/moving.csv {WHY} --dry-run",
    "export": "again export charges --out {files}/charges.csv",
    "simulate-dunning": "again simulate-dunning --customers 20",
}
# They are refused here, so that their errors are what is looked at: nothing in this shop is of their kind.
REFUSED = frozenset({
    "clock", "alive", "findings resolve", "batch approve", "batch drop", "batch watch"
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop with a subscription for each verb."""

    settings: Mapping[str, str]
    names: Mapping[str, str]

    def words(self, path: str) -> list[str]:
        """A command that succeeds in this shop, or its example."""
        text = REAL.get(path, EXAMPLES[path])
        for name, value in self.names.items():
            text = text.replace("{" + name + "}", value)
        return shlex.split(text)[1:]

    def walk(self, *options: str, columns: int = 200, encoding: str = "utf-8") -> dict[str, dict[str, Any]]:
        """Carry out every command with these options; what each printed."""
        paths = [path for path in EXAMPLES if path not in PROCESSES]
        asked = {"commands": [([*self.words(path), *options], CARD) for path in paths], "encoding": encoding}
        environment = plain_environment(self.settings) | {"COLUMNS": str(columns), "FORCE_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tests.acceptance.walking"], env=environment | {"PYTHONPATH": str(ROOT)},
            input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(zip(paths, json.loads(done.stdout), strict=True))


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """A gateway whose cards pay, and some that decline."""
    with running_simulator() as running:
        for name in PAID:
            running.card(f"card-{name}")
        for name in OWED:
            running.card(f"card-{name}", "no_money")
        for name in ("other-card", "second-card", "new-card", "moved-card"):
            running.card(name)
        yield running


@pytest.fixture
def shop(
    embedded: EmbeddedServices, migrated_template: str, simulator: RunningSimulator, tmp_path: Path
) -> Iterator[Shop]:
    """A shop on a database of its own."""
    url = fresh_database(embedded, template=migrated_template)
    settings = {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": url, "AGAIN_BROKER_URL": embedded.broker_url,
        "AGAIN_PORTONE_URL": simulator.url, "AGAIN_PORTONE_KEY": "sim_key", "AGAIN_PORTONE_SECRET": "sim_secret",
    }  # fmt: skip
    yield Shop(settings, arranged(settings, tmp_path) | {"files": str(tmp_path)})
    drop_database(embedded, url)


def arranged(settings: Mapping[str, str], files: Path) -> dict[str, str]:
    """Fill the shop; answers the keys of subscriptions and charges by their names."""
    made = wiring.connect(load_settings(settings))
    operate.bind_if_new(made, "test")
    factories.on_sale(made, code="coffee")
    factories.on_sale(made, code="large")
    names = {name: factories.subscribed(made, f"card-{name}", "coffee") for name in (*PAID, *OWED)}
    factories.collect_due(made)
    for name, key in list(names.items()):
        for charge in history.show(made, key).parts:
            names[f"{name}.charge"] = charge["key"]
    twice = ChargeOrder(
        "card-double", merchant_uid("test", names["double.charge"], 2), Money(9900, "KRW"), "Twice"
    )
    assert isinstance(made.gateway("main").charge(twice), Paid)
    enrollment.add_customer(made, "other-card", None, None, None, "test", of="card-card")
    names["soon"] = (made.clock.now() + timedelta(days=20)).date().isoformat()
    names["now"] = instant(made.clock.now())
    made.engine.dispose()
    (files / "extra.csv").write_text("customer_uid,amount\ncard-pause,1000\n")
    (files / "gentle.toml").write_text(written(STANDARD).replace('"standard"', '"gentle"'))
    (files / "moving.csv").write_text("customer_uid,plan,next_date\nmoved-card,coffee,2099-01-31\n")
    return names


def documents(text: str) -> list[Any]:
    """The JSON documents that stand in a text one after the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def is_answered_in_json(path: str, done: Mapping[str, Any]) -> bool:
    """Whether a command printed JSON alone: one answer, or an error that its exit status tells of too."""
    try:
        answers, notices = documents(done["out"]), [json.loads(line) for line in done["err"].splitlines()]
    except ValueError:
        return False
    failed = bool(notices) and "error" in notices[-1]
    if failed and notices[-1]["error"]["code"] not in set(Code):
        return False
    is_one = len(answers) == 1 or (path == "forecast" and answers != [])
    return failed == (path in REFUSED) == (done["status"] != 0) and (failed or is_one)


def fields(document: Any) -> str:
    """The names in a document, or in the first of a list of them; as JSON_FIELDS names them."""
    if not isinstance(document, list):
        return ", ".join(document)
    return f"list of {', '.join(document[0])}" if document else "list"


def test_every_command_answers_in_json_with_the_fields_that_are_documented(shop: Shop) -> None:
    """A program reads what a command did, or why it did not, and the exit status says which."""
    walked = shop.walk("--json")
    wrong = [str(done) for path, done in walked.items() if not is_answered_in_json(path, done)]
    assert "\n\n".join(wrong) == ""
    error = json.loads(walked["findings resolve"]["err"])["error"]
    assert (error["code"], error["field"]) == ("not_found", None)
    found = {path: fields(documents(done["out"])[0]) for path, done in walked.items() if path not in REFUSED}
    told = JSON_FIELDS
    assert list(told) == [path for path in EXAMPLES if path not in PROCESSES]
    same = {path: told[path] if names != "list" else "list" for path, names in found.items()}
    assert same == {path: names.removesuffix(", changes") for path, names in found.items()}


def test_every_command_can_be_read_in_a_narrow_terminal_that_knows_ascii_alone(shop: Shop) -> None:
    """40 columns, and an encoding without Korean, arrows and boxes: nothing is lost, and no status changes."""
    walked = shop.walk(columns=40, encoding="ascii")
    refused = {path for path, done in walked.items() if done["status"] != 0}
    assert refused == REFUSED, [walked[path] for path in refused ^ REFUSED]
    assert not [path for path, done in walked.items() if "Traceback" in done["err"]]
    story = walked["show"]["out"]
    assert shop.names["try.charge"] in story
    assert "\\uc6d4\\uac04" in story  # the plan's Korean name
    assert "9,900 KRW" in story
    found = walked["findings"]["out"].splitlines()
    assert any(line.endswith("kind: double") for line in found)
    assert [line for line in found if "merchant_uid: ag1test" in line]
    assert "->" in walked["waive"]["out"]
