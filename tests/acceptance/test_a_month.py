"""docs/tutorial/a-month.md: its commands, run as they stand in an empty folder, tell what it says they do."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.again import AGAIN, plain_environment
from tests.acceptance.up import running_up

PAGE = Path(__file__).resolve().parents[2] / "docs/tutorial/a-month.md"
BLOCK = re.compile(r"```(sh|text)\n(.*?)```", re.DOTALL)


def lessons() -> list[tuple[str, list[str]]]:
    """Each block of commands, and what must stand in its output, in order."""
    found: list[tuple[str, list[str]]] = []
    for kind, text in BLOCK.findall(PAGE.read_text("utf-8")):
        if kind == "sh":
            found.append((text, []))
        else:
            found[-1][1].extend(text.strip().splitlines())
    return found


@pytest.mark.timeout(900)  # some forty commands, each a process of its own
def test_a_month_is_lived_through_as_the_page_says(tmp_path: Path) -> None:
    blocks = lessons()
    assert len(blocks) == 11, "the last one is after a restart"
    assert all(words for _, words in blocks)
    variables = tmp_path / "variables"
    variables.touch()
    with running_up() as up:
        path = f"{AGAIN.parent}:{plain_environment()['PATH']}"
        for number, (commands, words) in enumerate(blocks, start=1):
            if number == len(blocks):
                up.process.terminate()
                assert up.process.wait(90) == 0
                up.start()
            here = commands.replace("localhost:8765", f"localhost:{up.port}")
            # One shell for each block, whose output is looked at; what a person's shell keeps goes on to the next.
            script = f"set -e; . {variables}\n{here}\ndeclare -p ANN BOB CID > {variables} 2>/dev/null || true"
            done = subprocess.run(
                ["bash", "-c", script], cwd=up.folder, env=plain_environment({"PATH": path}), check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400,
            )  # fmt: skip
            assert done.returncode == 0, (commands, done.stdout)
            at = 0
            for line in words:
                assert line in done.stdout[at:], (commands, line, done.stdout)
                at = done.stdout.index(line, at) + len(line)
