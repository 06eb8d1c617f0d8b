"""The Python interface: ``import fedtransfer as ft``."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedtransfer as ft
from fedtransfer.table import Table


def draw(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return dark and light images, told apart by any network."""
    rng = np.random.default_rng(seed)
    labels = np.array(["dark", "light"])[np.arange(number) % 2]
    images = rng.integers(0, 60, (number, 8, 8, 3)) + 180 * (labels == "light")[:, None, None, None]
    return images.astype(np.uint8), labels


def features(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(number) % 3
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(number, 6)) + 5 * np.eye(3, 6)[labels]).astype(np.float32), labels


SITES = {"north": draw(40, 0), "south": draw(30, 1)}


class Colour:
    """A backbone object."""

    name = "mean colour"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images.mean((1, 2))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ft.Run:
    return ft.simulate(data=SITES, rounds=3, out=tmp_path_factory.mktemp("python") / "run", progress=False)


@pytest.mark.process
def test_importing_loads_nothing_heavy() -> None:
    program = (
        "import sys, fedtransfer;"
        "heavy = {'numpy', 'pydantic', 'tensorflow', 'keras', 'flwr', 'rich', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_there() -> None:
    assert all(hasattr(ft, name) for name in ft.__all__)
    assert set(ft.__all__) <= set(dir(ft))
    with pytest.raises(AttributeError, match="'fedtransfer' has no attribute 'simulat'"):
        _ = ft.simulat  # type: ignore[attr-defined]


def test_methods_by_name() -> None:
    assert ft.methods.trimmed_mean is ft.methods["trimmed-mean"]
    assert {"fedavg", "fedprox", "fed3r"} <= set(ft.methods)
    assert len(ft.methods) == len(dir(ft.methods)) == len(list(ft.methods))
    with pytest.raises(AttributeError, match="no method 'fedprx'; did you mean 'fedprox'"):
        _ = ft.methods.fedprx


@pytest.mark.run
def test_a_run_has_scores_tables_and_a_head(run: ft.Run) -> None:
    assert run.accuracy == run.balanced_accuracy == 1.0
    assert run.baselines is not None
    assert run.baselines.pooled == 1.0
    assert run.classes == ("dark", "light")
    assert [array.shape for array in run.head] == [(256, 2), (2,)]
    assert run.history["round"].tolist() == [1, 2, 3, 4]
    assert run.sites["site"].tolist() == ["north", "south"]
    assert run.sites["images"].tolist() == [40, 30]
    assert run.epsilon == float("inf")
    assert repr(run) == "<Run run: fedavg, accuracy 1.000>"
    assert list(run.sites.to_pandas().columns) == ["site", "images", "accuracy", "local"]
    assert isinstance(run.history, Table)
    assert run.report() == run.folder / "report.html"


@pytest.mark.run
def test_a_run_predicts_and_is_evaluated(run: ft.Run, tmp_path: Path) -> None:
    from PIL import Image

    images, labels = draw(6, 2)
    probabilities = run.predict(images)
    assert probabilities.shape == (6, 2)
    assert np.array(run.classes)[probabilities.argmax(1)].tolist() == labels.tolist()
    np.testing.assert_allclose(run.predict(images / 255), probabilities, atol=1e-6)
    np.testing.assert_allclose(run.predict([images[0], images[1][:6]])[0], probabilities[0], atol=1e-6)
    np.testing.assert_allclose(run.model(images.astype(np.float32)), probabilities, atol=1e-5)
    Image.fromarray(images[1]).save(tmp_path / "one.png")
    np.testing.assert_allclose(run.predict(tmp_path / "one.png"), probabilities[1:2], atol=1e-6)
    assert run.predict([]).shape == (0, 2)
    assert run.evaluate((images, labels))["accuracy"] == 1.0
    assert run.evaluate(SITES)["images"] == 70
    with pytest.raises(ft.UserError, match="class"):
        run.evaluate((images, ["cat"] * 6))
    with pytest.raises(ft.UserError, match="No such file"):
        run.predict(tmp_path / "nothing.png")


@pytest.mark.run
def test_a_run_is_loaded_listed_and_shown(run: ft.Run) -> None:
    again = ft.load_run(run.folder)
    assert again.accuracy == run.accuracy
    listed = ft.runs(run.folder.parent)
    assert listed["folder"].tolist() == [str(run.folder)]
    assert listed["strategy"][0] == "fedavg"
    page = run._repr_html_()
    assert page.count("<svg") == 2
    assert "100.0 %" in page
    assert "currentColor" in page
    with pytest.raises(ft.UserError, match="no such folder"):
        ft.runs(run.folder / "nothing")


@pytest.mark.run
def test_the_same_data_give_the_same_head_and_are_written_once(
    run: ft.Run, tmp_path: Path, capfd, caplog
) -> None:
    """A second run in one process, on real numbers in place of bytes; nothing is printed."""
    caplog.set_level(logging.INFO)
    scaled = {name: (images / 255, labels) for name, (images, labels) in SITES.items()}
    again = ft.simulate(data=scaled, rounds=3, out=tmp_path / "again", baselines=False)
    assert again.config.data == run.config.data
    assert (again.folder / "head.npz").read_bytes() == (run.folder / "head.npz").read_bytes()
    assert capfd.readouterr() == ("", "")
    assert "Backbone resnet18v2" in caplog.text


@pytest.mark.run
def test_progress_is_shown_if_asked_for(tmp_path: Path, capfd) -> None:
    ft.simulate(data=features(90, 0), sites=2, rounds=2, out=tmp_path / "run", store=tmp_path, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Ready-made features of width 6; no backbone is loaded" in shown.err
    assert "final" in shown.err


@pytest.mark.run
def test_ready_made_features_take_the_place_of_a_backbone(tmp_path: Path) -> None:
    x, y = features(120, 0)
    run = ft.simulate(data=(x, y), sites=3, rounds=5, out=tmp_path / "run")
    assert run.config.backbone == "features-6"
    assert run.accuracy == 1.0
    assert run.head[0].shape == (6, 3)
    assert run.predict(x[:9]).argmax(1).tolist() == y[:9].tolist()
    assert run.evaluate((x, y))["accuracy"] == 1.0
    assert ft.load_run(run.folder).predict(x[:2]).shape == (2, 3)
    with pytest.raises(ft.UserError, match="ready-made features of width 6"):
        run.predict(draw(2, 0)[0])
    with pytest.raises(ft.UserError, match="features of width 5"):
        run.predict(x[:, :5])


@pytest.mark.run
def test_a_backbone_object_is_called_before_the_run(tmp_path: Path) -> None:
    run = ft.simulate(data=SITES, backbone=Colour(), rounds=4, out=tmp_path / "run", standardise="federated")
    assert run.config.backbone == "mean_colour-features-3"
    assert run.accuracy == 1.0
    images, labels = draw(4, 3)
    assert np.array(run.classes)[run.predict(images).argmax(1)].tolist() == labels.tolist()
    assert run.evaluate((images, labels))["accuracy"] == 1.0
    assert ft.load_run(run.folder).predict(Colour()(images)).shape == (4, 2)


@pytest.mark.run
def test_a_backbone_object_on_named_data_leaves_their_test_images_apart(tmp_path: Path) -> None:
    run = ft.simulate(
        backbone=Colour(), sites=2, rounds=1, baselines=False, models=False, out=tmp_path / "run"
    )
    assert run.summary["images_by_split"]["test"] == 1000


@pytest.mark.run
def test_an_interrupted_run_says_how_to_go_on_and_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data": features(90, 0), "sites": 2, "rounds": 6, "out": tmp_path / "run", "baselines": False}
    whole = ft.simulate(**settings | {"out": tmp_path / "whole"})

    from fedtransfer.server.run_folder.checkpoint import Checkpoints

    content = Checkpoints.content

    def interrupt(self: Checkpoints, progress) -> Any:
        if progress.round == 4:
            raise KeyboardInterrupt
        return content(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "content", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"To go on: ft\.simulate\(out='.*/run', resume=True\)"):
            ft.simulate(**settings)
    assert not ft.runs(tmp_path)["finished"].all()
    with pytest.raises(ft.UserError, match="not finished"):
        ft.load_run(tmp_path / "run")
    with pytest.raises(ft.UserError, match="seed cannot change"):
        ft.simulate(**settings, resume=True, seed=2)
    run = ft.simulate(**settings, resume=True)
    assert (run.folder / "head.npz").read_bytes() == (whole.folder / "head.npz").read_bytes()


@pytest.mark.run
@pytest.mark.full
def test_an_audit_of_a_run(tmp_path: Path) -> None:
    run = ft.simulate(
        data=features(300, 0), sites=3, rounds=2, baselines=False, models=False, out=tmp_path / "run"
    )
    audit = ft.audit(run, shadows=64)
    assert {"strategy", "attack", "measure", "value", "low", "high"} <= set(audit.findings.dtype.names)
    assert (audit.folder / "report.html").is_file()


@pytest.mark.run
@pytest.mark.full
def test_a_benchmark_of_a_plan(tmp_path: Path) -> None:
    x, y = features(120, 0)
    np.savez(tmp_path / "features.npz", x_train=x, y_train=y)
    settings = (
        f'data = "{tmp_path}/features.npz"\nbackbone = "features-6"\nsites = 2\nrounds = 2\nalpha = 9.0'
    )
    (tmp_path / "plan.toml").write_text(
        f'seeds = [0]\n[settings.few]\n{settings}\n[methods.fedavg]\n[methods.ridge]\nstrategy = "fed3r"\n'
    )
    found = ft.benchmark(tmp_path / "plan.toml", out=tmp_path / "out", processes=1, store=tmp_path / "store")
    assert found.failures == {}
    assert {"fedavg", "ridge", "pooled softmax"} <= set(found.table["method"].tolist())
    assert (found.folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"stratgy": "fedprox"}, "simulate: unknown setting 'stratgy'; did you mean 'strategy'"),
        ({"local-epochs": 2}, "unknown setting 'local-epochs'; did you mean 'local_epochs'"),
        ({"strategy": "fedprx"}, "got 'fedprx'; did you mean 'fedprox'"),
        ({"strategy": 3}, "strategy: got int; expected a name, a method"),
        ({"backbone": 3}, "backbone: got int; expected a name, a file, or a callable"),
        ({"sites": 0}, "sites: got 0"),
        ({"resume": True}, "say which, by out=FOLDER"),
        ({"data": SITES, "partition": "iid"}, "leave partition out"),
        (
            {"data": features(9, 0), "augment": 1},
            "augment: needs images; with features-6 the data are features",
        ),
        ({"data": {"north": SITES["north"], "south": features(9, 0)}}, r"features of the widths \[0, 6\]"),
    ],
)
def test_errors_say_what_to_do(arguments: dict, words: str) -> None:
    with pytest.raises(ft.UserError, match=words):
        ft.simulate(**arguments)
