"""The house keeps its rules: contracts, one clock, and docs that name every state and setting."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from schedules.charging.charges import AttemptState, ChargeStatus, SubscriptionStatus
from schedules.dunning.decisions import Counter
from schedules.dunning.declines import DeclineClass
from schedules.dunning.policies import FinalAction
from schedules.dunning.standings import Standing
from schedules.operations.findings import FindingKind, FindingState
from schedules.operations.health import CauseCode
from schedules.outbox.event_kinds import KINDS
from schedules.requests.batches import BatchState
from schedules.requests.refunds import RefundState
from tools import reference
from worker.clock import SystemClock
from worker.task_api.answers import fields_of, read_fields
from worker.task_api.verbs import VERBS, charge_adhoc

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCES = [path for room in ("schedules", "worker", "simulator") for path in (ROOT / room).rglob("*.py")]


def sections(page: str) -> dict[str, dict[str, str]]:
    """A page's third-level headings with their text, by second-level heading."""
    found: dict[str, dict[str, str]] = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, *entries = re.split(r"^### ", part, flags=re.MULTILINE)
        found[title.partition("\n")[0].strip()] = {
            name.strip(): words.strip() for name, _, words in (entry.partition("\n") for entry in entries)
        }
    return found


@pytest.mark.parametrize(
    ("title", "states"),
    [
        ("Charge", ChargeStatus),
        ("Attempt", AttemptState),
        ("Subscription", SubscriptionStatus),
        ("Finding", FindingState),
        ("Standing", Standing),
        ("Refund", RefundState),
        ("Batch", BatchState),
    ],
)
def test_the_page_of_states_has_a_paragraph_for_each(title: str, states: type[StrEnum]) -> None:
    told = sections((DOCS / "reference/states.md").read_text())[title]
    assert list(told) == [state.value for state in states]
    assert all(len(words) > 20 for words in told.values())


def test_the_page_of_dunning_tells_of_each_class_final_action_and_counter() -> None:
    page = (DOCS / "explanation/dunning.md").read_text()
    counters = [counter.value for counter in Counter if counter is not Counter.NOTHING]
    classes = [named.value for named in DeclineClass if named is not DeclineClass.UNKNOWN_OUTCOME]
    assert [word for word in (*classes, *FinalAction, *counters) if f"`{word}`" not in page] == []


def test_the_runbook_has_a_page_for_each_kind_of_finding() -> None:
    told = sections((DOCS / "how-to/runbook.md").read_text())["Findings"]
    assert list(told) == [kind.value for kind in FindingKind]
    assert all(len(words) > 80 for words in told.values())


def test_the_runbook_has_a_section_for_each_cause_of_ill_health() -> None:
    told = sections((DOCS / "how-to/runbook.md").read_text())["`again status --healthy` fails"]
    assert sorted(told) == sorted(code.value for code in CauseCode)
    assert all(len(words) > 80 for words in told.values())


