"""README.md and README.ko.md: their commands run as they stand, and both show the same ones."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.again import AGAIN, ROOT, plain_environment
from tests.acceptance.up import running_up

ENGLISH, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s+# .*")
MERMAID_TEXT = re.compile(r'"[^"]*"')


def blocks(page: Path) -> list[tuple[str, str]]:
    """A page's fenced blocks with their language, without comments and without the texts of a picture."""
    found = FENCE.findall(page.read_text("utf-8"))
    return [
        (kind, MERMAID_TEXT.sub('""', text) if kind == "mermaid" else COMMENT.sub("", text))
        for kind, text in found
    ]


def links(page: Path) -> list[str]:
    """A page's links in their order, without those between the two languages."""
    return [
        link for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")) if not link.startswith("README")
    ]


def test_both_languages_show_the_same_commands_outputs_and_links() -> None:
    assert blocks(KOREAN) == blocks(ENGLISH)
    assert links(KOREAN) == links(ENGLISH)


def test_each_make_target_of_the_readme_is_in_the_makefile() -> None:
    targets = re.findall(r"\bmake ([a-z-]+)", "".join(text for kind, text in blocks(ENGLISH) if not kind))
    assert "setup" in targets
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if target not in known] == []


@pytest.mark.timeout(600)  # some fifteen commands, each a process of its own
def test_the_commands_of_the_readme_print_what_it_shows() -> None:
    shown = [block for block in blocks(ENGLISH) if block[0] in {"sh", "text"}]
    assert [kind for kind, _ in shown] == ["sh", "text", "sh", "text", "sh", "sh", "text"]
    key, output = "KEY", ""
    with running_up() as up:
        for kind, text in shown:
            if kind == "sh":
                commands = text.replace("localhost:8765", f"localhost:{up.port}").replace("KEY", key)
                # The page puts the clone's programs on the path; here they are those of this environment.
                commands = commands.replace("$PWD/.venv/bin", str(AGAIN.parent))
                environment = plain_environment({"PATH": f"{AGAIN.parent}:{plain_environment()['PATH']}"})
                done = subprocess.run(
                    ["bash", "-ec", commands], cwd=up.folder, env=environment, check=False,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400,
                )  # fmt: skip
                output = done.stdout
                assert done.returncode == 0, (commands, output)
                subscribed = re.search(r"^subscription ([a-z0-9]+):", output, re.MULTILINE)
                key = subscribed[1] if subscribed else key
            else:
                for line in text.replace("KEY", key).splitlines():
                    assert line in output, (line, output)
