"""`again simulate-dunning`, as it is called."""

from pathlib import Path

from tests.acceptance.again import refused, told, told_json

SIMULATE = ("simulate-dunning", "--customers", "60")


def test_json_tells_the_setting_the_caution_and_every_policy() -> None:
    document = told_json(*SIMULATE, "--seed", "3")
    assert document["caution"].startswith("A model result")
    assert (document["customers"], document["seed"], document["assume"]) == (60, 3, "published")
    assert [one["policy"] for one in document["policies"]] == ["standard", "fixed-8-8-8", "woocommerce"]
    for one in document["policies"]:
        curve = one["recovered_percent_by_day"]
        assert curve == sorted(curve)
        assert (len(curve), curve[-1]) == (46, one["recovered_percent"])


def test_the_table_and_the_plot_say_that_it_is_a_model() -> None:
    shown = told(*SIMULATE, "--policy", "fixed-8-8-8")
    assert "A model result" in shown
    assert "● fixed-8-8-8   ○ woocommerce" in shown
    assert "standard" not in shown


def test_a_png_is_written(tmp_path: Path) -> None:
    where = tmp_path / "curves.png"
    told(*SIMULATE, "--png", str(where))
    assert where.read_bytes().startswith(b"\x89PNG\r\n")
    assert where.stat().st_size < 150_000


def test_a_policy_that_is_not_known_is_refused_with_those_that_are() -> None:
    assert "standard, fixed-8-8-8, woocommerce" in refused("simulate-dunning", "--policy", "hope")


def test_a_png_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    where = tmp_path / "nowhere" / "curves.png"
    assert str(where) in refused(*SIMULATE, "--png", str(where))
