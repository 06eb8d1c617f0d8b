import csv
import html
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_folders import audit_folder, benchmark_folder, run_folder, write_csv
from typer.testing import CliRunner

import fedtransfer
from common.config import RunConfig
from common.errors import UserError
from server.run import write_settings
from simulations.report import write_report
from simulations.report.blocks import epsilon, span
from simulations.report.estimates import rising

HOSTILE = [
    "<script>alert(1)</script>", "a & b \"quoted\" 'x'", "x" * 300, "שלום עולם", "👩‍⚕️ clinic 🏥", "$\\alpha$ {{7*7}} \u202eevil\x07",
    '"><img src=x onerror=alert(1)>', "]]><svg onload=alert(1)>", "fill: #fe0001",
]  # fmt: skip
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a browser would make of the page: its elements, ids, texts by section, and what it loads."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.elements, self.ids, self.texts, self.attributes = (
            source,
            list[str](),
            list[str](),
            list[str](),
            list[tuple[str, str, str]](),
        )
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.open += [] if tag in VOID else [tag]
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open = self.open[:-1] if tag not in VOID else self.open

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    @property
    def headings(self) -> list[str]:
        return [
            html.unescape(re.sub("<[^>]*>", "", found)) for found in re.findall(r"<h2[^>]*>(.*?)</h2>", self.source)
        ]


def written(folders: list[Path], out: Path) -> Page:
    write_report(folders, out, "fedtransfer report x")
    page = Page(out.read_text("utf-8"))
    assert not page.open, "every element is closed"
    assert "script" not in page.elements
    assert len(page.ids) == len(set(page.ids))
    loaded = [
        value
        for tag, name, value in page.attributes
        if name in ("src", "href") and tag != "a" and not value.startswith("#")
    ]
    assert all(value.startswith("data:") for value in loaded)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert set(re.findall(r"url\((.)", page.source)) <= {"#"}
    assert "@import" not in page.source
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "plain", learning_rate=2.5)


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return written([run], tmp_path_factory.mktemp("page") / "report.html")


def test_a_run_is_answered_in_words_and_shown_in_order(run: Path, page: Page) -> None:
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    images = sum(map(sum, summary["confusion_matrix"]))
    assert f"right on {100 * summary['accuracy']:.1f} % of the {images} test images of 5 sites" in page.text
    assert "No promise of privacy" in page.text
    assert "all images in one place 68.4 %" in page.text
    assert "A site received 129 KB and sent 133 KB in all (12 rounds)." in page.text
    assert page.headings == [
        "The answer", "Accuracy by round", "Accuracy by site", "Who has what", "What is taken for what", "Accuracy against bytes",
        "Configuration", "To repeat it", "Versions",
    ]  # fmt: skip
    assert "● learning-rate" in page.text
    assert f"fedtransfer simulate --config {run}/config.toml" in page.text
    assert "fedtransfer simulate --learning-rate 2.5 --rounds 12" in page.text
    assert summary["backbone"]["fingerprint"] in page.text
    assert 'lang="en"' in page.source


def test_every_figure_has_title_description_and_a_table_of_its_numbers(run: Path, page: Page) -> None:
    figures = re.findall(r"<figure.*?</figure>", page.source, re.S)
    assert len(figures) == 5
    for figure in figures:
        named = re.search(r'aria-labelledby="(\S+) (\S+)"', figure)
        assert named
        assert all(f'id="{key}"' in figure for key in named.groups())
        assert "<details><summary>" in figure
        assert figure.count("<tr") > 2
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    for site, accuracy in summary["site_accuracy"].items():
        assert re.search(rf"{site}</bdi></th><td[^>]*><bdi>{100 * accuracy:.1f}\u00a0%", page.source)


def test_colours_are_the_page_s_own_and_none_is_left_from_the_drawing(page: Page) -> None:
    assert "#fe00" not in page.source
    assert "var(--s1)" in page.source


def test_the_same_folder_gives_the_same_bytes(run: Path, page: Page, tmp_path: Path) -> None:
    write_report([run], tmp_path / "again.html", "fedtransfer report x")
    assert (tmp_path / "again.html").read_text("utf-8") == page.source


def test_differential_privacy_is_told_exactly_and_scores_from_outside_as_such(tmp_path: Path) -> None:
    private = run_folder(
        tmp_path / "private", privacy={}, dp="image", epsilon=2.0, weighting="uniform", classes=["cat", "dog"]
    )
    page = written([private], tmp_path / "report.html")
    assert "ε = 2 at δ = 10⁻⁵; the unit is one image, neighbours: add or remove one image" in page.text
    assert "measured from outside the simulated federation" in page.text
    assert "No promise" not in page.text
    assert "Accuracy by round" not in page.headings, "no round's accuracy is known"
    assert "What is taken for what" not in page.headings


