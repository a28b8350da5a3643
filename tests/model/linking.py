"""The workflows' own source, run a second time with another store in the place of worker.store."""

import builtins
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

STORE = "worker.store"
WORKFLOWS = "worker.workflows"
VERBS = (
    "charging",
    "asking",
    "chasing",
    "opening",
    "dispatching",
    "operating",
    "enrolling",
    "admitting",
    "reconciling",
    "restoring",
    "services",
)
_CODE: dict[str, CodeType] = {}


def product() -> SimpleNamespace:
    """The workflows as the product has them, on real PostgreSQL."""
    return SimpleNamespace(**{verb: importlib.import_module(f"{WORKFLOWS}.{verb}") for verb in VERBS})


def linked(instead: Mapping[str, object]) -> SimpleNamespace:
    """The same source, line for line, that finds these things where it imports the modules of these names.

    Names are those of the modules, such as `worker.store.attempts`. Nothing of the running product is changed.
    """
    linker = _Linker(instead)
    return SimpleNamespace(**{verb: linker.module(f"{WORKFLOWS}.{verb}") for verb in VERBS})


class StandsFor:
    """In the place of a module of worker.store: types and constants are the real ones, functions are not."""

    real: ModuleType

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if isinstance(found, FunctionType):
            words = f"{self.real.__name__}.{name} is not modelled in memory yet"
            raise AttributeError(words)  # noqa: TRY004 # what a missing name raises
        return found


class _Linker:
    def __init__(self, instead: Mapping[str, object]) -> None:
        self._instead = instead
        self._made: dict[str, ModuleType] = {}

    def module(self, name: str) -> ModuleType:
        """A fresh run of a module's source, with our imports."""
        if name not in self._made:
            module = ModuleType(name)
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
            self._made[name] = module
            exec(_code(name), module.__dict__)
        return self._made[name]

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # the names that `import` passes
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        if name in (STORE, WORKFLOWS) or any(f"{name}.{part}" in self._instead for part in fromlist or ()):
            return SimpleNamespace(**{part: self._found(f"{name}.{part}") for part in fromlist or ()})
        return self._found(name) if fromlist else builtins.__import__(name, globals, locals, fromlist, level)

    def _found(self, name: str) -> object:
        if name in self._instead:
            return self._instead[name]
        if name.startswith(f"{WORKFLOWS}."):
            return self.module(name)
        return importlib.import_module(name)


def _code(name: str) -> CodeType:
    """A module's compiled source; compiled once, for it is run for each model."""
    if name not in _CODE:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(name)
        with open(spec.origin, encoding="utf-8") as source:
            _CODE[name] = compile(source.read(), spec.origin, "exec")
    return _CODE[name]
