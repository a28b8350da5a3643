"""What the shop is told: plain, the same each time, by a schema, and tried for three days."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import TypeAdapter

from schedules.operations.findings import FindingKind
from schedules.outbox import events, payment_events
from schedules.outbox.deliveries import SPREAD, WAITS, next_try_at
from schedules.outbox.event_kinds import KINDS
from schedules.outbox.events import CardExpiring, ChargeUpcoming, Event, event_id, payload
from worker.cli.outbox import schema_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
PLAIN = {str, int, bool, datetime, date, type(None)}
EXAMPLES = {str: "words", int: 9900, bool: True, datetime: NOON, date: NOON.date()}


def declared() -> Iterator[type[Event]]:
    """Every kind that the modules declare."""
    for found in (*vars(events).values(), *vars(payment_events).values()):
        if isinstance(found, type) and issubclass(found, Event) and "kind" in vars(found):
            yield found


def types_of(event: type[Event]) -> dict[str, set[type]]:
    """The types that each field may have."""
    hints = get_type_hints(event)
    return {
        field.name: set(get_args(hints[field.name]) or (hints[field.name],)) for field in dataclasses.fields(event)
    }


def example(event: type[Event], *, full: bool) -> Event:
    """An event with every field, or with those alone that it must have."""
    given: dict[str, Any] = {}
    for name, types in types_of(event).items():
        empty = type(None) in types and not full
        given[name] = None if empty else EXAMPLES[next(iter(types - {type(None)}))]
    return event(**given)


def test_every_kind_is_in_the_mapping_by_its_name() -> None:
    assert set(KINDS.values()) == set(declared())
    assert all(event.kind == kind for kind, event in KINDS.items())
    assert {f"finding.{kind}" for kind in FindingKind} <= set(KINDS)


@pytest.mark.parametrize("event", KINDS.values(), ids=KINDS)
def test_fields_are_plain_and_a_payload_keeps_its_schema(event: type[Event]) -> None:
    assert set().union(*types_of(event).values()) <= PLAIN
    schema = schema_of(event)
    for full in (True, False):
        made = example(event, full=full)
        told = json.loads(json.dumps(payload(made)))
        assert list(told) == schema["required"] == list(schema["properties"])
        assert TypeAdapter(event).validate_python(told) == made
        assert made.subject


def test_instants_are_told_in_utc_and_dates_as_dates() -> None:
    seoul = datetime(2026, 1, 31, 9, tzinfo=timezone(timedelta(hours=9)))
    soon = ChargeUpcoming(
        charge="r", subscription="s", customer_uid="c", amount=1, currency="KRW", due_at=seoul, card_name=None,
        card_number=None,
    )  # fmt: skip
    told = payload(soon)
    assert told["due_at"] == "2026-01-31T00:00:00Z"
    assert payload(CardExpiring(customer_uid="c", expires_on=date(2026, 2, 28)))["expires_on"] == "2026-02-28"


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        events.in_json(datetime(2026, 1, 31))  # noqa: DTZ001 # what is meant


def test_an_event_is_known_by_the_change_alone() -> None:
    assert event_id("r1/paid") == event_id("r1/paid") != event_id("r2/paid")
    assert event_id("r1/paid").startswith("evt_")
    assert len(event_id("r1/paid")) == 36


def test_waits_grow_and_end() -> None:
    for tries, wait in enumerate(WAITS, start=1):
        at = next_try_at("evt_1", tries, NOON)
        assert at is not None
        assert wait <= at - NOON <= wait * (1 + SPREAD)
    assert next_try_at("evt_1", len(WAITS) + 1, NOON) is None
    assert next_try_at("evt_1", 3, NOON) != next_try_at("evt_2", 3, NOON)
