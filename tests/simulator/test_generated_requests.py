"""Requests made from the official schema, right and wrong: each is answered in the envelope, without a 500."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.simulator.running import RunningSimulator

SCHEMA = Path(__file__).resolve().parents[3] / "shared/reference/portone-v1.openapi.json"
pytestmark = pytest.mark.skipif(not SCHEMA.exists(), reason=f"the official schema is not at hand: {SCHEMA}")
SERVED = ("/users/", "/payments", "/subscribe/")  # beginnings of the paths that the simulator answers
NOT_SERVED = "/naver/"
STATUSES = {200, 207, 400, 401, 404, 405}
BOUNDS = ("minimum", "maximum", "minLength", "maxLength")
EXAMPLES = 15  # of each operation and mode


def readable(part: Any, definitions: dict[str, Any]) -> Any:
    """A part of the schema with numbers as bounds and references replaced: the official one has some as text."""
    if isinstance(part, list):
        return [readable(inner, definitions) for inner in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return readable(definitions[part["$ref"].rsplit("/", 1)[1]], definitions)
    bounds = {name: int(part[name]) for name in BOUNDS if isinstance(part.get(name), str)}
    return {name: readable(inner, definitions) for name, inner in part.items()} | bounds


def operations(document: dict[str, Any]) -> list[Any]:
    """The official operations that the simulator serves."""
    paths = {
        path: readable(document["paths"][path], document["definitions"])
        for path in document["paths"]
        if path.startswith(SERVED) and NOT_SERVED not in path
    }
    schema = schemathesis.openapi.from_dict(document | {"paths": paths})
    results = list(schema.get_all_operations())
    assert all(isinstance(result, Ok) for result in results), results
    return [result.ok() for result in results if isinstance(result, Ok)]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_of_the_schema_breaks_the_simulator(simulator: RunningSimulator, mode: GenerationMode) -> None:
    served = operations(json.loads(SCHEMA.read_text()))
    assert len(served) > 20
    simulator.call("GET", "/users/pg")
    for operation in served:
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
            continue  # any text can stand in a path, so that nothing about it can be wrong

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case: schemathesis.Case[Any]) -> None:
            answer = case.call(base_url=simulator.url, headers={"Authorization": str(simulator._token)})
            assert answer.status_code in STATUSES, (answer.status_code, case.as_curl_command())
            assert set(answer.json()) == {"code", "message", "response"}, case.as_curl_command()

        answered()