def test_scores_on_public_images_are_not_taken_for_those_of_the_sites(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", privacy={}, dp="image", epsilon=2.0, weighting="uniform")
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    matrix = [[40, 5, 5], [5, 40, 5], [5, 5, 40]]
    public = {"accuracy": 0.8, "scored_on": "public-data", "confusion_matrix": matrix}
    (folder / "summary.json").write_text(json.dumps({**summary, **public}), "utf-8")
    page = written([folder], tmp_path / "report.html")
    outside = summary["measured_outside_the_federation"]["accuracy"]
    assert f"right on {100 * outside:.1f} % of the test images of 5 sites. This was measured from outside" in page.text
    assert "on public images at the server it is right on 80.0 %" in page.text
    assert "95 % interval" not in page.text, "of how many images it is the share is not known"


def test_personal_heads_and_sites_that_took_no_part_are_tabled(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    scores = {"mean": 0.7, "worst": 0.5, "pooled": 0.68}
    personal = dict.fromkeys(("global", "local", "fine_tuned", "mixed"), scores)
    summary["personal"] = {
        "sites": 5,
        "share": 0.4,
        **personal,
        "mixed": {**scores, "mean": 0.777, "worse_than_global": 0.2, "worse_than_local": None},
    }
    adapted = {"5": {"images": 15.0, "accuracy": 0.61, "from_scratch": 0.345, "got_worse": 0.5}}
    summary["unseen_sites"] = {"names": ["x"], "sites": 1, "epochs": 2, "global": 0.55, "adapted": adapted}
    (folder / "summary.json").write_text(json.dumps(summary), "utf-8")
    page = written([folder], tmp_path / "report.html")
    assert "Heads adapted to a site" in page.headings
    for told in ("77.7 %", "0.40 of the global one", "34.5 %", "mean of 1 site that took no part; 2 epochs"):
        assert told in page.text


def test_a_deployment_s_run_folder_has_no_sites_and_no_baselines(tmp_path: Path) -> None:
    page = written([run_folder(tmp_path / "run", simulated=False)], tmp_path / "report.html")
    assert "Who has what" not in page.headings
    assert "For comparison" not in page.text
    assert "simulated" not in page.text


def test_hostile_names_are_texts(tmp_path: Path) -> None:
    sites = [name.replace("/", "∕").replace("\x07", "")[:60] for name in HOSTILE]
    page = written([run_folder(tmp_path / "run", sites=sites, classes=HOSTILE)], tmp_path / "report.html")
    assert "<script>alert(1)</script>" in page.text
    assert "a & b \"quoted\" 'x'" in page.text
    assert "{{7*7}}" in page.text
    assert "fill: #fe0001" in page.text, "a name is no colour"
    assert "שלום עולם" in page.text
    assert "👩‍⚕️ clinic 🏥" in page.text
    assert "x" * 300 not in page.source, "shortened"
    assert not set("\u202e\x07") & set(page.source)
    assert "img" not in page.elements


def test_a_hundred_sites_and_two_hundred_classes_are_shortened_with_a_note(tmp_path: Path) -> None:
    big = run_folder(
        tmp_path / "big", sites=[f"hospital-{i}" for i in range(100)], classes=[f"species {i}" for i in range(200)]
    )
    page = written([big], tmp_path / "report.html")
    assert "The first 50 of 100 rows; all are in summary.json." in page.text
    assert "The 20 most frequent confusions" in page.text
    assert len(page.source) < 500_000


def test_runs_that_differ_are_compared(run: Path, tmp_path: Path) -> None:
    other = run_folder(tmp_path / "other", privacy={}, dp="image", epsilon=2.0, weighting="uniform", rounds=20)
    page = written([run, other], tmp_path / "report.html")
    assert "No promise of privacy is made by 1 run of 2" in page.text
    assert "in the mean over sites, and 71.0 % with one that it trained alone." in page.text
    settings = page.source[page.source.index('id="settings"') : page.source.index('id="repeat"')]
    told = dict(re.findall(r'<th scope="row"><bdi>(\S+?)</bdi></th><td><bdi>(.*?)</bdi>', settings))
    assert told == {"learning-rate": "2.5", "rounds": "12", "weighting": "examples", "dp": "none", "epsilon": "0"}


def test_runs_on_different_data_have_no_winner(run: Path, tmp_path: Path) -> None:
    other = run_folder(tmp_path / "other", data="pacs", seed=1)
    same = written([run, run_folder(tmp_path / "same", seed=1, rounds=3)], tmp_path / "same.html")
    assert "In bold the highest accuracy." in same.text
    page = written([run, other], tmp_path / "report.html")
    assert "2 data sets, no comparison" in page.text
    assert "On pacs other has" in page.text
    assert "best of" not in page.text
    assert "highest" not in page.text
    assert "marked" not in re.findall(r'<section id="runs".*?</section>', page.source, re.S)[0]


def test_a_one_shot_head_has_no_rounds(run: Path, tmp_path: Path) -> None:
    once = run_folder(tmp_path / "once", strategy="fedncm", rounds=30, server_learning_rate=0.3)
    page = written([run, once], tmp_path / "report.html")
    settings = page.source[page.source.index('id="settings"') : page.source.index('id="repeat"')]
    assert re.findall(r"<bdi>rounds</bdi></th><td><bdi>(.*?)</bdi></td><td><bdi>(.*?)</bdi>", settings) == [("12", "—")]
    assert "71.0 %" in page.text, "the mean of sites alone is in the table"


def test_a_run_has_one_colour_in_all_figures(run: Path, tmp_path: Path) -> None:
    private = run_folder(tmp_path / "private", privacy={}, dp="image", epsilon=2.0, weighting="uniform")
    page = written([private, run], tmp_path / "report.html")
    drawn = {
        title: set(re.findall(r"stroke: var\(--(s\d)\)", body))
        for body in re.findall(r"<figure.*?</figure>", page.source, re.S)
        for title in re.findall(r'<title id="\S+">(.*?)</title>', body)
    }
    assert drawn["Accuracy by round"] == {"s2"}, "the first has no curve: the second keeps its colour"
    assert drawn["Accuracy by site"] == {"s1", "s2"}


def test_seeds_of_one_setting_have_mean_and_spread(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / f"seed-{i}", seed=i) for i in range(3)]
    accuracy = [json.loads((folder / "summary.json").read_text("utf-8"))["accuracy"] for folder in runs]
    mean = sum(accuracy) / 3
    spread = (sum((value - mean) ** 2 for value in accuracy) / 2) ** 0.5
    page = written(runs, tmp_path / "report.html")
    assert f"{100 * mean:.1f} ± {100 * spread:.1f} %" in page.text
    assert "over 3 seeds (0 to 2)" in page.text
    two = written(runs[:2], tmp_path / "two.html")
    assert "two are too few to tell how much a seed changes" in two.text
    assert "±" not in two.text


def test_many_runs_are_drawn_with_the_best_told_apart(run: Path, tmp_path: Path) -> None:
    folders = [tmp_path / f"run-{i}" for i in range(60)]
    for folder in folders:
        shutil.copytree(run, folder)
    page = written(folders, tmp_path / "report.html")
    assert "In colour the 6 best; the other 54 are thin grey lines." in page.text
    assert "The first 50 of 60 rows" in page.text


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folder(tmp_path_factory.mktemp("benchmarks") / "bench")


@pytest.fixture(scope="module")
def bench_page(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return written([bench], tmp_path_factory.mktemp("page") / "report.html")


def test_a_benchmark_names_the_best_method_of_each_setting(bench_page: Page) -> None:
    page = bench_page
    assert "The best of 15 methods is fed3r with 66.9 ± 0.8 %" in page.text
    promise = "Differential privacy with ε = 0.5 to 8 at δ = 10⁻⁵ is promised by 10 methods, for one training image added or removed."
    assert promise in page.text
    assert page.headings[:4] == ["The answer", "At a glance", "iid", "alpha-0.3"]
    for title in (
        "Accuracy by method, iid",
        "Accuracy by round, iid",
        "Accuracy against ε, iid",
        "Accuracy against bytes, iid",
    ):
        assert title in page.text
    assert "the paper's table 2" in page.text
    assert page.text.count("not run") == 1, "a number from elsewhere whose like was not run here"
    assert "fedtransfer benchmark --preset privacy" in page.text


def test_what_sites_have_on_their_own_images_stands_beside_what_each_has_alone(
    bench_page: Page, tables: Path, tmp_path: Path
) -> None:
    assert "In the mean over sites it has 68.9 % there, each site alone 71.2 %." in bench_page.text
    assert (
        "each site alone, on all classes own images: best method / alone sites that do better alone" in bench_page.text
    )
    assert "68.9 % / 71.2 %" in bench_page.text
    altered(tables, lambda row: {name: cell for name, cell in row.items() if not name.startswith("own_mean")})
    older = written([tables], tmp_path / "older.html").text
    assert "own images: best method" not in older
    assert "In the mean over sites" not in older
    assert "30 % of sites do better alone" in older


@pytest.fixture
def tables(bench: Path, tmp_path: Path) -> Path:
    """A copy of the benchmark without its runs, to be altered."""
    return shutil.copytree(bench, tmp_path / "bench", ignore=shutil.ignore_patterns("runs"))


def altered(folder: Path, change: Callable[[dict[str, str]], dict[str, str]], file: str = "table.csv") -> Path:
    """Change each row of a table of a folder."""
    with (folder / file).open(encoding="utf-8", newline="") as lines:
        rows = [change(dict(row)) for row in csv.DictReader(lines)]
    write_csv(folder / file, list(rows[0]), [list(row.values()) for row in rows])
    return folder


def test_accuracies_stand_beside_the_epsilon_that_they_are_had_at(tables: Path, tmp_path: Path) -> None:
    """And ε is rounded up: what was spent of a budget of 8 is told as 8, in sentences, tables and figures."""

    def spent(row: dict[str, str]) -> dict[str, str]:
        return {**row, "epsilon": str(0.99999 * float(row["epsilon"]))} if row["epsilon"] else row

    folder = altered(tables, spent)
    best = dict[tuple[str, str], float]()
    for row in csv.DictReader((folder / "table.csv").open(encoding="utf-8")):
        if not row["method"].startswith(("pooled", "local", "majority")):
            level = f"{float(row['epsilon']):.0f}" if row["epsilon"] else ""
            best[row["setting"], level] = max(best.get((row["setting"], level), 0), float(row["accuracy"]))
    bare, most = (span(*(f"{100 * best[name, level]:.0f}" for name in ("alpha-0.3", "iid"))) for level in ("", "8"))
    page = written([folder], tmp_path / "report.html")
    assert f"How good? {bare} % without differential privacy, {most} % at ε = 8, " in page.text
    assert f"at ε = 8 the best is fed3r ε=8 with {100 * best['iid', '8']:.1f} ± 0.8 %" in page.text
    glance = re.findall(r'<section id="glance".*?</section>', page.source, re.S)[0]
    columns = re.findall(r'<th scope="col"><bdi>(.*?)</bdi>', glance)
    rows = {
        re.findall(r'<th scope="row"><bdi>(.*?)</bdi>', row)[0]: re.findall(r"<td.*?><bdi>(.*?)</bdi>", row)
        for row in re.findall(r"<tr.*?</tr>", glance.split("<tbody>")[1], re.S)
    }
    assert columns[:3] == ["setting", "best without differential privacy", "best at ε = 8"]
    for setting, cells in rows.items():
        assert cells[0].startswith(f"{100 * best[setting, '']:.1f} ± ")
        assert cells[1].startswith(f"{100 * best[setting, '8']:.1f} ± ")
        assert cells[1].endswith(", fed3r"), "without the ε that the column names"
    assert set(rows) == {"iid", "alpha-0.3"}
    assert "7.9" not in page.text.split("To repeat it")[0]


def test_sites_that_do_better_alone_are_told_of(run: Path, page: Page, tables: Path, tmp_path: Path) -> None:
    altered(tables, lambda row: {**row, "worse_than_local": "0.88" if row["method"] == "fed3r" else "1.0"})
    told = written([tables], tmp_path / "report.html").text
    assert (
        "88 % of sites do better alone on their own test images than with fed3r (by method, from 88 % to 100 %)" in told
    )
    own = json.loads((run / "summary.json").read_text("utf-8"))["site_accuracy"]
    assert f"{sum(accuracy < 0.6 for accuracy in own.values())} of 5 sites do better alone" in page.text
    assert "the site alone" in page.text


def test_of_two_seeds_both_values_are_told_and_of_one_that_it_is_one(tmp_path: Path) -> None:
    two = written([benchmark_folder(tmp_path / "two", ("iid",), 2)], tmp_path / "two.html")
    accuracy = next(csv.DictReader((tmp_path / "two" / "table.csv").open(encoding="utf-8")))["accuracy"]
    low, high = (f"{100 * (float(accuracy) + off):.1f}" for off in (-0.01, 0.01))
    assert f"{100 * float(accuracy):.1f} ({low} to {high}) %" in two.text
    assert "Bars span the values of two seeds" in two.text
    assert "±" not in two.text
    one = written([benchmark_folder(tmp_path / "one", ("iid",), 1)], tmp_path / "one.html")
    assert "1 seed each" in one.text
    assert "From one seed each" in one.text
    assert "±" not in one.text
    assert "95 % interval" not in one.text


def test_a_benchmark_of_baselines_alone_tells_of_these(tables: Path, tmp_path: Path) -> None:
    file = tables / "table.csv"
    lines = file.read_text("utf-8").splitlines()
    kept = [line for line in lines if line.split(",")[1].startswith(("method", "pooled", "local"))]
    file.write_text("\n".join(kept) + "\n", "utf-8")
    told = written([tables], tmp_path / "report.html").text
    assert "A benchmark of baselines alone in 2 settings" in told
    assert "% with all images in one place" in told
    assert "No method was run; the best baseline is pooled" in told


def test_a_setting_that_failed_wholly_is_named_in_the_answer_and_every_failure_once(
    tables: Path, tmp_path: Path
) -> None:
    about = json.loads((tables / "benchmark.json").read_text("utf-8"))
    about["failures"] = {f"alpha-0.1, fedavg, seed {seed}": "too few images" for seed in range(3)}
    about["failures"] |= {f"iid, fed3r, seed {seed}": "no memory" for seed in range(2)}
    (tables / "benchmark.json").write_text(json.dumps(about), "utf-8")
    page = written([tables], tmp_path / "report.html")
    answer, rest = page.text.split("At a glance", 1)
    assert "Nothing is known of alpha-0.1: all 3 runs failed: too few images." in answer
    assert "no memory" not in answer
    assert rest.count("too few images") == rest.count("no memory") == 1
    assert "iid: 2 runs of fed3r failed: no memory." in rest


def test_costs_are_those_of_the_best_methods_with_their_names(bench_page: Page) -> None:
    assert (
        "270 KB for the best without differential privacy, 270 KB for the best at ε = 8, 270 KB for the best at ε = 0.5"
        in bench_page.text
    )
    assert "Of all methods least by fedncm, 10.3 KB, most by scaffold, 4.2 MB." in bench_page.text
    assert "Its last start took 15 min 18 s" in bench_page.text


def test_who_promises_no_privacy_is_told_by_setting_where_methods_differ_in_it(tables: Path, tmp_path: Path) -> None:
    told = written([tables], tmp_path / "some.html").text
    assert "No promise of privacy is made by 5 methods: nothing bounds what can be learnt there." in told
    assert "some setting" not in told
    private = {"method": "dp-sgd ε=8", "setting": "iid"}
    altered(tables, lambda row: {**row, "epsilon": ""} if private.items() <= row.items() else row)
    told = written([tables], tmp_path / "sometimes.html").text
    assert "No promise of privacy is made by 5 methods" in told
    assert "In some settings none is made by dp-sgd ε=8: nothing bounds" in told
    altered(tables, lambda row: {**row, "epsilon": ""})
    told = written([tables], tmp_path / "none.html").text
    assert "None of the 15 methods promises privacy: nothing bounds what can be learnt." in told
    assert "for the best method" in told


def test_methods_whose_intervals_overlap_with_the_best_are_in_bold_with_it(tables: Path, tmp_path: Path) -> None:
    best = {"fed3r": "0.70", "fedavg": "0.69", "fedprox": "0.68"}
    altered(tables, lambda row: {**row, "accuracy": best.get(row["method"], "0.5"), "accuracy_interval": "0.006"})
    page = written([tables], tmp_path / "report.html")
    scores = re.findall(r"<caption>Scores</caption>.*?</table>", page.source, re.S)
    for table in scores:
        marked = re.findall(r'<tr class="marked"><th scope="row"><bdi>(.*?)</bdi>', table)
        assert marked == ["fedavg", "fed3r"]
    assert "and those whose intervals or values overlap with its own." in page.text


@pytest.mark.parametrize(
    ("layer", "told"),
    [("head", "Frozen backbone {}."), ("conv5", "Backbone {}, frozen but where it is trained from conv5 on.")],
)
def test_a_backbone_that_is_trained_is_not_called_frozen(layer: str, told: str, tmp_path: Path) -> None:
    folder = benchmark_folder(tmp_path / "bench", ("iid",), 1)
    run = folder / "runs" / "iid" / "seed-0" / "fedavg"
    write_settings(run, RunConfig(rounds=12, trainable=layer))
    name = "resnet18v2-tinyimagenet at 64 px"
    text = written([folder], tmp_path / "report.html").text
    assert told.format(name) in text
    alone = written([run], tmp_path / "run.html").text
    assert (f"Frozen backbone {name}." if layer == "head" else f"Backbone {name}, trained from conv5 on.") in alone


def test_where_pooled_softmax_is_no_upper_bound_costs_say_so(bench_page: Page, tables: Path, tmp_path: Path) -> None:
    assert "getting there says little" not in bench_page.text
    altered(tables, lambda row: {**row, "accuracy": "0.6"} if row["method"] == "pooled softmax" else row)
    text = written([tables], tmp_path / "report.html").text
    assert "is of pooled softmax, which itself has 60.0 %, less than 95 % of the " in text
    assert "of pooled ridge: it has as many epochs as a site in all rounds, too few here" in text


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ([], "Settings may have test images of their own: compare within a row."),
        ([["a", ""], ["b", ""]], "Each setting has its own test images: compare within a row."),
        ([["a", "test"], ["b", "development"]], ""),
    ],
)
def test_settings_on_other_test_images_are_not_to_be_compared(
    splits: list[list[str]], told: str, tmp_path: Path
) -> None:
    folder = benchmark_folder(tmp_path / "bench", seeds=1)
    for setting in ("iid", "alpha-0.3") if splits else ():
        run = folder / "runs" / setting / "seed-0" / "fedavg"
        write_csv(run / "sites" / "north" / "images.csv", ("path", "split"), splits)
    text = written([folder], tmp_path / "report.html").text
    assert told in text
    assert ("compare within a row" in text) is bool(told)


