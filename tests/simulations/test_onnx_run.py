"""Whole runs on a network in ONNX, and runs whose models are ONNX."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pictures import COLOURS, class_folders, picture
from small_onnx import FEATURES, network, saved
from typer.testing import CliRunner

import fedtransfer as ft
from fedtransfer.cli import app
from fedtransfer.common.errors import UserError

pytestmark = pytest.mark.run


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


def simulate(root: Path, *more: str) -> Path:
    """Run a small federation on coloured pictures; return its folder."""
    class_folders(root / "data", 0, n=30)
    command(
        "simulate", "--data", str(root / "data"), "--sites", "2", "--alpha", "5", "--rounds", "8",
        "--out", str(root / "run"), *more,
    )  # fmt: skip
    return root / "run"


def test_a_network_in_onnx_serves_a_whole_run(tmp_path: Path) -> None:
    file = saved(network(), tmp_path / "my net.onnx")
    run = simulate(tmp_path, "--backbone", file, "--preprocessing", "mean=0.5 std=0.5", "--resolution", "32")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["accuracy"] > 0.8
    assert not [*run.glob("*.keras")]
    for label, colour in COLOURS.items():
        picture(colour, 7_000, (90, 50)).save(tmp_path / f"new {label}.png")
    files, answers = [str(tmp_path / f"new {label}.png") for label in COLOURS], []
    for model in (run, run / "model.onnx", run / "last-model.onnx"):
        answers.append([*csv.DictReader(io.StringIO(command("predict", str(model), *files, "--csv")))])
    assert [row["class"] for row in answers[0]] == [*COLOURS]
    for row, again in zip(*answers[:2], strict=True):
        probabilities = [[float(each[label]) for label in COLOURS] for each in (row, again)]
        np.testing.assert_allclose(*probabilities, atol=2e-5)
    evaluated = json.loads(command("evaluate", str(run / "model.onnx"), str(tmp_path / "data"), "--json"))
    assert evaluated["accuracy"] > 0.8
    loaded = ft.load_run(run)
    assert loaded.head[0].shape == (FEATURES, len(COLOURS))
    assert loaded.classes[loaded.predict(files[0]).argmax()] == next(iter(COLOURS))
    with pytest.raises(UserError, match=r"model.onnx: this run's model is ONNX, not Keras; use run.predict"):
        _ = loaded.model
    content = bytearray(Path(file).read_bytes())
    content[content.index(b"x/constant_0", 200) + 40] ^= 1  # a bit of a weight
    Path(file).write_bytes(content)
    from fedtransfer.common.backbone.backbone import load_backbone

    load_backbone.cache_clear()
    with pytest.raises(UserError, match=r"the head was trained on backbone .* bring back the earlier file"):
        ft.load_run(run).predict(files[0])


@pytest.mark.full
def test_a_run_on_a_keras_network_writes_onnx_if_asked(tmp_path: Path) -> None:
    run = simulate(tmp_path, "--export", "onnx", "--no-baselines")
    assert sorted(path.name for path in run.glob("*model*")) == ["last-model.onnx", "model.onnx"]
    picture(COLOURS["red"], 7_000, (90, 50)).save(tmp_path / "new.png")
    answers = [
        json.loads(command("predict", str(model), str(tmp_path / "new.png"), "--json"))["probabilities"]
        for model in (run, run / "model.onnx")
    ]
    np.testing.assert_allclose(*[[*answer.values()] for answer in answers], atol=2e-5)
