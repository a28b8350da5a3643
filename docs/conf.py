"""Sphinx: the site of these pages, which `make docs` builds in .site."""

import re
from pathlib import Path
from typing import Any

project = "Again"
html_title = "Again"
html_theme = "furo"
extensions = ["myst_parser"]
root_doc = "README"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
exclude_patterns = ["_templates"]
myst_heading_anchors = 3  # levels of headings that links may name, with GitHub's anchors
FOLDERS = {
    "tutorial": "Tutorial",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
    "decisions": "Decisions",
}
# A link, not a picture, to a file that is no document: GitHub follows it, and the site has the words alone.
OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((?:\.\./){1,2}(?:benchmarks|deploy|CHANGELOG)[^)]*\)")


def fit_for_the_site(_app: Any, docname: str, source: list[str]) -> None:
    """Take out the links to files outside of docs/, and append the navigation to the index."""
    source[0] = OUTSIDE.sub(r"\1", source[0])
    if docname != root_doc:
        return
    for folder, title in FOLDERS.items():
        if any(Path(__file__).with_name(folder).glob("*.md")):
            source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {title}\n\n{folder}/*\n```\n"


def setup(app: Any) -> None:
    """Connect the hook."""
    app.connect("source-read", fit_for_the_site)
