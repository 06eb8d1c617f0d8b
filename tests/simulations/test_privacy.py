"""What a configuration is said to promise."""

import json

import pytest
from typer.testing import CliRunner

from common.config_reading import make_config
from fedtransfer import app
from simulations.privacy import statement

SITE = {"dp": "site", "epsilon": 2.0, "weighting": "uniform"}
IMAGE = {"dp": "image", "epsilon": 2.0, "weighting": "uniform", "rounds": 20, "batch-size": 200}
RIDGE = {"dp": "image", "epsilon": 2.0, "strategy": "fed3r"}


def told(settings: dict, images: int = 0) -> dict:
    return dict(statement(make_config(settings, "options"), 10, images))


def test_ten_sites_are_too_few_for_privacy_of_sites_and_thousands_are_not() -> None:
    few, many = told(SITE), told({**SITE, "sites": 10_000, "fraction": 0.1, "sampling": "poisson"})
    assert few["strength"]["drowned"]
    assert not many["strength"]["drowned"]
    assert few["privacy"]["unit"] == "site"
    assert few["privacy"]["neighbours"] == "add or remove one site"
    assert many["privacy"]["sampling"] == "Poisson, 0.1"
    assert any("server is honest" in text for text in few["assumed"])
    assert any("which sites a round had" in text for text in many["assumed"])


def test_noise_of_a_mean_is_what_the_formula_says() -> None:
    """z · C · √p / (q K), over √R rounds."""
    found = told({**SITE, "epsilon": 0.0, "noise-multiplier": 4.0, "clip": 0.5, "rounds": 25})
    assert found["strength"]["noise"] == pytest.approx(4.0 * 0.5 * (257 * 10) ** 0.5 / 10 / 25**0.5)
    assert found["strength"]["signal"] == 0.5
    steps = told({**IMAGE, "epsilon": 0.0, "noise-multiplier": 4.0, "image-rate": 0.1, "rounds": 3})
    assert steps["privacy"]["releases"] == 30
    assert steps["strength"]["ratio"] == pytest.approx(4.0 * (2570 * 10 * 30) ** 0.5 / (200 * 10 * 30))


def test_epsilon_is_that_of_the_accountant_and_checked_from_above() -> None:
    for settings in (SITE, IMAGE, RIDGE):
        privacy = told(settings)["privacy"]
        assert privacy["epsilon"] == pytest.approx(2.0, rel=2e-3)
        assert privacy["epsilon"] <= 2.0 < privacy["epsilon_by_renyi_orders"]


def test_a_budget_ends_the_run_before_it_is_exceeded() -> None:
    privacy = told({**SITE, "noise-multiplier": 10.0})["privacy"]
    assert privacy["rounds"] < privacy["rounds_planned"] == 100
    assert privacy["epsilon"] <= 2.0


def test_few_images_drown_in_the_noise_of_a_closed_form() -> None:
    assert told(RIDGE, 1_000)["strength"]["drowned"]
    assert not told(RIDGE, 50_000)["strength"]["drowned"]
    assert told({**RIDGE, "strategy": "fedncm"}, 500)["strength"]["drowned"]


def test_masks_say_who_could_still_deceive_and_shares_who_must_add_noise() -> None:
    masks = {"masks": True, "min-sites": 5, "colluding-sites": 1}
    plain = told(masks)
    assert plain["privacy"] is None
    assert any("invent sites" in text for text in plain["assumed"])
    shared = told({**masks, **SITE, "noise": "shared"})
    assert any(text.startswith("at least 4 sites of every total") for text in shared["assumed"])
    assert shared["privacy"]["sampling"] == "all"
    assert "totals" in shared["learns"]["server"]


def test_the_command_says_it_in_words_and_as_json(tmp_path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('dp = "image"\nepsilon = 2.0\nstrategy = "fed3r"\n', "utf-8")
    words = CliRunner().invoke(app, ["privacy", str(file), "--images", "1000"])
    assert words.exit_code == 0
    for part in ("epsilon 2 at delta 1e-05 for one image (add or remove one image)", "the noise will drown the signal"):
        assert part in words.stdout
    assert "no differential privacy" in CliRunner().invoke(app, ["privacy"]).stdout
    printed = json.loads(CliRunner().invoke(app, ["privacy", str(file), "--json"]).stdout)
    assert printed["privacy"]["noise_multiplier"] == pytest.approx(1.99, abs=0.01)