def test_ticks_say_where_they_are(tables: Path, tmp_path: Path) -> None:
    """At steps of 2.5 points they would be told as 75, 78, 80, 82 %."""
    steps = {name: 0.74 + 0.021 * i for i, name in enumerate(("dp-sgd ε=0.5", "dp-sgd ε=1", "dp-sgd ε=8"))}
    altered(tables, lambda row: {**row, "accuracy": str(steps.get(row["method"], 0.94)), "accuracy_interval": ""})
    page = written([tables], tmp_path / "report.html")
    figures = re.findall(r"<figure.*?</figure>", page.source, re.S)
    figure = next(found for found in figures if "Accuracy against ε, iid" in found)
    ticks = [float(text) for text in re.findall(r">(\d[\d.]*) %</text>", figure)]
    assert len(ticks) > 3
    assert np.ptp(np.diff(ticks)) < 1e-9


def test_no_interval_leaves_the_axis(tables: Path, tmp_path: Path) -> None:
    altered(tables, lambda row: {**row, "accuracy": "0.97", "accuracy_interval": "0.1"})
    page = written([tables], tmp_path / "report.html")
    assert "97.0 % (87.0 % to 100.0 %)" in page.text


def test_a_curve_that_still_rises_is_named(tmp_path: Path) -> None:
    folder = benchmark_folder(tmp_path / "bench", ("iid",), 1)
    altered(
        folder / "runs" / "iid" / "seed-0" / "fedavg",
        lambda row: {**row, "accuracy": str(0.1 + 0.04 * int(row["round"]))},
        "history.csv",
    )
    page = written([folder], tmp_path / "report.html")
    assert "fedavg was still rising at the last round: more rounds may give more." in page.text
    run = written([folder / "runs" / "iid" / "seed-0" / "fedavg"], tmp_path / "run.html")
    assert "Accuracy was still rising at the last round, by 8.0 points" in run.text


