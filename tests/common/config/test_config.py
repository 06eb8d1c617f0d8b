import tomllib
from pathlib import Path

import pytest
import tomli_w
import typer
from example_counts import examples
from flower_config import with_flower_config
from hypothesis import given
from hypothesis import strategies as st

from fedtransfer.cli import app
from fedtransfer.common.config.config import (
    PRESETS,
    RETIRED,
    RunConfig,
    make_config,
    read_config,
    resolve_config,
)
from fedtransfer.common.errors import UserError

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def test_flower_run_config_in_pyproject_is_the_config() -> None:
    document = PYPROJECT.read_text("utf-8")
    assert tomllib.loads(document)["tool"]["flwr"]["app"]["config"] == RunConfig().to_flat(), (
        "run `make flower-config`"
    )
    assert with_flower_config(document) == document


def test_flower_can_carry_every_value() -> None:
    assert all(type(value) in (str, int, float, bool) for value in RunConfig().to_flat().values())


def test_every_setting_is_a_command_line_option() -> None:
    command = typer.main.get_command(app).commands["simulate"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {f"--{key}" for key in RunConfig().to_flat()} - options == {"--prepared"}, (
        "which `flwr run` alone is given"
    )


@examples(30, 100)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "rounds": st.integers(1, 10**6),
            "alpha": st.floats(1e-6, 1e6),
            "data": st.text(min_size=1),
            "partition": st.sampled_from(["iid", "dirichlet", "pathological", "natural"]),
            "strict": st.booleans(),
        },
    )
)
def test_config_survives_toml_and_flower(values: dict) -> None:
    config = make_config(values, "test")
    assert make_config(tomllib.loads(config.to_toml()), "toml") == config
    assert make_config(config.to_flat(), "flower") == config


OWN = {"backbone": "own.keras"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"roundz": 3}, ["unknown key 'roundz'", "did you mean 'rounds'"]),
        ({"local_epochs": 3}, ["unknown key 'local_epochs'", "did you mean 'local-epochs'"]),
        ({"rounds": 0}, ["rounds", "got 0", "1"]),
        ({"alpha": "wide"}, ["alpha", "got 'wide'", "number"]),
        ({"alpha": float("nan")}, ["alpha", "got nan"]),
        ({"optimizer": "adm"}, ["optimizer", "got 'adm'", "did you mean 'adam'"]),
        ({"partition": "zzz"}, ["partition", "got 'zzz'", "iid, dirichlet, pathological, natural"]),
        ({"resolution": 16}, ["resolution", "got 16", "32"]),
        ({"weights": "x.h5"}, ["weights", "resnet50v2"]),
        (
            {"backbone": "resnet50"},
            ["backbone", "got 'resnet50'", "did you mean 'resnet50v2'", ".keras, .h5 or .onnx"],
        ),
        ({"preprocessing": "tf"}, ["preprocessing", "leave it at auto"]),
        ({**OWN, "preprocessing": "torhc"}, ["got 'torhc'", "did you mean 'torch'", "as in", "mean=0.485"]),
        ({**OWN, "preprocessing": "mean=0.5"}, ["got 'mean=0.5'", "mean and deviation of each channel"]),
        ({**OWN, "preprocessing": "mean=1,0 std=1"}, ["got mean=1,0", "one number, or three for red"]),
        ({**OWN, "preprocessing": "mean=a,b,c std=1"}, ["got mean=a,b,c", "one number, or three"]),
        ({**OWN, "preprocessing": "mean=nan std=1"}, ["got mean=nan", "one number, or three"]),
        ({**OWN, "preprocessing": "mean=0 std=0.5,0,1"}, ["got std=0.5,0,1", "a deviation is above 0"]),
        ({**OWN, "preprocessing": "mean=124,116,104 std=58,57,57"}, ["for pixels of 0 to 1", "by 255"]),
        ({"backbone": "a.onnx#x", "trainable": "conv5"}, ["trainable", "a.onnx#x is ONNX", "Keras"]),
        ({"backbone": "a.onnx", "unfreeze-at": "3:conv5"}, ["unfreeze-at", "train the head alone"]),
        ({"backbone": "a.onnx", "compute": "tensorflow"}, ["compute tensorflow", "leave it at auto"]),
        ({"backbone": "a.onnx", "export": "keras"}, ["export keras", "leave it at auto"]),
        ({"export": "torch"}, ["export", "got 'torch'", "auto, keras, onnx"]),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make_config(changes, "somewhere")
    assert all(word in str(caught.value) for word in ["somewhere", *words]), caught.value


def test_settings_of_earlier_versions_are_read_at_their_defaults_and_else_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        RunConfig(rounds=7).to_toml() + tomli_w.dumps({key: value for key, (value, _) in RETIRED.items()})
    )
    assert read_config(file) == RunConfig(rounds=7)
    assert not RETIRED.keys() & RunConfig().to_flat().keys()
    for key in RETIRED:
        with pytest.raises(
            UserError, match=f"here: {key}: no setting of this version, got 7; .*, so leave it out"
        ):
            make_config({key: 7}, "here")


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('optimizer = "sgd"\nrounds = 7\n')
    config = resolve_config(preset="article", file=file, overrides={"rounds": 9})
    assert (config.backbone, config.optimizer, config.rounds) == ("resnet50v2", "sgd", 9)


def test_article_preset_is_the_classic_recipe() -> None:
    config = resolve_config(preset="article")
    assert (config.backbone, config.resolution, config.optimizer) == ("resnet50v2", 224, "adam")
    assert (config.validation_fraction, config.patience) == (0.2, 5)
    assert set(PRESETS["article"]) <= set(RunConfig().to_flat())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no.toml", "No such file", "config.toml"]),
        ("a = = 1", ["no.toml", "not valid TOML"]),
        ("seeds = 1", ["no.toml", "did you mean 'seed'"]),
    ],
)
def test_config_files_that_cannot_be_used(tmp_path: Path, content: str | None, words: list[str]) -> None:
    file = tmp_path / "no.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError) as caught:
        resolve_config(file=file)
    assert all(word in str(caught.value) for word in words), caught.value


def test_unknown_preset() -> None:
    with pytest.raises(UserError, match="did you mean 'article'"):
        resolve_config(preset="articel")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"second-momentum": 0.5, "strategy": "fedadagrad"}, ["second-momentum", "--strategy fedadam"]),
        ({"adaptivity": 0.5, "strategy": "median"}, ["adaptivity", "median"]),
        ({"trim": 0.5, "strategy": "trimmed-mean"}, ["trim", "got 0.5"]),
        ({"strategy": "fedadm"}, ["strategy", "'fedadm'", "'fedadam'"]),
    ],
)
def test_settings_that_do_not_combine_are_refused_with_the_reason(changes: dict, words: list[str]) -> None:
    """Many more are in test_combinations.py."""
    with pytest.raises(UserError) as caught:
        make_config(changes, "options")
    assert all(word in str(caught.value) for word in words), caught.value