def test_the_request_on_the_page_of_events_is_one_of_ours() -> None:
    page = (DOCS / "how-to/events.md").read_text()
    (body,) = re.findall(r"^```http\n.*?\n\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    event = json.loads(body)
    assert list(event) == ["type", "timestamp", "version", "data"]
    assert list(event["data"]) == [field.name for field in fields(KINDS[event["type"]])]


def test_the_example_on_the_page_of_events_verifies_a_signature() -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "how-to/events.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(code, names)
    read_event: Callable[..., Any] = names["read_event"]
    secret, body, now = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", '{"type": "charge.paid"}', SystemClock().now()
    headers = {"Webhook-Id": "evt_1", "Webhook-Timestamp": str(int(now.timestamp())),
               "Webhook-Signature": Webhook(secret).sign("evt_1", now, body)}  # fmt: skip
    assert read_event(body.encode(), headers, secret) == {"type": "charge.paid"}
    with pytest.raises(WebhookVerificationError):
        read_event(b"{}", headers, secret)


def test_the_reference_pages_are_those_that_the_code_gives() -> None:
    """`make reference` writes them."""
    committed = {name: (DOCS / "reference" / name).read_text("utf-8") for name in reference.pages()}
    assert committed == reference.pages()


def test_no_request_has_the_name_of_a_chore() -> None:
    """Celery would keep the older one in silence."""
    chores = set(re.findall(r'name="again\.(\w+)"', (ROOT / "worker" / "tasks.py").read_text()))
    assert "dispatch" in chores
    assert not chores & {function.__name__ for function in VERBS}


def test_the_message_on_the_page_of_tasks_is_one_that_can_be_read() -> None:
    (document,) = re.findall(
        r"```json\n(\{\n  \"body\".*?)```", (DOCS / "how-to" / "tasks.md").read_text(), re.DOTALL
    )
    _, fields, _ = json.loads(base64.b64decode(json.loads(document)["body"]))
    assert set(fields) <= set(signature(charge_adhoc).parameters)


def test_the_page_of_tasks_has_an_example_of_each_that_is_taken_as_it_stands() -> None:
    """The code is run with a Celery that only remembers; each field is then read as a worker reads it."""
    page = (DOCS / "how-to" / "tasks.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def asked" in block)
    sent: list[tuple[str, dict[str, Any]]] = []

    class Remembering:
        def send_task(self, name: str, kwargs: dict[str, Any], queue: str) -> "Remembering":
            sent.append((name.removeprefix("again."), kwargs))
            return self

        def get(self, timeout: float) -> None:
            """Nobody answers."""

    exec(code, {"again": Remembering()})
    by_name = {function.__name__: function for function in VERBS}
    assert {name for name, _ in sent} == set(by_name)
    for name, given in sent:
        assert set(read_fields(by_name[name], (), given)) == {field.name for field in fields_of(by_name[name])}


def test_only_the_clock_reads_the_clock() -> None:
    reading = re.compile(r"datetime\.now\(|datetime\.utcnow\(|date\.today\(|\btime\.time\(")
    readers = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if "simulator" not in path.relative_to(ROOT).parts and reading.search(path.read_text())
    ]
    assert readers == ["worker/clock.py"]


def test_nothing_waits_in_the_broker_for_business_reasons() -> None:
    parked = re.compile(r"countdown\s*=|\beta\s*=|autoretry_for|self\.retry")
    ours = [path for path in SOURCES if "worker" in path.relative_to(ROOT).parts]
    assert [path.name for path in ours if parked.search(path.read_text())] == []


def test_every_module_says_what_it_is() -> None:
    silent = [str(path.relative_to(ROOT)) for path in SOURCES if not path.read_text().startswith('"""')]
    assert silent == []


def test_no_room_has_grown_too_large() -> None:
    grown = [path.name for path in SOURCES if len(path.read_text().splitlines()) > 400]
    assert grown == []


def broken_links(page: Path) -> list[str]:
    """The links of a page to files that are absent; `make docs` checks links to headings as well."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    return [link for link in links if ":" not in link and not (page.parent / link).exists()]


def test_every_document_links_to_files_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    assert {page.name: links for page in pages if (links := broken_links(page))} == {}


def test_the_files_that_a_document_names_exist() -> None:
    named = re.compile(r"`((?:worker|schedules|simulator|tools|benchmarks|deploy)/[\w./-]+)`")
    walk = (DOCS / "explanation" / "walk-of-a-renewal.md").read_text()
    assert len(named.findall(walk)) > 20
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    absent = {(page.name, path) for page in pages for path in named.findall(page.read_text())
              if not (ROOT / path).exists()}  # fmt: skip
    assert absent == set()


def test_the_index_of_the_documents_links_to_each() -> None:
    """Decision records have an index of their own."""
    linked = set(re.findall(r"\]\(([^)#]+)\)", (DOCS / "README.md").read_text()))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.glob("*/*.md") if page.parent.name != "decisions"}
    assert pages - linked == set()
