"""Sites that take no part: drawn, truly absent, and adapting the head afterwards."""

import csv
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import HeadSpec, initial_head, load_head
from fedtransfer.server.run_folder.folder import settings_of
from fedtransfer.simulations.data.unseen import adapt_unseen, few_images, set_aside
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.federation import Result, prepare, simulate

SITES = {f"site-{i}": i for i in range(10)}
SPEC = HeadSpec(5, 3)


@given(st.integers(0, 9), st.integers(0, 100))
def test_a_draw_by_the_seed_that_grows(unseen: int, seed: int) -> None:
    """A run with more unseen sites leaves out those of one with fewer, too."""
    config = RunConfig(unseen_sites=unseen, seed=seed)
    left, aside = set_aside(SITES, config)
    assert len(aside) == unseen
    assert {**left, **aside} == SITES
    assert list(left) == sorted(left)
    assert set_aside(dict(reversed(SITES.items())), config) == (left, aside)
    if unseen:
        assert set(set_aside(SITES, config.model_copy(update={"unseen_sites": unseen - 1}))[1]) < set(aside)


def test_draws_of_other_seeds_differ() -> None:
    drawn = {tuple(set_aside(SITES, RunConfig(unseen_sites=3, seed=seed))[1]) for seed in range(20)}
    assert len(drawn) > 10


def test_at_least_one_site_must_take_part() -> None:
    for unseen in (10, 11):
        with pytest.raises(UserError, match=rf"unseen-sites {unseen}: .*10 sites.* 9 or less"):
            set_aside(SITES, RunConfig(unseen_sites=unseen))


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 25))
def test_k_images_of_each_class(labels: list[int], shots: int) -> None:
    y = np.array(labels, np.int64)
    chosen = few_images(y, shots, np.random.default_rng(0))
    assert (np.diff(chosen) > 0).all()
    counts, had = np.bincount(y[chosen], minlength=5), np.bincount(y, minlength=5)
    np.testing.assert_array_equal(counts, np.minimum(had, shots))
    more = few_images(y, shots + 1, np.random.default_rng(0))
    assert set(chosen.tolist()) <= set(more.tolist())