def test_the_scores_tell_epsilon_beside_the_method_and_leave_out_what_agrees(
    bench_page: Page, tables: Path, tmp_path: Path
) -> None:
    columns = "".join(re.findall(r"<caption>Scores</caption>\s*<thead>(.*?)</thead>", bench_page.source, re.S))
    assert re.findall(r"<bdi>(.*?)</bdi>", columns)[:3] == ["method", "ε", "accuracy"]
    assert "worst tenth of sites" in columns
    assert "worst site" not in columns
    assert "precision" not in columns
    assert "Every measure is in table.csv." in bench_page.text
    assert "difference to fedavg, points" in columns
    altered(tables, lambda row: {**row, "bottom_decile": row["worst_site"], "difference": "-0.004"})
    page = written([tables], tmp_path / "report.html")
    assert "worst tenth of sites" not in page.text
    assert "−0.4 ± 0.8" in page.text


def test_a_setting_is_described(bench_page: Page) -> None:
    assert "iid On cifar10-demo: 5 sites, dealt by Dirichlet(0.3), uneven classes." in bench_page.text


def test_every_point_is_among_the_numbers_with_its_interval(bench_page: Page) -> None:
    figures = re.findall(r"<figure.*?</figure>", bench_page.source, re.S)
    figure = next(found for found in figures if "Accuracy against bytes, iid" in found)
    rows = re.findall(r'<th scope="row"><bdi>(.*?)</bdi></th><td.*?<bdi>.*?</bdi></td><td.*?<bdi>(.*?)</bdi>', figure)
    assert len(rows) == 15
    assert {"fedavg", "fed3r with ε, ε = 0.5", "dp-sgd, ε = 8"} <= {name for name, _ in rows}
    assert all(" to " in told for _, told in rows)


