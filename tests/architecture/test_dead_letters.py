"""The page of refused messages has each reason."""

import re
from pathlib import Path

from worker.broker.messages import LARGEST, Reason

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/dead-letters.md"


def test_the_page_of_refused_messages_has_each_reason() -> None:
    page = PAGE.read_text()
    assert re.findall(r"^\| `([a-z_]+)` \|", page, flags=re.MULTILINE) == [reason.value for reason in Reason]
    assert f"{LARGEST // 1024} kB" in page
