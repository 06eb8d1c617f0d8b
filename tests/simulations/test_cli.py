"""The command line: what it prints, and where."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
from pictures import COLOURS, class_folders, picture
from typer.testing import CliRunner

from fedtransfer.cli import app
from fedtransfer.common.errors import UserError

pytestmark = pytest.mark.run


def command(*arguments: str, ok: bool = True) -> tuple[str, str]:
    """Run the command line within this process; return standard output and standard error."""
    result = CliRunner().invoke(app, arguments)
    if ok:
        assert result.exit_code == 0, (result.stderr, result.exception)
    elif isinstance(result.exception, UserError):
        raise result.exception
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can tell colours, beside its data."""
    root = tmp_path_factory.mktemp("colours")
    class_folders(root / "data", 0, n=30)
    out, err = command(
        "simulate", "--data", str(root / "data"), "--sites", "3", "--alpha", "5", "--rounds", "15",
        "--out", str(root / "run"), "--json",
    )  # fmt: skip
    summary = json.loads(out)
    assert summary == json.loads((root / "run" / "summary.json").read_text())
    for words in ("pooled", str(root / "run"), "fedtransfer predict"):
        assert words in err.replace("\n", ""), words
    return root


def test_predict(colours: Path, tmp_path: Path) -> None:
    for label, colour in COLOURS.items():
        picture(colour, 7_000, (90, 50)).save(tmp_path / f"new {label}.jpg")
    out, _ = command("predict", str(colours / "run"), str(tmp_path), "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {Path(row["path"]).name: row["class"] for row in rows} == {
        f"new {label}.jpg": label for label in COLOURS
    }
    assert sum(float(rows[0][label]) for label in COLOURS) == pytest.approx(1, abs=1e-5)
    out, _ = command("predict", str(colours / "run" / "model.keras"), str(tmp_path / "new red.jpg"), "--json")
    answer = json.loads(out)
    assert answer["class"] == "red"
    assert answer["probability"] == pytest.approx(answer["probabilities"]["red"])
    far = tmp_path.joinpath(*["a folder with a long name"] * 6)
    far.mkdir(parents=True)
    (tmp_path / "new blue.jpg").rename(far / "new blue.jpg")
    out, _ = command("predict", str(colours / "run"), str(far))
    assert [line.split("new blue.jpg")[1].split()[0] for line in out.splitlines() if str(far) in line] == [
        "blue"
    ]


def test_a_model_that_was_not_written_is_made_when_it_is_asked_for(colours: Path, tmp_path: Path) -> None:
    picture(COLOURS["blue"], 7_000).save(tmp_path / "new.png")
    run, answers = tmp_path / "run", []
    shutil.copytree(colours / "run", run)
    for file in ("", "model.keras"):  # a run folder's model is used by its parts, a file as it is
        answers.append(command("predict", str(run / file), str(tmp_path / "new.png"), "--json")[0])
    (run / "model.keras").unlink()
    answers.append(command("predict", str(run), str(tmp_path / "new.png"), "--json")[0])
    assert answers[0] == answers[1] == answers[2]
    with pytest.raises(UserError, match=r"model\.keras: no such file"):
        command("predict", str(run / "model.keras"), str(tmp_path / "new.png"), ok=False)
    out, _ = command("evaluate", str(run), str(colours / "data"), "--json")
    assert json.loads(out)["accuracy"] > 0.9

    command("simulate", "--resume", str(run), "--rounds", "16", "--no-models")
    assert not list(run.glob("*model.keras")), (
        "a run that goes on leaves no model of a head that it had before"
    )
    assert "blue" in command("predict", str(run), str(tmp_path / "new.png"))[0]


def test_predict_names_what_it_cannot_read(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no")
    picture(COLOURS["red"], 1).save(tmp_path / "a.png")
    out, err = command("predict", str(colours / "run"), str(tmp_path), "--csv", ok=False)
    assert "a.png,red" in out
    assert "notes.txt: " in err
    assert "1 of 2 files" in err
    with pytest.raises(UserError, match=r"gone\.jpg: no such file"):
        command("predict", str(colours / "run"), str(tmp_path / "gone.jpg"), ok=False)
    with pytest.raises(UserError, match=r"model\.keras: no such file"):
        command("predict", str(tmp_path), str(tmp_path / "a.png"), ok=False)
    (tmp_path / "model.keras").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"model\.keras: not a model"):
        command("predict", str(tmp_path), str(tmp_path / "a.png"), ok=False)