def test_runs_of_an_earlier_plan_are_not_drawn(tmp_path: Path) -> None:
    """Their folders stay where a plan is changed and the benchmark goes on; the tables have rows of the new plan alone."""
    folder = benchmark_folder(tmp_path / "bench", ("iid",), 1)
    assert "1 method with rounds" not in written([folder], tmp_path / "report.html").text
    cells = (folder / "cells.csv").read_text("utf-8").splitlines()
    (folder / "cells.csv").write_text("\n".join(cells[:2]) + "\n", "utf-8")
    assert "1 method with rounds" in written([folder], tmp_path / "report.html").text


def test_an_audit_tells_what_is_learnt_and_that_no_claim_is_refuted(tmp_path: Path) -> None:
    page = written([audit_folder(tmp_path / "audit")], tmp_path / "report.html")
    assert "In 4 audits of one run each, on canaries, no lower bound of ε" in page.text
    assert (
        "Canaries are made-up features, 2,000 or more in a federation of their own with the mechanism of each"
        in page.text
    )
    assert "too few" in page.text
    assert page.elements.count("img") == 4 * 6
    alternatives = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert alternatives[0] == "cat, site-0: original"
    assert "each the only one of its class at its site, where federations have 5 images a class, and what" in page.text
    assert "image-rendering: pixelated" in page.source


