"""The lists on the command line: pages, JSON, CSV, and what is refused."""

import csv
import io
import json
import re

import pytest

from tests.acceptance.again import again, refused, told, told_json
from tests.factories import collect_due, on_sale, subscribed
from worker.customers import enrollment
from worker.services import Services

NAMES = ("ann", "bob", "cat", "dan", "eve")


@pytest.fixture
def settings(services: Services, database: str) -> dict[str, str]:
    """The settings of commands on a shop of five customers, each with a charge that is paid."""
    on_sale(services)
    for name in NAMES:
        subscribed(services, name)
    collect_due(services)
    enrollment.add_customer(services, "kim", "김영준", "kim@example.com", "010-1234-5678", "test")
    return {
        "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": database, "AGAIN_BROKER_URL": "redis://127.0.0.1:1/0",
        "AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_KEY": "key", "AGAIN_PORTONE_SECRET": "secret",
    }  # fmt: skip


@pytest.mark.parametrize("what", ["subscriptions", "charges", "attempts"])
def test_the_cursor_that_a_page_ends_with_leads_through_the_list(settings: dict[str, str], what: str) -> None:
    found: list[str] = []
    after: list[str] = []
    for expected in (2, 2, 1):
        shown = told(what, "--limit", "2", *after, settings=settings)
        page = [name for name in NAMES if re.search(rf"\b{name}\b", shown)]
        assert len(page) == expected
        found += page
        next_page = re.search(r"for the next page add (--after) (\S+)$", shown.strip())
        after = list(next_page.groups()) if next_page else []
    assert (sorted(found), after) == (list(NAMES), [])


def test_json_and_csv_have_every_row_unless_there_is_a_limit(settings: dict[str, str]) -> None:
    whole = told_json("charges", settings=settings)
    assert ([row["customer_uid"] for row in whole["charges"]], whole["next"]) == (list(reversed(NAMES)), None)
    first = told_json("charges", "--limit", "2", settings=settings)
    rest = told_json("charges", "--after", first["next"], settings=settings)
    assert first["charges"] + rest["charges"] == whole["charges"]
    rows = list(csv.DictReader(io.StringIO(told("charges", "--csv", settings=settings))))
    assert [row["key"] for row in rows] == [row["key"] for row in whole["charges"]]
    page = again("charges", "--csv", "--limit", "2", settings=settings)
    assert page.stdout.count("\n") == 3
    assert "more charges follow; for the next page add --after " in page.stderr


def test_an_empty_list_is_a_document_too(settings: dict[str, str]) -> None:
    assert told_json("charges", "--status", "waived", settings=settings) == {"charges": [], "next": None}
    assert told("charges", "--status", "waived", settings=settings).strip() == "charges: none"
    assert told("charges", "--status", "waived", "--csv", settings=settings) == ""


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
def test_customers_are_masked_in_each_form(settings: dict[str, str], form: tuple[str, ...]) -> None:
    shown = told("customers", *form, settings=settings)
    assert "김*준" in shown
    assert "k***@example.com" in shown
    assert "010-****-5678" in shown
    assert not re.search("김영준|kim@example|1234", shown)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--after", "nonsense"), "cursor 'nonsense' cannot be read; give the whole cursor of the page before"),
        (("--plan", "none"), "plan 'none' is not known; there are: monthly"),
        (("--account", "none"), "gateway account 'none' is not known; there are: main"),
        (("--card", "none"), "customer_uid 'none' is not known"),
        (("--status", "none"), "'none' is not one of 'open', 'past_due', 'paid'"),
        (("--on", "2026-02-30"), "'2026-02-30' is not a date"),
        (("--on", "2026-12-01", "--zone", "Asia/Soul"), "did you mean 'Asia/Seoul'?"),
        (("--limit", "0"), "greater than or equal to 1"),
        (("--limit", "1000000000"), "less than or equal to 100000"),
        (("--json", "--csv"), "give --json or --csv, not both"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_printed(
    settings: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in " ".join(refused("charges", *arguments, settings=settings).split())


def test_a_cursor_of_another_list_is_refused_by_its_code(settings: dict[str, str]) -> None:
    after = told_json("charges", "--limit", "1", settings=settings)["next"]
    error = json.loads(refused("attempts", "--after", after, "--json", settings=settings))["error"]
    assert error["code"] == "invalid"
    assert "is of the list of charges, not of attempts" in error["message"]
    other = json.loads(refused("charges", "--plan", "monthly", "--after", after, "--json", settings=settings))
    assert "with other filters; repeat the filters of the page before" in other["error"]["message"]
