"""Text from outside: any common encoding, one normal form, no control characters."""

import codecs
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from schedules.errors import BadRequest
from schedules.money.amounts import Money
from schedules.requests.adhoc import ChargeRequest, digest
from schedules.requests.batches import Line, Terms
from schedules.requests.imports import COLUMNS, read_incoming
from schedules.texts import cleaned
from tests.doubles import ScriptedGateway
from tests.factories import MONTHLY, START, charge_rows, collect_due, on_sale
from worker.batches import drafts, run_batch
from worker.batches.drafts import BadLines
from worker.charging import adhoc
from worker.cli.terminal.tables import read_csv, to_write
from worker.customers import cards, enrollment, issued_keys
from worker.customers.enrollment import CannotEnroll
from worker.gateway.port import Card
from worker.onboarding import import_file
from worker.services import Services
from worker.store.charging import adhoc_charges
from worker.store.customers import customers
from worker.task_api import answers, verbs
from worker.textfiles import UnreadableText, open_text, read_text

NAME = "홍길동"
NFD = unicodedata.normalize("NFD", NAME)
CARD = Card("4000000000001091", "2030-12", "900101", "12")
USUAL = {"customer_uid": "ann", "plan": "monthly", "next_date": "2026-02-28", "anchor": "2025-12-31"}


