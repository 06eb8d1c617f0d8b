"""``fedtransfer audit``: plans and runs are attacked; results are written, wrong wishes refused."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedtransfer.cli import app
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.simulations.audit.audits import Audit, Options, audit_plan, audit_run
from fedtransfer.simulations.audit.decoder import may_be_known
from fedtransfer.simulations.audit.findings import Finding, findings_table, summary
from fedtransfer.simulations.audit.image_pool import drawn_pool, others
from fedtransfer.simulations.audit.plan import PROTECTIONS, AuditCase, preset_file, read_plan
from fedtransfer.simulations.audit.reconstruction import Originals, Target
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import simulate
from fedtransfer.simulations.scoring.estimate import Estimate

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
QUIET = Display(Console(quiet=True))
PLAN = """
images-per-class = [5]
shadows = 24
[common]
sites = 3
min-images = 2
rounds = 3
[strategies.fedavg]
server-learning-rate = 1.0
server-momentum = 0.0
[strategies.fed3r]
strategy = "fed3r"
ridge = 1.0
[dp]
dp = "image"
epsilon = 2.0
[dp-of.fedavg]
weighting = "uniform"
[dp-of.fed3r]
ridge = 0.0
"""


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_preset_has_every_strategy_under_every_protection(name: str) -> None:
    cases, _ = read_plan(preset_file(name), {})
    assert {(a.strategy, a.protection) for a in cases} == {
        (strategy, protection) for strategy in ("fedavg", "fedncm", "fed3r") for protection in PROTECTIONS
    }
    for audited in cases:
        assert (audited.config.dp == "image") == (audited.protection in ("dp", "both"))
        assert audited.config.masks == (audited.protection in ("masks", "both"))
        assert (audited.claim <= 2) == audited.config.private


def test_a_preset_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"--preset: got 'quik'; did you mean 'quick'\?"):
        preset_file("quik")


@pytest.mark.parametrize(
    "arguments", [[], ["runs/one", "--preset", "quick"], ["--preset", "quick", "--plan", "p.toml"]]
)
def test_exactly_one_thing_is_audited(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["audit", *arguments])
    assert isinstance(result.exception, UserError)
    assert "one of them only" in str(result.exception)


def test_a_run_is_not_said_to_be_audited_on_other_data() -> None:
    result = CliRunner().invoke(app, ["audit", "runs/one", "--data", "elsewhere"])
    assert isinstance(result.exception, UserError)
    assert "--data elsewhere" in str(result.exception)


@pytest.mark.parametrize(("option", "kept"), [([], True), (["--no-pictures"], False)])
def test_pictures_are_kept_unless_the_command_says_no(
    option: list[str], kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Options] = []

    def audit(_: Path, options: Options) -> list[Finding]:
        given.append(options)
        return [AuditCase("fedavg", "none", 5, RunConfig()).finding("utility", "accuracy", Estimate(0.5))]

    monkeypatch.setattr("fedtransfer.simulations.audit.audits.audit_plan", audit)
    result = CliRunner().invoke(app, ["audit", "--preset", "quick", "--out", str(tmp_path), *option])
    assert result.exit_code == 0
    assert [(options.force, options.pictures) for options in given] == [(False, kept)]


def told_in_a_terminal(findings: list[Finding]) -> str:
    console = Console(width=120, record=True, quiet=False, file=io.StringIO())
    console.print(findings_table(findings))
    return console.export_text()


def on_members(audited: AuditCase, **found: tuple[float, float]) -> list[Finding]:
    """Return what attacks found, by name: AUC and true positive rate."""
    return [
        audited.finding(attack, measure, Estimate(value))
        for attack, values in found.items()
        for measure, value in zip(("auc", "tpr@1%"), values, strict=True)
    ]


def test_the_terminal_shows_guesses_and_the_best_attack_by_name() -> None:
    plain = AuditCase("fedavg", "none", 10, RunConfig())
    audited = AuditCase("fedncm", "dp", 10, RunConfig(strategy="fedncm", dp="image", epsilon=2.0, sites=3))
    told = told_in_a_terminal(
        [
            *on_members(plain, LiRA=(0.9, 0.07), RMIA=(0.8, 0.146)),
            audited.finding("labels", "exact_share", Estimate(0.26), by_chance=0.5),
            audited.finding("features", "cosine@1", Estimate(0.42), by_chance=0.76),
            audited.finding("images", "psnr", Estimate(10.04)),
            audited.finding("images", "psnr_of_class_mean", Estimate(13.43)),
        ]
    )
    for cell in (
        "26.0 (50)",
        "0.42 (0.76)",
        "10.0 (13.4)",
        "│ fedncm, 10 │ dp, ε = 2  │",
        "│ 0.80 │   14.6 │ RMIA",
    ):
        assert cell in told, cell
    assert "…" not in told


def test_the_terminal_shows_all_measures_of_a_run() -> None:
    """Not of classes of one image alone, where larger ones may leak more."""
    run = AuditCase("fedavg", "", 0, RunConfig())
    told = told_in_a_terminal(
        [
            run.finding("labels", "l1", Estimate(0.16, n=3), by_chance=0.97),
            run.finding("features", "cosine@1", Estimate(0.1, n=1), by_chance=0.24),
            run.finding("features", "cosine@2-5", Estimate(0.95, n=2), by_chance=0.74),
            run.finding("RMIA", "tpr@1%", Estimate(float("nan"))),
        ]
    )
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines()]
    assert ["features", "cosine, classes of 2 to 5", "0.95", "0.74", "2"] in lines
    assert ["labels", "L1 distance of counts", "0.16", "0.97", "3"] in lines
    assert "RMIA" not in told


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ({"LiRA": (0.9, 0.07), "RMIA": (0.8, 0.146)}, "RMIA"),
        ({"LiRA": (0.75, np.nan), "RMIA": (0.79, np.nan)}, "RMIA"),
        ({"LiRA": (0.76, 0.05), "RMIA": (0.75, 0.05)}, "LiRA"),
        ({}, ""),
    ],
)
def test_the_best_attack_finds_most_at_few_false_alarms(
    found: dict[str, tuple[float, float]], best: str
) -> None:
    audited = AuditCase("fedavg", "none", 10, RunConfig())
    [row] = summary(
        [
            audited.finding("labels", "exact_share", Estimate(0.26), by_chance=0.5),
            *on_members(audited, **found),
        ]
    )
    assert row["best_attack"] == best
    assert row["counts_by_chance"] == 0.5
    np.testing.assert_equal(row["best_auc"], found.get(best, (np.nan,))[0])


@pytest.mark.run
def test_a_pool_has_as_many_members_as_others_and_no_image_that_the_decoder_knows() -> None:
    config = RunConfig(sites=3, min_images=2)
    pool = drawn_pool(config, 4)
    labels = np.concatenate([y for _, y in pool.sites.values()])
    inside = np.concatenate(list(pool.inside.values()))
    assert (np.bincount(labels) == 8).all()
    assert (np.bincount(labels[inside]) == 4).all()
    paths = [image.path for mine in pool.images.values() for image in mine]
    assert len(set(paths)) == 80
    assert not any(may_be_known(image.read()) for mine in pool.images.values() for image in mine)
    x, y = others(config, pool.classes)
    assert len(x) == len(y) == 1000
    for site, mine in pool.pictures(32).items():
        assert mine.shape == (pool.inside[site].sum(), 32, 32, 3)


def test_more_images_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match=r"'\w+' has 200 .* 101 images a class needs 202"):
        drawn_pool(RunConfig(sites=3), 101)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    (folder / "plan.toml").write_text(PLAN)
    audit_plan(
        folder / "plan.toml",
        Options(folder / "out", 0, {}, QUIET, "fedtransfer audit --plan plan.toml", force=False),
    )
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.run
def test_an_audit_leaves_every_attack_on_every_federation(audited: Path) -> None:
    table = rows(audited / "out" / "table.csv")
    attacks = {
        "utility",
        "labels",
        "features",
        "images",
        "loss threshold",
        "LiRA offline",
        "LiRA online",
        "RMIA",
        "one run",
    }
    for strategy in ("fedavg", "fed3r"):
        for protection in PROTECTIONS:
            mine = [row for row in table if (row["strategy"], row["protection"]) == (strategy, protection)]
            assert attacks <= {row["attack"] for row in mine}
            assert all((row["epsilon"] != "") == (protection in ("dp", "both")) for row in mine)
    value = {
        (r["strategy"], r["protection"], r["attack"], r["measure"]): float(r["value"] or "nan") for r in table
    }
    assert value["fed3r", "none", "labels", "exact_share"] == 1
    assert value["fed3r", "none", "images", "psnr"] > value["fed3r", "none", "images", "psnr_of_class_mean"]
    assert value["fed3r", "dp", "images", "psnr"] < value["fed3r", "dp", "images", "psnr_of_class_mean"]
    for strategy in ("fedavg", "fed3r"):
        assert value[strategy, "dp", "one run", "epsilon_lower_bound"] < 2
        assert value[strategy, "none", "one run", "epsilon_lower_bound"] > 2
        assert value[strategy, "masks", "LiRA online", "auc"] == value[strategy, "none", "LiRA online", "auc"]
    chance = {(r["attack"], r["measure"]): float(r["by_chance"] or "nan") for r in table}
    assert chance["utility", "accuracy"] == 0.1
    assert chance["RMIA", "tpr@1%"] == 0.01
    assert chance["one run", "right_guesses"] == chance["RMIA", "auc"] == 0.5
    # Too few non-members to say.
    assert all(row["value"] == "" for row in table if row["measure"] == "tpr@0.1%")


@pytest.mark.run
def test_an_audit_leaves_curves_pictures_a_summary_and_a_report(audited: Path) -> None:
    out = audited / "out"
    curves = rows(out / "roc.csv")
    assert all(0 <= float(row["fpr"]) <= 1 and 0 <= float(row["tpr"]) <= 1 for row in curves)
    assert len(rows(out / "summary.csv")) == 2 * len(PROTECTIONS)
    with np.load(out / "reconstructions.npz", allow_pickle=False) as file:
        assert file["rebuilt"].shape == (8, *file["originals"].shape)
        assert list(file["names"][:2]) == ["fedavg, none", "fedavg, masks"]
    facts = json.loads((out / "audit.json").read_text("utf-8"))
    assert facts["command"] == "fedtransfer audit --plan plan.toml"
    assert facts["plan"] == "plan"
    assert facts["sites"] == [3]
    assert facts["promises"] == [{"unit": "image", "neighbours": "add or remove one image", "delta": 1e-5}]
    names = [f"{strategy}, {protection}" for strategy in ("fedavg", "fed3r") for protection in PROTECTIONS]
    assert [each["federation"] for each in facts["federations"]] == names
    assert {each["dp"] for each in facts["federations"]} == {"none", "image"}
    assert "dp" not in facts["config"]
    assert facts["config"]["rounds"] == 3
    assert "<html" in (out / "report.html").read_text("utf-8")


@pytest.mark.run
def test_an_earlier_audit_is_replaced_only_if_asked(audited: Path) -> None:
    with pytest.raises(UserError, match="--force"):
        audit_plan(audited / "plan.toml", Options(audited / "out", 0, {}, QUIET, "", force=False))
    with pytest.raises(UserError, match="no audit"):
        audit_plan(audited / "plan.toml", Options(audited, 0, {}, QUIET, "", force=True))


def test_pictures_of_a_replaced_audit_are_gone(tmp_path: Path) -> None:
    """Else an audit that rebuilt no image would be reported on with those of the one before it."""
    audited, pictures = AuditCase("fedavg", "none", 5, RunConfig()), tmp_path / "reconstructions.npz"
    np.savez(pictures, originals=np.zeros((0, 32, 32, 3), np.uint8))
    audit = Audit(Options(tmp_path, 4, {}, QUIET, ""), 4)
    audit._findings.append(audited.finding("utility", "accuracy", Estimate(0.5)))
    audit.write([audited], {})
    assert not pictures.exists()


def test_pictures_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    image = np.full((1, 32, 32, 3), 9, np.uint8)
    originals = Originals((Target("site", 0, 0),), image, image, ("cat",))
    for pictures in (True, False):
        audited = AuditCase("fedavg", "none", 5, RunConfig())
        audit = Audit(Options(tmp_path, 4, {}, QUIET, "", pictures=pictures), 4)
        audit._findings += [
            audited.finding("utility", "accuracy", Estimate(0.5)),
            audited.finding("images", "psnr", Estimate(20.0)),
        ]
        audit._pictures = originals, {"fedavg, none": image}, 5
        audit.write([audited], {})
        assert (tmp_path / "reconstructions.npz").exists() is pictures
        assert ("<img" in (tmp_path / "report.html").read_text("utf-8")) is pictures


@pytest.mark.run
def test_a_run_is_attacked_as_it_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    simulate(RunConfig(out=str(run), sites=4, rounds=3, baselines=False, models=False), QUIET)
    with pytest.raises(UserError, match="4 shadows are too few"):
        audit_run(run, Options(run / "audit", 4, {}, QUIET, "", force=False))
    findings = audit_run(run, Options(run / "audit", 128, {}, QUIET, "fedtransfer audit RUN", force=False))
    value = {(found.attack, found.measure): found for found in findings}
    assert value["LiRA online", "auc"].note.startswith("the run's own head")
    assert value["LiRA online", "auc"].count == sum(
        json.loads((run / "summary.json").read_text())["images_by_split"][split] for split in ("validation",)
    )
    assert {found.protection for found in findings} == {""}
    assert (run / "audit" / "report.html").is_file()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run there"):
        audit_run(tmp_path, Options(tmp_path / "audit", 0, {}, QUIET, "", force=False))


def test_of_a_benchmark_a_run_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "runs" / "iid" / "seed-0" / "fedavg").mkdir(parents=True)
    with pytest.raises(UserError, match="/runs/SETTING/seed-S/METHOD"):
        audit_run(tmp_path, Options(tmp_path / "audit", 0, {}, QUIET, "", force=False))
