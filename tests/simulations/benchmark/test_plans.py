"""Plans: their contents, what lists stand for, and a random stream for each setting and seed."""

from collections import defaultdict
from pathlib import Path

import pytest

from fedtransfer.common.errors import UserError
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.benchmark import PRESETS
from fedtransfer.simulations.benchmark.folder import differing
from fedtransfer.simulations.benchmark.plans import Plan, bundled_plan, read_plan, run_seed

ROOT = Path(__file__).resolve().parents[3]
PLAN = """
seeds = [0, 1]
[common]
rounds = 3
min-images = 2
[settings.few]
data = "pictures"
sites = 2
alpha = 100.0
[settings.absent]
data = "not-there"
[methods.plain]
server-momentum = 0.0
server-learning-rate = 1.0
[methods.robust]
strategy = "median"
"""
TUNED = PLAN + """
[tuning]
seed = 7
[tuning.methods.plain]
learning-rate = [1.0, 2.0]
[tuning.methods.robust]
learning-rate = [0.5, 4.0]
"""  # fmt: skip


def plan_of(folder: Path, text: str = PLAN) -> Plan:
    path = folder / "plan.toml"
    path.write_text(text)
    return read_plan(path, folder / "out", {"pictures": str(folder)} if '"pictures"' in text else {})


def test_data_that_a_plan_does_not_name_are_refused(tmp_path: Path) -> None:
    plan_of(tmp_path)
    with pytest.raises(UserError, match=r"--data picture: .*did you mean 'pictures'"):
        read_plan(tmp_path / "plan.toml", tmp_path, {"picture": str(tmp_path)})
    with pytest.raises(UserError, match=r"^--data pictures=no/where: no such file or folder$"):
        read_plan(tmp_path / "plan.toml", tmp_path, {"pictures": "no/where"})


def test_settings_are_checked_where_data_are_not_there_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="alhpa"):
        plan_of(tmp_path, PLAN.replace('data = "not-there"', 'data = "not-there"\nalhpa = 0.1'))


def bundled(name: str, folder: Path) -> Plan:
    data = {"pacs": str(folder)} if name in ("heads", "depths") else {}
    return read_plan(bundled_plan(name), Path("out"), data)


def test_every_plan_that_comes_with_it_is_a_preset() -> None:
    assert {path.stem for path in (ROOT / "fedtransfer" / "assets" / "plans").glob("*.toml")} == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_plans_that_come_with_it_are_plans(name: str, tmp_path: Path) -> None:
    plan = bundled(name, tmp_path)
    assert not plan.remarks
    assert len({cell.config.out for cell in (*plan.cells, *plan.tuning)}) == len(plan.cells) + len(
        plan.tuning
    )
    assert {cell.key for cell in plan.cells} <= {cell.key for cell in plan.baselines}
    assert len({cell.seed for cell in plan.baselines}) >= 5, "intervals over less say little"
    if name == "heads":
        assert len({cell.setting for cell in plan.cells}) == 7
        assert max(cell.config.rounds for cell in plan.cells) <= 50


@pytest.mark.parametrize("name", PRESETS)
def test_settings_and_seeds_share_no_random_stream_and_methods_of_one_share_all(
    name: str, tmp_path: Path
) -> None:
    plan = bundled(name, tmp_path)
    seeds = defaultdict(set)
    for cell in (*plan.cells, *plan.baselines, *plan.tuning):
        seeds[cell.key].add(cell.config.seed)
    assert all(len(of_one) == 1 for of_one in seeds.values()), "methods of a setting and seed are paired"
    numbers = [min(of_one) for of_one in seeds.values()]
    assert len(set(numbers)) == len(numbers)
    assert not {cell.key for cell in plan.tuning} & {cell.key for cell in plan.baselines}
    for purpose in ("partition", "initial head", "cohort", "batches"):
        draws = {generator(number, purpose, 1, "site-0").integers(2**63) for number in numbers}
        assert len(draws) == len(numbers)


def test_the_seed_of_a_run_stays_what_it_is() -> None:
    """Else runs that are there would be made again, and tables could not be repeated."""
    assert [run_seed(0, "iid"), run_seed(1, "iid"), run_seed(0, "alpha-0.1")] == [
        1561552107,
        1738905036,
        408991891,
    ]


def test_a_list_stands_for_each_of_its_values(tmp_path: Path) -> None:
    text = PLAN.replace("alpha = 100.0", "alpha = [100.0, 0.5]\nfraction = 1.0").replace(
        "rounds = 3", "rounds = [3, 4]"
    )
    text = text.replace('strategy = "median"', 'strategy = "median"\nlearning-rate = [1.0, 2]')
    plan = plan_of(tmp_path, text)
    few = [f"few+rounds={rounds}+alpha={alpha}" for rounds in (3, 4) for alpha in (100, 0.5)]
    assert list(dict.fromkeys(cell.setting for cell in plan.cells)) == few
    methods = ["plain", "robust+learning-rate=1", "robust+learning-rate=2"]
    assert list(dict.fromkeys(cell.method for cell in plan.cells)) == methods
    assert len(plan.cells) == 4 * 3 * 2
    last = plan.cells[-1]
    assert (last.config.rounds, last.config.alpha, last.config.learning_rate) == (4, 0.5, 2.0)
    assert Path(last.config.out) == tmp_path / "out" / "runs" / few[-1] / "seed-1" / methods[-1]


