"""No code reaches a gateway but through the check of the account's credentials, and each path has its test."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.workflows.test_gateway_paths import REFUSE, SEND, WAIT_OR_SAY_SO

ROOT = Path(__file__).resolve().parents[2]
CHECKED = frozenset({"gateway", "gateway_if_ours"})
TO_SEND = "gateway_to_send"
# Where the gateways are made and kept: there is no other way to one.
KEEPERS = frozenset({"wiring", "services"})


def uses(names: frozenset[str], *, called: bool) -> Iterator[tuple[str, str]]:
    """Each module and function of the worker that uses an attribute of one of these names."""
    for path in (ROOT / "worker").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    found = node.func if called and isinstance(node, ast.Call) else node
                    if (
                        isinstance(found, ast.Attribute)
                        and found.attr in names
                        and (not called or found is not node)
                    ):
                        yield path.stem, function.name


def test_every_path_to_a_gateway_has_its_test() -> None:
    checked = {f"{module}.{function}" for module, function in uses(CHECKED, called=True) if module not in KEEPERS}
    assert checked == REFUSE.keys() | WAIT_OR_SAY_SO.keys()


def test_only_what_is_claimed_takes_a_gateway_without_the_check() -> None:
    """Guard: the pre-send check of a claimed attempt compares the credentials instead."""
    sends = {f"{module}.{function}" for module, function in uses(frozenset({TO_SEND}), called=True)}
    assert sends == SEND.keys() | {"services.gateway"}


def test_nothing_else_reaches_into_the_gateways() -> None:
    assert {module for module, _ in uses(frozenset({"gateways"}), called=False)} <= KEEPERS