def test_one_run_that_stands_for_several_cases_is_counted_once(tmp_path: Path) -> None:
    """Masks change nothing of a mechanism, so its bound is told of both; it was tested once."""
    folder = audit_folder(tmp_path / "audit")
    table = (folder / "table.csv").read_text("utf-8").splitlines()
    table += [line.replace(",dp,", ",both,", 1) for line in table if ",one run," in line]
    (folder / "table.csv").write_text("\n".join(table) + "\n", "utf-8")
    page = written([folder], tmp_path / "report.html")
    assert "In 4 audits of one run each, on canaries, which stand for 8 cases, no lower bound of ε" in page.text


def test_a_bound_above_its_claim_refutes_it(tmp_path: Path) -> None:
    page = written([audit_folder(tmp_path / "audit", broken=True)], tmp_path / "report.html")
    assert "1 claim refuted" in page.text
    assert "fed3r, dp, ε = 1: the bound 1.4 is above the claim 1." in page.text


def of_a_run(folder: Path) -> Path:
    """Make an audit folder one of a single run: no protection named, images as they are, too few to tell rates at 1 %."""
    audit_folder(folder)
    for name in ("table.csv", "roc.csv"):
        header, *rows = list(csv.reader((folder / name).read_text("utf-8").splitlines()))
        images, at = header.index("images_per_class"), {column: i for i, column in enumerate(header)}
        kept = [row for row in rows if row[:2] == ["fedavg", "none"]]
        for row in kept:
            row[1], row[images] = "", "0"
            if name == "table.csv":
                row[at["count"]] = "300"
                if row[at["measure"]].startswith("tpr"):
                    row[at["value"]] = row[at["low"]] = row[at["high"]] = ""
        write_csv(folder / name, header, kept)
    about = json.loads((folder / "audit.json").read_text("utf-8"))
    about |= {"federations": [], "run": {"name": "my-run", "rounds": 20, "accuracy": 0.52}, "promises": []}
    (folder / "audit.json").write_text(json.dumps(about), "utf-8")
    return folder


def test_an_audit_of_a_run_is_about_that_run(tmp_path: Path) -> None:
    page = written([of_a_run(tmp_path / "my-run" / "audit")], tmp_path / "report.html")
    assert "Audit of my-run – fedtransfer report" in page.text
    assert "What is learnt from this run, as it ran?" in page.text
    assert "With ," not in page.text
    assert "the run my-run, fedavg with no protection, on cifar10-demo" in page.text
    assert "No ε is claimed, so nothing bounds what a better attack may find." in page.text
    table = page.source[page.source.index('id="attacks"') : page.source.index('id="images"')]
    assert "protection</bdi>" not in table
    assert "images a class</bdi>" not in table
    assert "last round: it is right on 50.0 % of test images. The run's summary tells 52.0 %" in page.text
    assert "What does protection cost?" not in page.text


def test_no_rate_is_told_in_words_where_the_table_declines(tmp_path: Path) -> None:
    page = written([of_a_run(tmp_path / "audit")], tmp_path / "report.html")
    assert "At 1 % false alarms there are too few answers to tell who finds most." in page.text
    assert "Curves begin where false alarms are 10 answers, at 3.3 %." in page.text
    assert "finds most members" not in page.text
    assert "at 5 %" in page.text
    assert "at 0.5 %" not in page.text


def test_a_figure_tells_where_the_curves_of_each_number_of_images_begin(tmp_path: Path) -> None:
    folder = audit_folder(tmp_path / "audit")
    for name in ("table.csv", "roc.csv"):
        header, *rows = list(csv.reader((folder / name).read_text("utf-8").splitlines()))
        images = header.index("images_per_class")
        more = [[*row[:images], "25", *(cell.replace("2000", "5000") for cell in row[images + 1 :])] for row in rows]
        write_csv(folder / name, header, [*rows, *more])
    page = written([folder], tmp_path / "report.html")
    assert "Curves begin where false alarms are 10 answers, at 0.5 % (5 a class) and 0.2 % (25 a class)." in page.text


