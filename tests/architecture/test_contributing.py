"""CONTRIBUTING.md and the hooks of pre-commit name files, targets and programs that exist."""

import re

import yaml

from tests.acceptance.again import AGAIN, ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_each_path_of_the_page_exists() -> None:
    """A path has a slash and no capital letters; those in capitals are to be replaced by the reader."""
    paths = [path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", PAGE) if path == path.lower()]
    assert "schedules/errors.py" in paths
    places = (ROOT, ROOT / "worker")  # a row of folders names the worker's once
    assert [path for path in paths if not any((place / path).exists() for place in places)] == []


def test_each_make_target_of_the_page_is_in_the_makefile() -> None:
    targets = set(re.findall(r"`make ([a-z-]+)", PAGE))
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert "check" in targets
    assert targets - known == set()


def test_each_hook_runs_a_program_that_make_setup_installs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"].split()[0] for repository in config["repos"] for hook in repository["hooks"]]
    programs = [entry.removeprefix(".venv/bin/") for entry in entries if entry.startswith(".venv/bin/")]
    assert {*entries} == {"git", *(f".venv/bin/{program}" for program in programs)}
    assert [program for program in programs if not AGAIN.with_name(program).exists()] == []
