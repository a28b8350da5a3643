"""`again declines` as a person runs it: without a database for words, with one for history."""

import json
from pathlib import Path

from schedules.charging.outcomes import Declined
from tests.acceptance.again import refused, told, told_json
from tests.doubles import ScriptedGateway
from tests.factories import collect_due, on_sale, subscribed
from worker.rules import rulebook
from worker.services import Services

NOWHERE = {"AGAIN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}


def classify(*arguments: str) -> str:
    return told("declines", "classify", *arguments, settings=NOWHERE)


def test_words_are_classed_without_a_database() -> None:
    answer = json.loads(classify("--pg", "kcp", "--text", "[CC10]통장 잔액부족", "--json"))
    assert (answer["class"], answer["rule"], answer["version"]) == (
        "money_short",
        "kcp/money-short",
        rulebook().version,
    )
    assert "class: money_short" in classify("--pg", "kcp", "--text", "[CC10]통장 잔액부족")


def test_a_file_is_answered_line_by_line_in_its_order(tmp_path: Path) -> None:
    lines = ["kcp\t[CC61]거래금액 한도초과", "", "nice\t탭이\t있는 도난카드", "\t뭐라고요", "kicc\t[8350]"]
    file = tmp_path / "declines.tsv"
    file.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
    answers = json.loads(classify("--file", str(file), "--json"))
    assert [(a["pg"], a["class"]) for a in answers] == [
        ("kcp", "limit"), ("nice", "never_again"), ("", "unknown_word"), ("kicc", "never_again"),
    ]  # fmt: skip
    assert answers[1]["text"] == "탭이\t있는 도난카드"
    assert [line.split("\t")[0] for line in classify("--file", str(file)).splitlines()] == [
        a["class"] for a in answers
    ]


def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "declines.tsv"
    file.write_text("kcp\tok\nno tab here\n")
    assert "line 2: no tab" in refused("declines", "classify", "--file", str(file))
    file.write_bytes(b"kcp\t\xff\xff\n")
    assert "is neither UTF-8 nor CP949" in refused("declines", "classify", "--file", str(file))
    assert "cannot be read" in refused("declines", "classify", "--file", str(tmp_path / "none"))
    assert "--text with --pg, or --file" in refused("declines", "classify")
    assert "--text with --pg, or --file" in refused("declines", "classify", "--text", "x", "--file", str(file))


def test_history_is_listed_and_read_again(services: Services, gateway: ScriptedGateway, database: str) -> None:
    on_sale(services)
    subscribed(services)
    gateway.answers.append(Declined("[Z9]뭐라고요", "Z9", None, "kcp"))
    collect_due(services)
    settings = {"AGAIN_DATABASE_URL": database, "AGAIN_ENVIRONMENT": "test", "AGAIN_PORTONE_KEY": "key"}
    settings |= {"AGAIN_PORTONE_URL": "http://127.0.0.1:1", "AGAIN_PORTONE_SECRET": "secret"}
    settings |= {"AGAIN_BROKER_URL": "redis://127.0.0.1:1/0"}
    found = told_json("declines", "unplaced", settings=settings)
    assert [(f["pg"], f["text"], f["count"]) for f in found] == [("kcp", "[Z9]뭐라고요", 1)]
    assert "뭐라고요" in told("declines", "unplaced", settings=settings)
    assert told_json("declines", "reclassify", settings=settings) == {"read": 0, "changed": 0, "left": 0}
