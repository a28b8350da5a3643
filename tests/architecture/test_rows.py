"""Where rows cross the boundary of a module they are values, or typed columns, and no mappings of anything."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from sqlalchemy import Row, RowMapping

FOLDERS = (
    "schedules", "worker.store", "worker.idempotency", "worker.renewals", "worker.charging", "worker.customers",
    "worker.refunds", "worker.batches", "worker.reconciliation", "worker.onboarding", "worker.outbox",
    "worker.reporting", "worker.operations",
)  # fmt: skip
ANSWER = "an Answer is a JSON object, whose form is that of its verb"
DOCUMENT = "a Document holds names and values as they are shown, and printed with --json"
OPEN = {
    "worker.store.request_keys.StoredRequest": ANSWER,
    "worker.store.request_keys.keep_answer": ANSWER,
    "worker.idempotency.once": ANSWER,
    "worker.idempotency.known": ANSWER,
    "worker.reporting.history.Story": DOCUMENT,
    "worker.reporting.history.charge_status": DOCUMENT,
}


def is_untyped(hint: object) -> bool:
    """Whether a type is, or contains, a mapping of anything or a row of SQLAlchemy without types."""
    parts = get_args(hint)
    if hint in (Row, RowMapping) or get_origin(hint) is Row:
        return True
    if get_origin(hint) in (dict, Mapping, MutableMapping) and parts == (str, Any):
        return True
    return any(is_untyped(part) for each in parts for part in (each if isinstance(each, list) else [each]))


def modules() -> Iterator[ModuleType]:
    for folder in FOLDERS:
        package = importlib.import_module(folder)
        yield package
        for found in pkgutil.walk_packages(getattr(package, "__path__", []), f"{folder}."):
            yield importlib.import_module(found.name)


def signatures(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The public functions and classes of a module, and the methods of its classes, by the public name."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(inspect.unwrap(thing)):
            yield name, inspect.unwrap(thing)
        elif inspect.isclass(thing):
            yield name, thing
            yield from ((name, method) for method in map(_function, vars(thing).values()) if method is not None)


def _function(member: object) -> object | None:
    found = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    return found if inspect.isfunction(found) and not found.__name__.startswith("_") else None


def untyped() -> set[str]:
    return {
        f"{module.__name__}.{name}"
        for module in modules()
        for name, thing in signatures(module)
        if any(is_untyped(hint) for hint in get_type_hints(thing).values())
    }


def test_rows_that_cross_a_boundary_are_typed_and_each_exception_is_needed() -> None:
    """Return a frozen dataclass (worker/store/rows.py reads it), take a TypedDict; or add a reason to OPEN."""
    assert sorted(untyped()) == sorted(OPEN)


@pytest.mark.parametrize(
    "hint",
    [
        dict[str, Any],
        Mapping[str, Any] | None,
        Sequence[dict[str, Any]],
        Iterator[Row[Any]],
        Row,
        tuple[int, RowMapping],
        Callable[[Mapping[str, Any]], None],
    ],
)
def test_an_untyped_row_is_found_wherever_it_stands_in_a_type(hint: object) -> None:
    assert is_untyped(hint)


@pytest.mark.parametrize("hint", [dict[str, int], Mapping[str, object], list[str], None, Any])
def test_other_types_are_no_untyped_rows(hint: object) -> None:
    assert not is_untyped(hint)
