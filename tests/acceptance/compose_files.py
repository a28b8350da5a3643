"""docker-compose.yml as Compose reads it, without Docker: env files, interpolation, what each container gets."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.acceptance.again import ROOT

PRODUCTION = ("docker-compose.yml",)
TRIAL = ("docker-compose.yml", "docker-compose.simulator.yml")
_NAME = re.compile(r"\w+")


class MissingValue(Exception):
    """A variable that must be set is not; says what to do."""


def read_env(text: str) -> dict[str, str]:
    """An env file's variables; of the quotes, only those around a whole value."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    pairs = (line.partition("=") for line in lines)
    return {name: value.strip().strip("'\"") for name, _, value in pairs}


def interpolate(text: str, env: Mapping[str, str]) -> str:
    """A text with its variables: $$, ${A}, ${A:-default} and ${A:?sentence}, one inside another."""
    done, place = "", 0
    while place < len(text):
        if text.startswith("$$", place):
            done, place = f"{done}$", place + 2
        elif text.startswith("${", place):
            end = _end(text, place + 2)
            done, place = done + _value(text[place + 2 : end], env), end + 1
        else:
            done, place = done + text[place], place + 1
    return done


def _end(text: str, place: int) -> int:
    depth = 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        place += 1
    return place - 1


def _value(inside: str, env: Mapping[str, str]) -> str:
    name = _NAME.match(inside)
    assert name is not None, inside
    given, how = env.get(name[0], ""), inside[name.end() :]
    if given or not how:
        return given
    if how.startswith(":-"):
        return interpolate(how[2:], env)
    assert how.startswith(":?"), inside
    raise MissingValue(f"{name[0]}: {how[2:]}")


class Composition:
    """What Compose makes of the files with the variables of one env file."""

    def __init__(self, env_text: str, files: Sequence[str] = PRODUCTION) -> None:
        self.env = read_env(env_text)
        self.model: dict[str, Any] = {}
        for file in files:
            for name, part in self._filled(yaml.safe_load((ROOT / file).read_text())).items():
                self.model[name] = {**self.model.get(name, {}), **part} if isinstance(part, dict) else part
        self.services: dict[str, dict[str, Any]] = self.model["services"]

    @property
    def image(self) -> str:
        """The name of Again's production image."""
        return self.env.get("COMPOSE_AGAIN_IMAGE") or "again"

    @property
    def ours(self) -> list[str]:
        """The services that run Again's production image."""
        return sorted(name for name, service in self.services.items() if service["image"] == self.image)

    @property
    def lasting(self) -> list[str]:
        """Those of them that run until they are stopped."""
        return [name for name in self.ours if self.services[name]["restart"] != "no"]

    def environment(self, name: str) -> dict[str, str]:
        """The variables of a container: those of its env files, and before them those of `environment`."""
        service = self.services[name]
        given = self.env if service.get("env_file") else {}
        return given | {key: str(value) for key, value in (service.get("environment") or {}).items()}

    def _filled(self, part: Any) -> Any:
        match part:
            case dict():
                return {name: self._filled(value) for name, value in part.items()}
            case list():
                return [self._filled(value) for value in part]
            case str():
                return interpolate(part, self.env)
            case _:
                return part


def filled(values: Mapping[str, str], *, all_lines: bool = False) -> str:
    """.env.example as a reader fills it in; with `all_lines`, also with what stands behind a #."""
    text = (ROOT / ".env.example").read_text()
    if all_lines:
        text = re.sub(r"^#([A-Z_]+=)", r"\1", text, flags=re.MULTILINE)
    for name, value in values.items():
        text, found = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert found == 1, name
    return text
