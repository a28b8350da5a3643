"""Every reason of `again why` is explained."""

from pathlib import Path

from schedules.charging.reasons import FAILS, Reason

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "reasons.md"


def test_the_page_has_each_reason_with_the_check_that_fails() -> None:
    rows = [line.split("|")[1:3] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    shown = {reason.strip().strip("`"): check.strip().strip("`") for reason, check in rows}
    assert shown == {each: FAILS.get(each, "none") for each in Reason}
