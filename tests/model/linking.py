"""The workflows' own source, run a second time with another store in the place of worker.store."""

import builtins
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

FOLDERS = frozenset(
    f"worker.{name}"
    for name in (
        "renewals", "charging", "customers", "refunds", "batches", "reconciliation", "onboarding", "outbox",
        "reporting", "operations",
    )
)  # fmt: skip
SHARED = frozenset({"worker.services", "worker.idempotency"})
STORE = frozenset({"worker.store"} | {
    f"worker.store.{name}"
    for name in ("charging", "customers", "operations", "outbox", "reconciliation", "reporting")
})  # fmt: skip
VERBS = (
    "worker.charging.attempt_charge",
    "worker.charging.resolve_unknown",
    "worker.charging.overdue",
    "worker.renewals.open_charges",
    "worker.renewals.enqueue",
    "worker.operations.operate",
    "worker.customers.enrollment",
    "worker.customers.admit",
    "worker.reconciliation.reconciler",
    "worker.reconciliation.restore",
    "worker.services",
)
_CODE: dict[str, CodeType] = {}


def _last(name: str) -> str:
    """A module's own name, without its folder."""
    return name.rpartition(".")[2]


def product() -> SimpleNamespace:
    """The workflows as the product has them, on real PostgreSQL."""
    return SimpleNamespace(**{_last(name): importlib.import_module(name) for name in VERBS})


def linked(instead: Mapping[str, object]) -> SimpleNamespace:
    """The same source, line for line, that finds these things where it imports the modules of these names.

    Names are those of the modules, such as `worker.store.charging.attempts`. Nothing of the running product
    is changed.
    """
    linker = _Linker(instead)
    return SimpleNamespace(**{_last(name): linker.module(name) for name in VERBS})


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
        packages = FOLDERS | STORE | {"worker"}
        if name in packages or any(f"{name}.{part}" in self._instead for part in fromlist or ()):
            return SimpleNamespace(**{part: self._found(f"{name}.{part}") for part in fromlist or ()})
        if fromlist and self._is_linked(name):
            return self._found(name)
        return builtins.__import__(name, globals, locals, fromlist, level)

    def _is_linked(self, name: str) -> bool:
        return name in self._instead or name in SHARED or name.rpartition(".")[0] in FOLDERS

    def _found(self, name: str) -> object:
        if name in self._instead:
            return self._instead[name]
        return self.module(name) if self._is_linked(name) else importlib.import_module(name)


def _code(name: str) -> CodeType:
    """A module's compiled source; compiled once, for it is run for each model."""
    if name not in _CODE:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(name)
        with open(spec.origin, encoding="utf-8") as source:
            _CODE[name] = compile(source.read(), spec.origin, "exec")
    return _CODE[name]
