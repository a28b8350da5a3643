"""`again charge-batch` as a person runs it: bad files, a preview, an approval, progress and results."""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.again import again, refused
from tests.installation import QUICK, Installation, installed
from worker.batches import run_batch

BATCH = ("--name", "Fee", "--why", "January's fees")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Everything as `again up` runs it, with a limit of 10,000 won and four customers."""
    with installed(QUICK | {"AGAIN_BATCH_LIMIT": "KRW=10000"}) as running:
        for name, card in (("ann", {}), ("ben", {}), ("cho", {}), ("dan", {"card": "no_money"})):
            running.simulator("cards", {"customer_uid": name, **card})
            running.told("customer", "add", name)
        yield running


def written(folder: Path, text: str) -> str:
    """A file with this text."""
    file = folder / "batch.csv"
    file.write_bytes(text.encode("utf-8"))
    return str(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("customer_uid,amount\nzoe,3000\n", "line 2, customer_uid"),
        ("customer_uid,amount\nann,3000\nann,x\n", "line 3, amount"),
        ("customer_uid,amount\nann,3000,1\n", "it has 3 columns, the first line 2"),
        ("customer_uid,amount,colour\n", "colour: there is no such column"),
        ("customer_uid\n", "amount: the first line has no such column"),
        ("customer_uid,amount,amount\n", "this column twice"),
        ("", "customer_uid: the first line has no such column"),
        ("customer_uid,amount\n", "there is no line to charge"),
        ('customer_uid,amount\n"ann,3000\n', "cannot be taken apart"),
        ("customer_uid,amount\n4111111111111111,3000\n", "looks like a card number"),
    ],
)
def test_a_bad_file_is_refused_in_words(shop: Installation, tmp_path: Path, content: str, words: str) -> None:
    done = again("charge-batch", written(tmp_path, content), *BATCH, "--yes", settings=shop.settings)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "4111111111111111" not in done.stderr


def test_a_batch_is_previewed_charged_and_its_results_are_written(shop: Installation, tmp_path: Path) -> None:
    file = written(tmp_path, "\ufeffcustomer_uid;amount;name\r\nann;3000;\r\nben;2000;Other\r\ndan;1000;\r\n\r\n")
    assert "nothing is done" in shop.told("charge-batch", file, *BATCH, "--dry-run")
    assert (
        "look at the preview, then say --yes" in again("charge-batch", file, *BATCH, settings=shop.settings).stderr
    )
    done = again("charge-batch", file, *BATCH, "--yes", "--wait", settings=shop.settings)
    assert "3 charges, 6,000 KRW" in done.stdout
    assert "1 of 3 charges failed" in done.stderr
    key = done.stdout.split()[1].rstrip(":")
    rows = list(csv.DictReader(io.StringIO(shop.told("batch", "export", key))))
    assert [(row["customer_uid"], row["status"]) for row in rows] == [
        ("ann", "paid"), ("ben", "paid"), ("dan", "uncollectible"),
    ]  # fmt: skip
    again("charge-batch", file, *BATCH, "--yes", "--wait", settings=shop.settings)
    assert [m["amount"] for m in shop.movements("ann")] == [3000]
    shop.told("batch", "export", key, "--bom", "--out", str(tmp_path / "results.csv"))
    assert (tmp_path / "results.csv").read_bytes().startswith(codecs.BOM_UTF8)
    lines = [json.loads(line) for line in shop.told("batch", "export", key, "--jsonl").splitlines()]
    assert lines[1]["name"] == "Other"
    assert shop.told_json("batch", "show", key)["paid"] == 2
    assert key in shop.told("batch", "list")


def test_above_the_limit_another_person_approves(shop: Installation, tmp_path: Path) -> None:
    file = written(tmp_path, "customer_uid,amount\ncho,10001\n")
    out = shop.told("charge-batch", file, *BATCH, "--yes", "--actor", "kim", "--key", "big")
    assert "another person says `again batch approve big" in out
    arguments = ("batch", "approve", "big", "--why", "checked")
    assert "another person must approve" in refused(*arguments, "--actor", "kim", settings=shop.settings)
    # The same user of the operating system under another actor's name is the same person.
    assert "operating system user" in refused(*arguments, "--actor", "lee", settings=shop.settings)
    run_batch.approve(shop.services, "big", "lee", "checked", "lee-unix")
    shop.told("batch", "watch", "big")
    assert [m["amount"] for m in shop.movements("cho")] == [10001]