@pytest.mark.parametrize(
    ("begin", "encoding"),
    [(b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
     (codecs.BOM_UTF16_BE, "utf-16-be"), (b"", "cp949")],
)  # fmt: skip
def test_a_file_of_any_common_encoding_is_read(tmp_path: Path, begin: bytes, encoding: str) -> None:
    file = tmp_path / "customers.csv"
    file.write_bytes(begin + f"customer_uid,name\r\nann,{NAME}\r\n".encode(encoding))
    with open_text(file) as stream:
        (line,) = read_csv(stream, lambda _: None)
    assert line.columns == {"customer_uid": "ann", "name": NAME}


def test_a_file_of_no_known_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_bytes(b"name\n\xff\xff\n")
    with pytest.raises(UnreadableText, match="in line 2, byte 0xff"):
        read_text(file)


def test_a_given_encoding_is_used_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_bytes("é".encode("latin-1"))
    assert read_text(file, "latin-1") == "é"
    with pytest.raises(UnreadableText, match="not known"):
        read_text(file, "rot13")
    with pytest.raises(UnreadableText, match="is not utf-8"):
        read_text(file, "utf-8")


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\u2028"])
def test_a_control_character_is_refused_with_its_name_and_place(character: str) -> None:
    with pytest.raises(BadRequest, match=f"name: character 2 of 3 is U\\+{ord(character):04X}"):
        cleaned("name", f"a{character}b")


@pytest.mark.parametrize("column", ["customer_uid", "plan", "external_ref", "name", "email", "tel", "account"])
def test_an_import_refuses_a_control_character_in_every_column_before_it_writes(
    services: Services, column: str
) -> None:
    on_sale(services)
    bad = Line(2, {name: (USUAL | {column: "a\0b"}).get(name, "") for name in COLUMNS})
    with pytest.raises(BadLines) as refused:
        import_file.check(services, [bad])
    assert [line.column for line in refused.value.bad] == [column]


def test_an_import_reports_a_too_long_name_under_its_column(services: Services) -> None:
    on_sale(services)
    bad = Line(2, {name: (USUAL | {"name": "n" * 17}).get(name, "") for name in COLUMNS})
    with pytest.raises(BadLines) as refused:
        import_file.check(services, [bad])
    assert [line.column for line in refused.value.bad] == ["name"]


def test_hangul_in_nfd_is_normalized_in_files_plans_and_tasks(services: Services) -> None:
    assert read_incoming(USUAL | {"name": NFD}).name == NAME
    on_sale(services, statement_name=unicodedata.normalize("NFD", MONTHLY.statement_name))
    with services.engine.begin() as db:
        stored = enrollment.plan_on_sale(db, "monthly")
    assert stored.plan.statement_name == MONTHLY.statement_name
    fields = {"customer_uid": "ann", "actor": "shop", "name": NFD}
    assert answers.read_fields(verbs.add_customer, (), fields | {"request_key": "k"})["name"] == NAME


FEE = ChargeRequest(
    customer_uid=NAME, money=Money(3000, "KRW"), name="연체료", request_key="연체-1", reason="늦음", policy="once"
)


def as_before_the_upgrade(services: Services) -> None:
    """A customer and a charge whose texts were stored as a Mac sends them."""
    with services.engine.begin() as db:
        customer_id = customers.add(db, NFD, None, None, None, START)
        customers.add_key(db, customer_id, NFD, "main", {}, START)
    with services.engine.begin() as db:
        key = customers.key_by_uid(db, NFD)
        assert key is not None
        row = adhoc.row_of(FEE, key.id, "main", adhoc.known_policy(services, db, "once"), START)
        said = [unicodedata.normalize("NFD", text) for text in (NAME, FEE.name, FEE.reason)]
        fingerprint = digest("charge", said[0], 3000, "KRW", *said[1:], "once")
        adhoc_charges.open_one(db, row | {"request_fingerprint": fingerprint})


def test_a_request_from_before_texts_were_normalized_is_the_same_request(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: a request whose name or reason was stored in NFD is answered with its charge, and not refused."""
    as_before_the_upgrade(services)
    before = adhoc.charge(services, FEE, "shop")
    assert not before.is_new
    with pytest.raises(BadRequest, match="with other arguments"):
        adhoc.charge(services, replace(FEE, name="연체"), "shop")
    assert len(charge_rows(services)) == 1


def test_a_customer_uid_that_the_gateway_has_in_nfd_is_sent_as_it_was_stored(
    services: Services, gateway: ScriptedGateway
) -> None:
    """Guard: it is found by its normal form, and stays at the gateway what it was."""
    as_before_the_upgrade(services)
    gateway.missing_keys.add(NAME)  # the gateway compares bytes
    on_sale(services)
    adhoc.charge(services, replace(FEE, request_key="연체-2"), "shop")
    enrollment.subscribe(services, NAME, "monthly", "shop")
    collect_due(services)
    cards.changed(services, NAME, "shop", "a new card")
    card = issued_keys.issue(services, NAME, CARD, "shop", "a new card")
    assert [order.customer_uid for order in gateway.sent] == [NFD] * 3
    assert card.customer_uid == NFD
    with pytest.raises(CannotEnroll, match="is known already"):
        enrollment.add_customer(services, NAME, None, None, None, "shop")


@pytest.mark.parametrize("way_in", ["added", "imported"])
def test_a_new_customer_whose_card_the_gateway_has_in_nfd_is_charged_under_it(
    services: Services, gateway: ScriptedGateway, way_in: str
) -> None:
    """Guard: the customer_uid is stored as the gateway has it."""
    gateway.missing_keys.add(NAME)
    on_sale(services)
    if way_in == "added":
        enrollment.add_customer(services, NAME, None, None, None, "shop")
    else:
        incoming = Line(2, {name: (USUAL | {"customer_uid": NAME}).get(name, "") for name in COLUMNS})
        import_file.check(services, [incoming])
        import_file.write(services, [incoming], "kim", "moving in")
    adhoc.charge(services, FEE, "shop")
    collect_due(services)
    assert [order.customer_uid for order in gateway.sent] == [NFD]


def test_a_customer_uid_in_nfd_is_found_by_a_batch_and_an_import(services: Services) -> None:
    """Guard: else an import writes the customer a second time."""
    as_before_the_upgrade(services)
    on_sale(services)
    incoming = Line(2, {name: (USUAL | {"customer_uid": NAME}).get(name, "") for name in COLUMNS})
    assert import_file.write(services, [incoming], "kim", "moving in") == 1
    terms = Terms(key="fees", name="Fee", reason="late", policy="once")
    drafts.draft(services, terms, [Line(2, {"customer_uid": NAME, "amount": "100"})], "kim")
    run_batch.begin(services, "fees", "kim")
    run_batch.go_on(services)
    with services.engine.begin() as db:
        assert db.execute(text("SELECT count(*) FROM customers")).scalar_one() == 1
    assert len(charge_rows(services)) == 2


def test_a_task_refuses_a_control_character_in_a_field(services: Services) -> None:
    fields = {"customer_uid": "ann", "actor": "sh\nop", "request_key": "k"}
    answer = answers.answer(verbs.Context(services, lambda _: None), verbs.add_customer, (), fields)
    assert [error["field"] for error in answer["errors"]] == ["actor"]


def test_an_export_begins_with_a_byte_order_mark_on_request(tmp_path: Path) -> None:
    with to_write(tmp_path / "out.csv", bom=True) as stream:
        stream.write(NAME)
    assert (tmp_path / "out.csv").read_bytes() == codecs.BOM_UTF8 + NAME.encode()