def test_a_setting_may_say_something_of_a_method(tmp_path: Path) -> None:
    text = PLAN.replace(
        "[settings.absent]", "[settings.few.methods.robust]\nbatch-size = 7\n[settings.absent]"
    )
    assert {(cell.method, cell.config.batch_size) for cell in plan_of(tmp_path, text).cells} == {
        ("plain", 32),
        ("robust", 7),
    }


def test_a_plan_without_methods_has_its_baselines(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, PLAN[: PLAN.index("[methods.plain]")])
    assert not plan.cells
    assert [cell.key for cell in plan.baselines] == [("few", 0), ("few", 1)]


def test_tuning_has_a_seed_of_its_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TUNED)
    assert [(cell.method, cell.seed, dict(cell.tried)) for cell in plan.tuning] == [
        ("plain", 7, {"learning-rate": 1.0}), ("plain", 7, {"learning-rate": 2.0}),
        ("robust", 7, {"learning-rate": 0.5}), ("robust", 7, {"learning-rate": 4.0}),
    ]  # fmt: skip
    assert plan.tuning[1].config.learning_rate == 2.0
    assert not {cell.config.seed for cell in plan.tuning} & {cell.config.seed for cell in plan.cells}


def test_a_setting_without_its_data_is_left_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert [(c.setting, c.seed, c.method) for c in plan.cells] == [
        ("few", seed, method) for seed in (0, 1) for method in ("plain", "robust")
    ]
    assert len(plan.remarks) == 1
    assert all(words in plan.remarks[0] for words in ("absent", "--data not-there=PATH"))
    with pytest.raises(UserError, match="none of its data are there"):
        read_plan(tmp_path / "plan.toml", tmp_path / "out", {})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rounds = 3", "round = 3", r"settings.few: unknown key 'round'; did you mean 'rounds'"),
        (
            '"median"',
            '"mean"',
            r"settings.few with methods.robust: strategy: got 'mean'; did you mean 'median'",
        ),
        ("[methods.plain]", '[methods."a/b"]', r"'a/b' names a folder"),
        ("seeds", "seed", r"unknown key 'seed'; did you mean 'seeds'"),
        ("seeds = [0, 1]\n", "", r"plan.toml: seeds is missing; for example seeds = \[0, 1, 2\]"),
        ("[0, 1]", "[0, 1, 0]", r"seeds: got \[0, 1, 0\]; 0 is there 2 times; give each seed once"),
        ("sites = 2", "sites = []", r"settings.few: sites: got \[\]; expected a value, or a list of values"),
        ("sites = 2", "sites = {a = 1}", r"settings.few: sites: got \{'a': 1\}; expected a value"),
        ("sites = 2", "sites = [2, 2]", r"few\+sites=2 is there twice; give each value once"),
        ("seed = 7", "seed = 1", r"tuning.seed: got 1, which is one of seeds"),
        ("[0.5, 4.0]", "[0.5]", r"got grids of plain 2, robust 1; expected as many for each"),
        (
            "[tuning.methods.robust]\nlearning-rate = [0.5, 4.0]\n",
            "",
            r"tuning.methods: got none for robust; expected a grid",
        ),
        (
            "methods.robust]\nl",
            "methods.rubust]\nl",
            r"tuning.methods: no method 'rubust'; did you mean 'robust'",
        ),
        ("learning-rate = [1.0, 2.0]", "learning-rates = [1, 2]", r"unknown key 'learning-rates'"),
        ("[tuning]\n", "[tuning]\nsede = 1\n", r"tuning: unknown key 'sede'; did you mean 'seed'"),
        (
            'strategy = "median"',
            'dp = "image"\nepsilon = 1.0\nweighting = "uniform"',
            r"tuning.methods.robust: .* would not be accounted for under --dp",
        ),
        (
            "[settings.absent]",
            "[settings.few.methods.rubust]\n[settings.absent]",
            r"settings.few.methods: there is no 'rubust'",
        ),
        (
            "[settings.absent]",
            '[[expected]]\nsetting = "fuw"\nmethod = "plain"\naccuracy = 0.5\nsource = "x"\n'
            "[settings.absent]",
            r"expected: there is no 'fuw'; did you mean 'few'",
        ),
        (
            "[settings.absent]",
            "[[expected]]\nsettings = 1\n[settings.absent]",
            r"unknown key 'settings'; did you mean 'setting'",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in TUNED
    with pytest.raises(UserError, match=words):
        plan_of(tmp_path, TUNED.replace(old, new))


def test_a_preset_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'quik'; did you mean 'quick'"):
        bundled_plan("quik")


def test_what_does_not_change_a_result_does_not_make_it_another_run(tmp_path: Path) -> None:
    one, other = (cell.config for cell in plan_of(tmp_path).cells[:2])
    assert not differing(one, one.model_copy(update={"threads": 7, "out": "", "store": "/there"}))
    assert differing(one, one.model_copy(update={"rounds": 4}))
    assert differing(one, other)
    masked = one.model_copy(update={"masks": True})
    assert not differing(masked, masked.model_copy(update={"classes": "declared", "class_names": "cat,dog"}))


def test_the_plan_that_the_documentation_shows_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    plan = plan_of(tmp_path, page.split("```toml\n")[1].split("```")[0])
    assert len({cell.setting for cell in plan.cells}) == 4
    assert {cell.config.adaptivity for cell in plan.cells if cell.method == "fedadam"} == {0.001}
    assert all(f"`{name}`" in page for name in PRESETS)