def test_an_audit_of_a_plan_is_told_at_a_glance(tmp_path: Path) -> None:
    """A row a protection, a column a question: the most that was found, who has it, and what a guess comes to."""
    page = written([audit_folder(tmp_path / "audit")], tmp_path / "report.html")
    for told in (
        "no protection 100.0 %, fedavg and fed3r 0.98, fedavg and fed3r 16.0 dB, fedavg and fed3r 13.5 %, fedavg by LiRA online "
        "and fed3r by LiRA online 50.0 %",
        "differential privacy, ε = 2 12.0 %, fedavg and fed3r 0.12, fedavg and fed3r 12.5 dB, fedavg and fed3r 1.9 %, fedavg by "
        "LiRA online and fed3r by LiRA online 14.8 %",
        "a guess 50.0 % 0.76 13.1 dB 1.0 % 10.0 %",
        "All with 5 images a class, the fewest of this audit, where attacks show most.",
    ):
        assert told in page.text, told


def test_the_answer_of_a_plan_is_short(tmp_path: Path) -> None:
    page = written([audit_folder(tmp_path / "audit")], tmp_path / "report.html")
    for told in (
        "How many members are found? 13.5 %; 1.9 % at ε = 2",
        "Members found at 1 % false alarms, with 5 images a class.",
        "At ε = 2: 1.9 %, fedavg by LiRA online and fed3r by LiRA online. These heads are right on 14.8 % of test images.",
        "Guessing has 1.0 %, and is right on 10.0 % of test images.",
        "Of accuracy; most is lost by fedavg, 5 images a class, under differential privacy, ε = 2: 14.8 % in place of 50.0 %.",
        "ε = 1 to 4 at δ = 10⁻⁵, unit one image, neighbours: add or remove one image.",
        "64 shadow federations of each. More of them find more: --shadows 256.",
    ):
        assert told in page.text, told
    assert "up to 35.2 points" in page.text
    assert page.source.count('<p class="number') == 3


def test_what_is_learnt_from_a_run_begins_with_what_is_most_above_its_guess(tmp_path: Path) -> None:
    folder = of_a_run(tmp_path / "my-run" / "audit")
    header, *rows = list(csv.reader((folder / "table.csv").read_text("utf-8").splitlines()))
    at = {column: i for i, column in enumerate(header)}
    for row in rows:
        cosines = {"cosine@1": (0.1, 0.24, 1), "cosine@2-5": (0.95, 0.74, 2), "cosine@6+": (0.97, 0.91, 4)}
        if numbers := cosines.get(row[at["measure"]]):
            for column, number in zip(("value", "by_chance", "count"), numbers, strict=True):
                row[at[column]] = str(number)
        elif row[at["measure"]] == "l1":
            row[at["value"]], row[at["by_chance"]] = "0.16", "0.97"
    write_csv(folder / "table.csv", header, rows)
    page = written([folder], tmp_path / "report.html")
    assert (
        "Features of classes with 2 to 5 images (2 of them): cosine 0.95; a guess has 0.74. Features of classes with 6 images or "
        "more (4 of them): cosine 0.97; a guess has 0.91. Features of a class's only image (1 of them): cosine 0.10; a guess "
        "has 0.24. The guess is the mean of the sites' own test images of the class, which an outsider does not have"
    ) in page.text
    assert "They are off by 0.16 of the images; equal counts by 0.97." in page.text
    assert "At a glance" not in page.text


def test_a_run_that_claims_nothing_is_told_what_canaries_show(tmp_path: Path) -> None:
    folder = of_a_run(tmp_path / "my-run" / "audit")
    with (folder / "table.csv").open("a", encoding="utf-8") as file:
        for measure, value in (("right_guesses", 1), ("epsilon_lower_bound", 6.344), ("most_provable", 6.344)):
            file.write(f"fedavg,,,0,one run,{measure},{value},,,,1800,\n")
    page = written([folder], tmp_path / "report.html")
    assert (
        "100.0 % of 1,800 guesses about canaries were right: ε is above 6.34, the most that they can prove."
        in page.text
    )
    assert "with the mechanism of this run: the bound tests the mechanism, not your images." in page.text


def test_settings_that_federations_share_and_those_that_differ_stand_apart(tmp_path: Path) -> None:
    page = written([audit_folder(tmp_path / "audit")], tmp_path / "report.html")
    assert "What differs among them federation dp fedavg, none none fedavg, dp image" in page.text
    assert "Settings that all federations share setting value rounds 20" in page.text


def test_what_differs_in_numbers_is_left_out_of_notes(tmp_path: Path) -> None:
    folder = audit_folder(tmp_path / "audit")
    rows = (folder / "table.csv").read_text("utf-8").splitlines()
    for i, row in enumerate(rows):
        if ",exact_share," in row:
            rows[i] = f"{row}classes with the right number"
        elif ",l1," in row:
            rows[i] = f"{row}of {i} images"
    (folder / "table.csv").write_text("\n".join(rows) + "\n", "utf-8")
    page = written([folder], tmp_path / "report.html")
    assert "Counts found exactly: classes with the right number." in page.text
    assert "L1 distance of counts:" not in page.text
    assert "… images" not in page.text


def test_what_was_measured_once_is_shown_once_and_as_the_table_says(tmp_path: Path) -> None:
    """Masks leave the head as it is: findings under them are copies, of which one curve and one row are shown."""
    folder = audit_folder(tmp_path / "audit")
    for name in ("table.csv", "roc.csv"):
        header, *rows = (folder / name).read_text("utf-8").splitlines()
        kept = [
            row for row in rows if ",masks," not in row or not any(word in row for word in ("LiRA", "RMIA", "loss"))
        ]
        copies = [
            row.replace(",none,", ",masks,")
            for row in kept
            if ",none," in row and any(word in row for word in ("LiRA", "RMIA", "loss"))
        ]
        (folder / name).write_text("\n".join([header, *kept, *copies]) + "\n", "utf-8")
    page = written([folder], tmp_path / "report.html")
    assert "<bdi>fedavg, none, masks, 5 a class</bdi>" in page.source
    assert "<bdi>fedavg, masks, 5 a class</bdi>" not in page.source
    assert page.source.count("<bdi>none, masks</bdi>") == 2 * 4
    top = max(
        float(row["value"]) for row in csv.DictReader((folder / "table.csv").open()) if row["measure"] == "tpr@1%"
    )
    assert f"LiRA online finds most members: {100 * top:.1f} %; guessing would find 1 %." in page.text


