"""`again simulate-dunning`, as it is called."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from schedules.errors import BadPolicy
from worker.cli import synthetic


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    app.add_typer(synthetic.app)
    return app


def test_json_tells_the_setting_the_caution_and_every_policy(runner: CliRunner, app: typer.Typer) -> None:
    answer = runner.invoke(app, ["simulate-dunning", "--customers", "60", "--seed", "3", "--json"])
    document = json.loads(answer.stdout)
    assert document["caution"].startswith("A model result")
    assert (document["customers"], document["seed"], document["assume"]) == (60, 3, "published")
    assert [one["policy"] for one in document["policies"]] == ["standard", "fixed-8-8-8", "woocommerce"]
    for one in document["policies"]:
        curve = one["recovered_percent_by_day"]
        assert curve == sorted(curve)
        assert (len(curve), curve[-1]) == (46, one["recovered_percent"])


def test_the_table_and_the_plot_say_that_it_is_a_model(runner: CliRunner, app: typer.Typer) -> None:
    answer = runner.invoke(app, ["simulate-dunning", "--customers", "60", "--policy", "fixed-8-8-8"])
    assert "A model result" in answer.stdout
    assert "● fixed-8-8-8   ○ woocommerce" in answer.stdout
    assert "standard" not in answer.stdout


def test_a_png_is_written(runner: CliRunner, app: typer.Typer, tmp_path: Path) -> None:
    where = tmp_path / "curves.png"
    answer = runner.invoke(app, ["simulate-dunning", "--customers", "60", "--png", str(where)])
    assert answer.exit_code == 0
    assert where.read_bytes().startswith(b"\x89PNG\r\n")
    assert where.stat().st_size < 150_000


def test_a_policy_that_is_not_known_is_refused_with_those_that_are(runner: CliRunner, app: typer.Typer) -> None:
    answer = runner.invoke(app, ["simulate-dunning", "--policy", "hope"])
    assert isinstance(answer.exception, BadPolicy)
    assert "standard, fixed-8-8-8, woocommerce" in str(answer.exception)


def test_a_png_that_cannot_be_written_is_refused_with_its_name(
    runner: CliRunner, app: typer.Typer, tmp_path: Path
) -> None:
    where = tmp_path / "nowhere" / "curves.png"
    answer = runner.invoke(app, ["simulate-dunning", "--customers", "5", "--png", str(where)])
    assert str(where) in str(answer.exception)
