"""Every background thread of the worker is started in one place, which ends the process when it fails."""

import ast
from pathlib import Path

import pytest

from worker.runtime.background import Part

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "worker/runtime/background.py"
# A program of its own, which uses nothing of ours: it stops an embedded server after its parent.
ALONE = ROOT / "worker/embedded/supervisor.py"
SOURCES = sorted(set((ROOT / "worker").rglob("*.py")) - {PLACE, ALONE})
STARTERS = {
    "Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "Process", "run_in_threadpool", "to_thread",
    "run_in_executor", "start_new_thread", "run_sync",
}  # fmt: skip


def called_in(path: Path) -> set[str]:
    """The name of everything that a module calls."""
    called = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {func.id for func in called if isinstance(func, ast.Name)}
    return names | {func.attr for func in called if isinstance(func, ast.Attribute)}


def parts_in(path: Path) -> set[str]:
    """The parts that a module names."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == Part.__name__}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_starts_a_thread(path: Path) -> None:
    assert called_in(path) & STARTERS == set()


def test_each_part_is_started_somewhere() -> None:
    used = set().union(*(parts_in(path) for path in SOURCES))
    assert {part.name for part in Part} - used == set()
