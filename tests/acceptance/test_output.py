"""What a person reads: words are shown as they are."""

import pytest

from worker.cli.output import print_table


def test_words_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("reasons", ("why",), [("[CC10] [/oops] [bold]x[/bold]",)])
    assert "[CC10] [/oops] [bold]x[/bold]" in capsys.readouterr().out
