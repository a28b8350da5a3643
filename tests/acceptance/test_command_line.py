"""Rules that hold for every command."""

import ast
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.again import AGAIN, ROOT, plain_environment, refused, told
from worker.cli import command_line
from worker.cli.terminal.examples import EXAMPLES, commands_of, groups_of
from worker.cli.terminal.sections import SECTIONS

CLI = Path(__file__).resolve().parents[2] / "worker/cli"
TOP = command_line()
COMMANDS: dict[str, Any] = dict(commands_of(TOP))


def parse(words: list[str]) -> str:
    """Parse a command line without running the command; returns the path of the command."""
    command: Any = TOP
    context, path = None, list[str]()
    while True:
        rest = words[len(path) :]
        context = command.make_context(command.name, list(rest), parent=context)
        below = getattr(command, "commands", {})
        if not below or not rest or rest[0] not in below:
            return " ".join(path)
        command = below[rest[0]]
        path.append(rest[0])


def test_each_command_stands_in_one_section_of_the_help() -> None:
    placed = Counter(name for names in SECTIONS.values() for name in names)
    assert placed == Counter(list(TOP.commands)), "add the command to SECTIONS in worker/cli/terminal/sections.py"
    shown = told("--help")
    assert all(f"\n{title}:\n" in shown for title in SECTIONS)
    assert "..." not in shown.partition("Set up and run")[2]


def test_an_example_is_there_for_each_command_and_no_other() -> None:
    assert set(EXAMPLES) == set(COMMANDS), "add an example to EXAMPLES in worker/cli/terminal/examples.py"


@pytest.mark.parametrize(("path", "group"), list(groups_of(TOP)))
def test_a_group_shows_the_whole_of_what_its_commands_do_and_an_example(path: str, group: Any) -> None:
    shown = group.get_help(group.context_class(group, info_name=path))
    assert "..." not in shown.partition("Commands:")[2]
    assert f"Example:\n    again {path}" in shown


def test_examples_are_ascii_so_that_any_terminal_shows_what_can_be_copied() -> None:
    assert all(example.isascii() for example in EXAMPLES.values())


@pytest.mark.parametrize("words", [["worker", "--json"], ["--json", "worker"]])
def test_json_is_refused_for_what_runs_until_it_is_stopped(words: list[str]) -> None:
    assert "AGAIN_LOG_FORMAT=json" in json.loads(refused(*words))["error"]["message"]


@pytest.mark.parametrize("path", COMMANDS)
def test_the_example_of_a_command_parses_and_stands_in_its_help(path: str) -> None:
    program, *words = shlex.split(EXAMPLES[path])
    assert program == "again"
    assert parse(words) == path
    shown = COMMANDS[path].get_help(COMMANDS[path].context_class(COMMANDS[path], info_name=path))
    assert f"Example:\n    {EXAMPLES[path]}" in shown


def test_commands_print_through_the_one_module_that_knows_json() -> None:
    """Guard: with --json nothing but JSON is printed, whoever writes the command."""
    for file in CLI.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
        printed = {ast.unparse(call.func) for call in calls} & {"print", "typer.echo", "typer.secho"}
        assert not printed or file.name in {"output.py", "running.py"}, f"{file.name}: use say, answer or warn"


def test_the_help_of_every_command_is_ascii_where_the_terminal_is() -> None:
    asked = {"commands": [([*path.split(), "--help"], "") for path in COMMANDS], "encoding": "ascii"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.acceptance.walking"], input=json.dumps(asked), capture_output=True,
        env=plain_environment() | {"COLUMNS": "40", "PYTHONPATH": str(ROOT)}, text=True, check=True, timeout=120,
    )  # fmt: skip
    for path, shown in zip(COMMANDS, json.loads(done.stdout), strict=True):
        assert (shown["status"], shown["err"]) == (0, ""), path
        assert "Example:\n    again" in shown["out"]


def in_ascii(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command whose output is ASCII."""
    environment = plain_environment() | {"PYTHONIOENCODING": "ascii", "LANG": "C"}
    return subprocess.run(
        [AGAIN, *words], env=environment, capture_output=True, text=True, encoding="ascii", timeout=60
    )


def test_a_terminal_of_ascii_shows_other_characters_by_their_codes() -> None:
    words = ["declines", "classify", "--pg", "kcp", "--text", "한도초과"]
    assert in_ascii(*words).stdout.splitlines()[0] == r"\ud55c\ub3c4\ucd08\uacfc"
    assert json.loads(in_ascii(*words, "--json").stdout)["text"] == "한도초과"


def test_the_version_is_printed() -> None:
    name, version = told("--version").split()
    assert name == "again"
    assert version[0].isdecimal()


@pytest.mark.parametrize(
    ("shell", "typed", "expected"),
    [
        ("bash", "again subs", "subscribe"),
        ("bash", "again plan a", "add\narchive"),
        ("bash", "again plan add --un", "--unit"),
        ("bash", "again plan add x --unit m", "month"),
        ("zsh", "again subs", "subscribe"),
        ("fish", "again subs", "subscribe"),
    ],
)
def test_a_shell_completes_what_is_typed(shell: str, typed: str, expected: str) -> None:
    settings = {
        "_AGAIN_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    assert expected in told(settings=settings)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_is_printed(shell: str) -> None:
    assert f"complete_{shell}" in told(settings={"_AGAIN_COMPLETE": f"source_{shell}"})


def test_bash_completes_with_the_script_that_is_printed() -> None:
    script = (
        f'eval "$(_AGAIN_COMPLETE=source_bash {AGAIN})"; COMP_WORDS=({AGAIN} unsubs); COMP_CWORD=1; '
        f'_again_completion {AGAIN}; echo "${{COMPREPLY[@]}}"'
    )
    environment = plain_environment() | {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "unsubscribe\n", done.stderr