def test_evaluate(colours: Path, tmp_path: Path) -> None:
    summary = json.loads((colours / "run" / "summary.json").read_text())
    out, _ = command("evaluate", str(colours / "run"), str(colours / "data"), "--json")
    scores = json.loads(out)
    assert scores["split"] == "test", "the run's own data: only what it did not train on"
    assert scores["images"] == summary["images_by_split"]["test"]
    assert scores["accuracy"] == pytest.approx(summary["accuracy"])
    assert scores["macro_f1"] == pytest.approx(summary["macro_f1"])
    assert set(scores["classes"]["red"]) == {
        "images", "precision", "recall", "f1", "sensitivity", "specificity", "auroc",
    }  # fmt: skip
    assert (colours / "run" / "confusion-matrix.png").read_bytes()[:4] == b"\x89PNG"
    out, _ = command(
        "evaluate",
        str(colours / "run"),
        str(colours / "data"),
        "--split",
        "all",
        "--picture",
        str(tmp_path / "c.png"),
    )
    assert "90 images (all)" in out
    assert (tmp_path / "c.png").exists()


def test_evaluate_on_other_data(colours: Path, tmp_path: Path) -> None:
    for label in ("red", "blue"):
        (tmp_path / "more" / label).mkdir(parents=True)
        picture(COLOURS[label], 4_000).save(tmp_path / "more" / label / "1.png")
    out, _ = command("evaluate", str(colours / "run"), str(tmp_path / "more"), "--json")
    scores = json.loads(out)
    assert (scores["split"], scores["images"], scores["classes"]["green"]["recall"]) == ("all", 2, None)
    (tmp_path / "more" / "rred").mkdir()
    picture(COLOURS["red"], 4_001).save(tmp_path / "more" / "rred" / "1.png")
    with pytest.raises(UserError, match=r"'rred'; did you mean 'red'"):
        command("evaluate", str(colours / "run"), str(tmp_path / "more"), ok=False)


def test_evaluation_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    from fedtransfer.client.inference import _class_scores
    from fedtransfer.common.head.metrics import Counts

    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 80).astype(np.float32), rng.integers(0, 3, 80)
    counts = Counts.of(p, y)
    precision, recall, f1, _ = precision_recall_fscore_support(y, p.argmax(1))
    for i in range(3):
        scores = _class_scores(counts, p, y, i)
        negative = y != i
        assert scores["precision"] == pytest.approx(precision[i])
        assert scores["recall"] == scores["sensitivity"] == pytest.approx(recall[i])
        assert scores["f1"] == pytest.approx(f1[i])
        assert scores["specificity"] == pytest.approx((p.argmax(1) != i)[negative].mean())
        assert scores["auroc"] == pytest.approx(roc_auc_score(y == i, p[:, i]))


def test_features_commands(tmp_path: Path, colours: Path) -> None:
    store = tmp_path / "store"
    command(
        "simulate", "--data", str(colours / "data"), "--sites", "2", "--alpha", "5", "--rounds", "1",
        "--out", str(tmp_path / "r"), "--store", str(store), "--no-models", "--no-baselines",
    )  # fmt: skip
    [report] = json.loads(command("features", "show", "--store", str(store), "--json")[0])
    assert (report["images"], report["shards"], report["damaged"]) == (90, 1, 0)
    assert "resnet18v2" in command("features", "verify", "--store", str(store))[0]
    [shard] = store.glob("*/*.npy")
    shard.write_bytes(shard.read_bytes()[:-1])
    assert CliRunner().invoke(app, ["features", "verify", "--store", str(store)]).exit_code == 1
    assert "would remove" in command("features", "prune", "--dry-run", "--store", str(store))[0]
    assert "1 file" in command("features", "prune", "--store", str(store))[0]
    assert json.loads(command("features", "show", "--store", str(store), "--json")[0]) == []


PLAIN = """
import sys
for name in ("common", "client", "server", "simulations", "fedtransfer", "flwr"):
    sys.modules[name] = None
import json, zipfile, keras, numpy as np
model = keras.models.load_model(sys.argv[1])
image = np.load(sys.argv[2])
described = json.loads(zipfile.ZipFile(sys.argv[1]).read("fedtransfer.json"))
assert described["classes"] == ["blue", "green", "red"]
print(json.dumps(model.predict(image[None], verbose=0)[0].tolist()))
"""


@pytest.mark.process
def test_model_loads_with_plain_keras(colours: Path, tmp_path: Path) -> None:
    from fedtransfer.common.head.model import load_model

    image = np.asarray(picture(COLOURS["green"], 3))
    np.save(tmp_path / "image.npy", image)
    model = colours / "run" / "model.keras"
    # A cold one, which has nothing of ours.
    line = [sys.executable, "-c", PLAIN, str(model), str(tmp_path / "image.npy")]
    result = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(
        json.loads(result.stdout.splitlines()[-1]), load_model(colours / "run").predict(image), atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--optimizer", "adm"], ("optimizer", "'adm'", "did you mean 'adam'?")),
        (["--data", "nowhere"], ("--data", "'nowhere'")),
    ],
)
def test_an_error_says_what_was_received(
    arguments: list[str], words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        command("simulate", *arguments, "--out", str(tmp_path / "run"), ok=False)
    for word in words:
        assert word in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_no_traceback_leaks(tmp_path: Path) -> None:
    result = forked.run("-m", "fedtransfer", "simulate", "--data", "nowhere", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "error: --data: got 'nowhere'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()