def test_a_page_says_that_it_shows_original_images(tmp_path: Path) -> None:
    folder = audit_folder(tmp_path / "audit")
    page = written([folder], tmp_path / "report.html")
    assert (
        "This page shows 6 original training images: whoever gets it, or reconstructions.npz, gets them." in page.text
    )
    (folder / "reconstructions.npz").unlink()
    page = written([folder], tmp_path / "report.html")
    assert "original training image" not in page.text
    assert "img" not in page.elements
    assert "the pictures were not kept" in page.text


def test_without_a_class_of_one_image_there_is_no_gallery(tmp_path: Path) -> None:
    folder = audit_folder(tmp_path / "audit")
    images = np.empty((0, 32, 32, 3), np.uint8)
    names, labels = np.array(["fedavg, none"]), np.array([], np.str_)
    np.savez(
        folder / "reconstructions.npz",
        originals=images, class_means=images, rebuilt=images[None], names=names, labels=labels, sites=labels,
    )  # fmt: skip
    page = written([folder], tmp_path / "report.html")
    assert "Images rebuilt" not in page.headings
    assert "original training image" not in page.text


def test_runs_benchmarks_and_audits_stand_on_one_page(run: Path, tmp_path: Path) -> None:
    page = written(
        [run, audit_folder(tmp_path / "audit"), benchmark_folder(tmp_path / "bench", ("iid",), 1)],
        tmp_path / "report.html",
    )
    assert [heading for heading in page.headings if heading.endswith("The answer")] == [
        "plain: The answer",
        "Audit: audit: The answer",
        "bench: The answer",
    ]
    links = re.findall(r"<nav.*?</nav>", page.source, re.S)[0]
    assert "<p><bdi>bench</bdi></p>" in links
    assert "bench: " not in links, "a name stands once, over the links to what is about it"


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _unfinished(folder: Path) -> None:
    run_folder(folder)
    (folder / "summary.json").unlink()


def _unfinished_benchmark(folder: Path) -> None:
    benchmark_folder(folder, ("iid",), 1)
    for name in ("benchmark.json", "table.csv", "cells.csv"):
        (folder / name).unlink()


def _cut_off(folder: Path) -> None:
    run_folder(folder)
    (folder / "summary.json").write_text('{"accuracy": 0.', "utf-8")


def _other_columns(folder: Path) -> None:
    run_folder(folder)
    (folder / "history.csv").write_text("a,b\n1,2\n", "utf-8")


def _wrong_pictures(folder: Path) -> None:
    audit_folder(folder)
    (folder / "reconstructions.npz").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (_nothing, "expected a run folder"),
        (_unfinished, "this run is not finished"),
        (_unfinished_benchmark, "a benchmark that is not finished"),
        (_cut_off, "cannot be read"),
        (_other_columns, "has no column"),
        (_wrong_pictures, "cannot be read"),
        (lambda folder: None, "no such folder"),
    ],
)
def test_anything_else_is_refused(made: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    made(tmp_path / "it")
    with pytest.raises(UserError, match=told):
        write_report([tmp_path / "it"], tmp_path / "report.html", "")
    assert not (tmp_path / "report.html").exists()


def test_the_command_writes_into_the_folder_and_replaces_reports_only(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def report(*arguments: str) -> str:
        result = runner.invoke(fedtransfer.app, ["report", *arguments])
        return result.output if result.exception is None else str(result.exception)

    assert report("run").strip() == "run/report.html"
    assert report("run").strip() == "run/report.html", "a report is replaced"
    (folder / "report.html").write_text("mine", "utf-8")
    assert "is no report of fedtransfer" in report("run")
    assert (folder / "report.html").read_text("utf-8") == "mine"
    assert report("run", "--force").strip() == "run/report.html"
    shutil.copytree(folder, tmp_path / "other")
    assert report("run", "other").strip() == "report.html"
    assert "fedtransfer report run other" in (tmp_path / "report.html").read_text("utf-8")
    assert "is a folder" in report("run", "--out", str(tmp_path))


@given(st.floats(1e-6, 1e6))
def test_no_less_than_the_epsilon_spent_is_told(value: float) -> None:
    told = float(epsilon(value).replace(",", ""))
    assert value <= told <= 1.01 * value


@pytest.mark.parametrize(
    ("value", "told"), [(7.99999, "8"), (0.999473, "1"), (0.3, "0.3"), (2.001, "2.01"), (1234.0, "1,240")]
)
def test_epsilon_has_three_digits(value: float, told: str) -> None:
    assert epsilon(value) == told


@given(st.integers(11, 200), st.integers(0, 2**32 - 1))
def test_a_level_curve_is_not_called_rising_and_a_line_is(rounds: int, seed: int) -> None:
    noise = 0.002 * np.random.default_rng(seed).standard_normal(rounds)
    assert rising((0.7 + noise).tolist()) == 0, "less than a point"
    line = np.linspace(0.1, 0.9, rounds)
    assert rising(line.tolist()) == pytest.approx((rounds - 1) // 5 * (line[1] - line[0]))
