"""The benchmarks work: every part runs and gives its fields; what they measure means nothing here."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as bench


@pytest.mark.timeout(900)
def test_the_parts_run_and_leave_their_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["floor", "envelopes", "messages", "opening", "beat", "growth"]
    monkeypatch.setattr("sys.argv", ["bench", "--small", "--out", str(tmp_path), *parts])
    bench.main()
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found) == {"machine", *parts}
    assert found["envelopes"]["charges"] == found["messages"]["charges"] == bench.SMALL.charges
    assert found["opening"]["all"]["due"] == bench.SMALL.subscriptions
    for plot in ("charging", "cpu", "growth"):
        assert (tmp_path / f"{plot}.png").stat().st_size > 1000
    rows = [row.what for row in bench.goals(found)]
    assert len(rows) > 10
    table = (tmp_path / "results.md").read_text()
    assert all(row in table for row in rows)
