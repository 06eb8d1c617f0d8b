"""What a configuration is said to promise."""

import json

import pytest
from typer.testing import CliRunner

from fedtransfer.cli import app
from fedtransfer.common.config.config import make_config
from fedtransfer.simulations.privacy.statement import statement

SITE = {"dp": "site", "epsilon": 2.0, "weighting": "uniform"}
IMAGE = {"dp": "image", "epsilon": 2.0, "weighting": "uniform", "rounds": 20, "batch-size": 200}
RIDGE = {"dp": "image", "epsilon": 2.0, "strategy": "fed3r"}


def answers(settings: dict, images: int = 0) -> dict:
    return dict(statement(make_config(settings, "options"), 10, images))


def test_ten_sites_are_too_few_for_privacy_of_sites_and_thousands_are_not() -> None:
    few, many = answers(SITE), answers({**SITE, "sites": 10_000, "fraction": 0.1, "sampling": "poisson"})
    assert few["strength"]["drowned"]
    assert not many["strength"]["drowned"]
    assert few["privacy"]["unit"] == "site"
    assert few["privacy"]["neighbours"] == "add or remove one site"
    assert many["privacy"]["sampling"] == "Poisson, 0.1"
    assert any("server is honest" in text for text in few["assumed"])
    assert any("which sites took part in a round" in text for text in many["assumed"])


def test_noise_of_a_mean_is_what_the_formula_says() -> None:
    """z · C · √p / (q K), over √R rounds."""
    numbers = answers({**SITE, "epsilon": 0.0, "noise-multiplier": 4.0, "clip": 0.5, "rounds": 25})
    assert numbers["strength"]["noise"] == pytest.approx(4.0 * 0.5 * (257 * 10) ** 0.5 / 10 / 25**0.5)
    assert numbers["strength"]["signal"] == 0.5
    steps = answers({**IMAGE, "epsilon": 0.0, "noise-multiplier": 4.0, "image-rate": 0.1, "rounds": 3}, 500)
    assert steps["privacy"]["releases"] == 30
    assert steps["strength"]["ratio"] == pytest.approx(
        4.0 * (2570 * 10 * 30) ** 0.5 / (0.05 * 0.1 * 500 * 30)
    )


def test_epsilon_is_that_of_the_accountant_and_checked_from_above() -> None:
    for settings in (SITE, IMAGE, RIDGE):
        privacy = answers(settings)["privacy"]
        assert privacy["epsilon"] == pytest.approx(2.0, rel=2e-3)
        assert privacy["epsilon"] <= 2.0 < privacy["epsilon_by_renyi_orders"]


def test_a_budget_ends_the_run_before_it_is_exceeded() -> None:
    privacy = answers({**SITE, "noise-multiplier": 10.0})["privacy"]
    assert privacy["rounds"] < privacy["rounds_planned"] == 100
    assert privacy["epsilon"] <= 2.0


def test_few_images_drown_in_the_noise_of_a_closed_form() -> None:
    assert answers(RIDGE, 1_000)["strength"]["drowned"]
    assert not answers(RIDGE, 50_000)["strength"]["drowned"]
    assert answers({**RIDGE, "strategy": "fedncm"}, 500)["strength"]["drowned"]


def test_training_by_steps_hangs_on_the_images_that_batches_have() -> None:
    """Ten sites of the demo's images lost 31 points of accuracy by it, ten of 49,000 three."""
    few, many = answers(IMAGE, 1_600), answers(IMAGE, 49_000)
    assert few["strength"]["drowned"]
    assert any("drown" in text for text in few["warnings"])
    assert not many["strength"]["drowned"]
    assert not many["warnings"]
    unknown = answers(IMAGE)["strength"]
    assert unknown["signal"] is unknown["drowned"] is unknown["ratio"] is None
    assert 1_600 < unknown["enough"] < 49_000
    assert "give --images" in unknown["words"]


def test_signal_does_not_grow_with_a_bound_beyond_the_gradients() -> None:
    ratios = [answers({**IMAGE, "clip": clip}, 49_000)["strength"]["ratio"] for clip in (0.5, 1.0, 2.0, 4.0)]
    assert ratios[0] == pytest.approx(ratios[1])
    assert ratios[3] == pytest.approx(2 * ratios[2])
    assert ratios[2] > ratios[1]


def test_a_delta_that_allows_images_to_be_told_outright_is_warned_of() -> None:
    assert any(
        "delta 0.01 is above 1 / 1,600" in text
        for text in answers({**RIDGE, "delta": 0.01}, 1_600)["warnings"]
    )
    assert not any("delta" in text for text in answers(RIDGE, 1_600)["warnings"])
    assert any(
        "the number of sites" in text for text in answers({**SITE, "delta": 0.05, "sites": 100})["warnings"]
    )


@pytest.mark.parametrize(
    "settings",
    [
        SITE,
        {**SITE, "epsilon": 0.0, "noise-multiplier": 4.0, "fraction": 0.5, "sampling": "poisson"},
        IMAGE,
        RIDGE,
        {"masks": True},
        {},
    ],
)
def test_taking_part_is_never_hidden(settings: dict) -> None:
    assert any("who takes part" in text for text in answers(settings)["not_protected"])


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({}, "7 of 10 sites"),
        ({"sites": 30, "fraction": 0.5}, "10 of 15 sites"),
        ({"min-sites": 9}, "9 of 10 sites"),
        ({"partition": "natural"}, "two thirds"),
    ],
)
def test_masks_say_over_how_many_sites_totals_are(settings: dict, least: str) -> None:
    plain = answers({"masks": True, **settings})
    assert f"at least {least}" in plain["learns"]["server"]
    assert any("no site" in text for text in plain["assumed"])


def test_masks_say_who_could_still_deceive_and_shares_who_must_add_noise() -> None:
    masks = {"masks": True, "min-sites": 5, "colluding-sites": 1}
    plain = answers(masks)
    assert plain["privacy"] is None
    assert any("invent sites" in text for text in plain["assumed"])
    shared = answers({**masks, **SITE, "noise": "shared"})
    assert any(text.startswith("at least 4 sites of every total") for text in shared["assumed"])
    assert shared["privacy"]["sampling"] == "all"
    assert "totals" in shared["learns"]["server"]


def test_the_command_says_it_in_words_and_as_json(tmp_path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('dp = "image"\nepsilon = 2.0\nstrategy = "fed3r"\n', "utf-8")
    words = CliRunner().invoke(app, ["privacy", str(file), "--images", "1000"])
    assert words.exit_code == 0
    for part in ("epsilon 2 at delta 1e-05", "one image", "drown"):
        assert part in words.stdout
    assert "1 release in 1 round\n" in words.stdout
    assert "no differential privacy" in CliRunner().invoke(app, ["privacy"]).stdout
    printed = json.loads(CliRunner().invoke(app, ["privacy", str(file), "--json"]).stdout)
    assert printed["privacy"]["noise_multiplier"] == pytest.approx(1.99, abs=0.01)


@pytest.mark.parametrize("command", ["privacy", "simulate"])
def test_a_budget_for_no_round_is_refused_before_any_work(command: str) -> None:
    settings = ["--dp", "site", "--epsilon", "2", "--noise-multiplier", "0.1", "--weighting", "uniform"]
    refused = CliRunner().invoke(app, [command, *settings])
    assert all(words in str(refused.exception) for words in ("noise multiplier 0.1", "91.8"))
    assert "Starting TensorFlow" not in refused.output