def made_site(seed: int, train: int, test: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A site whose classes lie apart."""
    rng = np.random.default_rng(seed)
    y = {"train": rng.integers(0, 3, train), "test": rng.integers(0, 3, test)}
    return {
        split: ((np.eye(3, 5)[n] + 0.2 * rng.normal(size=(len(n), 5))).astype(np.float32), n)
        for split, n in y.items()
    }


def quiet(done: int, total: int) -> None:
    pass


def test_adaptation_from_the_head_and_from_scratch() -> None:
    sites = {"anna": made_site(0, 60, 40), "berta": made_site(1, 90, 30), "clara": made_site(2, 30, 0)}
    # A head that takes each class for the next.
    wrong = (np.eye(5, 3, 1, dtype=np.float32) * 8, np.zeros(3, np.float32))
    wrong[0][2, 0] = 8
    seen: list[tuple[int, int]] = []
    config = RunConfig(personal_epochs=20, learning_rate=0.5)
    told = adapt_unseen(config, SPEC, wrong, sites, lambda *at: seen.append(at))
    assert (told["names"], told["sites"], told["sites_without_test_images"]) == (
        ["anna", "berta", "clara"],
        2,
        1,
    )
    assert (seen, told["epochs"]) == ([(0, 2), (1, 2), (2, 2)], 20)
    assert told["global"] < 0.1
    one, five, twenty = (told["adapted"][shots] for shots in ("1", "5", "20"))
    assert (one["images"], five["images"]) == (3, 15)
    assert one["from_scratch"] > 0.7
    assert twenty["accuracy"] > one["accuracy"]
    assert [row["got_worse"] for row in (one, five, twenty)] == [0, 0, 0]
    assert told == adapt_unseen(config, SPEC, wrong, sites, quiet)

    start = initial_head(SPEC, 0)
    for row in adapt_unseen(config, SPEC, start, sites, quiet)["adapted"].values():
        assert row["accuracy"] == row["from_scratch"], "only the start differs"
    single = adapt_unseen(RunConfig(), SPEC, wrong, {"anna": sites["anna"]}, quiet)
    assert single["epochs"] == 1, "even where the run makes no personal heads"


def test_a_good_head_can_get_worse_by_adapting() -> None:
    good = (np.eye(5, 3, dtype=np.float32), np.zeros(3, np.float32))
    sites = {name: made_site(seed, 60, 400) for seed, name in enumerate(("anna", "berta", "clara"))}
    told = adapt_unseen(
        RunConfig(learning_rate=8.0, batch_size=1, personal_epochs=1), SPEC, good, sites, quiet
    )
    assert told["adapted"]["1"]["got_worse"] == 1


@pytest.mark.run
class TestRuns:
    def run(self, out: Path, data: Path, screen: StringIO | None = None, **settings: object) -> Result:
        config = RunConfig(
            out=str(out), data=str(data), sites=4, alpha=5.0, min_images=5, rounds=3, models=False, **settings
        )
        display = Display(Console(file=screen or StringIO(), width=80))
        result = simulate(config, display)
        display.summary(result.summary, result.baselines)
        return result

    def test_unseen_sites_are_absent_and_adapt(self, tmp_path: Path, folder_of_classes) -> None:
        data, screen = folder_of_classes(30), StringIO()
        whole = self.run(tmp_path / "whole", data, baselines=False)
        result = self.run(tmp_path / "run", data, screen, unseen_sites=2, personal_epochs=2)
        aside = result.summary["unseen_sites"]["names"]
        left = sorted({"site-0", "site-1", "site-2", "site-3"} - set(aside))
        assert len(aside) == 2

        assert sorted(path.name for path in (result.folder / "sites").iterdir()) == left
        for name in left:
            manifests = [folder / "sites" / name / "images.csv" for folder in (whole.folder, result.folder)]
            assert manifests[0].read_bytes() == manifests[1].read_bytes(), (
                "the partition is that of all sites"
            )
        with (result.folder / "sites.csv").open() as file:
            assert sorted({row["site"] for row in csv.DictReader(file)}) == left
        assert sorted(result.summary["site_accuracy"]) == left
        assert (result.summary["sites"], result.summary["sites_absent"]) == (2, {})
        assert sorted(result.baselines.local) == left
        assert result.summary["images"] < whole.summary["images"] == 90

        told = json.loads((result.folder / "summary.json").read_text())["unseen_sites"]
        assert (told["sites"], told["epochs"], told["images_of_other_classes"]) == (2, 2, 0)
        assert told["global"] > 0.4, "three colours are told apart better than by chance, after three rounds"
        assert list(told["adapted"]) == ["1", "5", "20"]
        assert "Sites that took no part" in screen.getvalue()

        assert "baselines" not in whole.summary
        assert "unseen_sites" not in whole.summary
        assert whole.baselines is None

        again = settings_of(result.folder).model_copy(update={"rounds": 5})
        assert (again.sites, again.unseen_sites) == (4, 2), "the settings repeat the run"
        resumed = simulate(again, Display(Console(quiet=True)))
        assert resumed.summary["unseen_sites"]["names"] == aside
        assert resumed.summary["rounds"] == 5
        with pytest.raises(UserError, match=r"unseen-sites 4: .*4 sites"):
            self.run(tmp_path / "none", data, unseen_sites=4)

    def test_prepared_sites_leave_them_out(self, tmp_path: Path, folder_of_classes) -> None:
        config = RunConfig(data=str(folder_of_classes(30)), sites=4, alpha=5.0, min_images=5, unseen_sites=1)
        assert prepare(config, tmp_path / "prepared") == 3
        assert len(list((tmp_path / "prepared" / "sites").iterdir())) == 3

    def test_classes_that_only_an_unseen_site_has(self, tmp_path: Path, folder_of_classes) -> None:
        for seed, name in enumerate(("anna", "berta")):
            folder_of_classes(20, f"sites/{name}", seed)
        config = RunConfig(
            data=str(tmp_path / "sites"),
            partition="natural",
            unseen_sites=1,
            rounds=2,
            baselines=False,
            models=False,
        )
        [aside] = set_aside({"anna": 0, "berta": 0}, config)[1]
        display, told = Display(Console(file=StringIO(), width=80)), {}
        for number, label in enumerate(("red", "green", "blue"), 1):
            (tmp_path / "sites" / aside / label).rename(tmp_path / "sites" / aside / f"x-{label}")
            result = simulate(config.model_copy(update={"out": str(tmp_path / f"run-{label}")}), display)
            assert load_head(result.folder / "head.npz")[1] == ("blue", "green", "red")
            told = result.summary["unseen_sites"]
            assert (told["names"], told["images_of_other_classes"]) == ([aside], 20 * number)
            assert (told["sites"], told["sites_without_test_images"]) == ((1, 0) if number < 3 else (0, 1))
        display.summary(result.summary, None)
        assert told["global"] is told["adapted"]["20"]["accuracy"] is None
