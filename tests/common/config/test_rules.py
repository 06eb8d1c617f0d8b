"""Settings that do not go together, and those that do."""

import ast
import inspect
import re
import traceback
from pathlib import Path

import pytest

from fedtransfer.common.config import rules as combinations
from fedtransfer.common.config.config import PRESETS, RunConfig, make_config, resolve_config
from fedtransfer.common.errors import UserError
from fedtransfer.common.head import schedule
from fedtransfer.common.methods import METHODS, ONE_SHOT

# settings and what the refusal must hold, in this order: facts, with any words between them
REFUSED: list[tuple[dict, str]] = [
    ({"cohort-size": 3, "fraction": 0.5}, "cohort-size 3 … fraction 0.5:"),
    (
        {"cohort-size": 3, "sampling": "poisson"},
        "cohort-size: … --fraction",
    ),
    ({"cohort-size": 3, "min-sites": 4}, "min-sites 4 can never be reached by cohorts of 3 sites"),
    ({"class-names": "a,b"}, "class-names: … --classes declared"),
    (
        {"classes": "declared"},
        "class-names: … ''",
    ),
    ({"classes": "declared", "class-names": "cat"}, "class-names: … 'cat'"),
    ({"classes": "declared", "class-names": "a,b, a"}, "class-names: … 'a,b, a'"),
    ({"dimensions": 8}, "dimensions: … --project pca"),
    ({"project": "pca"}, "project pca: … --dimensions … 64"),
    (
        {"feature-statistics": "x.npz", "standardise": "none"},
        "feature-statistics: … --standardise none … --project none",
    ),
    (
        {"feature-statistics": "x.npz", "standardise": "federated", "project": "random", "dimensions": 8},
        "feature-statistics: … --standardise federated … --project random",
    ),
    ({"second-momentum": 0.5}, "second-momentum: … --strategy fedadam"),
    ({"adaptivity": 0.5}, "adaptivity: … --strategy fedadam"),
    ({"proximal": 0.5}, "proximal: … --strategy fedprox"),
    ({"trim": 0.2}, "trim: … --strategy trimmed-mean"),
    ({"inner-rate": 0.2}, "inner-rate: … --strategy perfedavg"),
    *[
        ({"strategy": name, "weighting": "uniform"}, f"weighting: … {name}")
        for name in ("median", "trimmed-mean", "reptile")
    ],
    ({"strategy": "reptile", "server-momentum": 0.5}, "server-momentum 0.5: … --strategy fedavg"),
    (
        {"strategy": "fedopt", "server-momentum": 0.5},
        "server-momentum 0.5: … 0.9; fedadam",
    ),
    *[
        ({"strategy": name, "optimizer": "adam"}, f"optimizer adam: … {name}")
        for name in ("scaffold", "perfedavg")
    ],
    ({"strategy": "scaffold", "max-update-norm": 1.0}, "max-update-norm 1.0: … scaffold"),
    ({"strategy": "scaffold", "patience": 2}, "patience 2: … scaffold"),
    ({"weight-decay": 0.1, "optimizer": "ftrl"}, "weight-decay: … ftrl"),
    *[
        (
            {"strategy": name, "fraction": 0.5, "dropout": 0.1},
            f"fraction, dropout: … {name} … --init {name} … --strategy",
        )
        for name in ONE_SHOT
    ],
    ({"init": "fed3r", "hidden-units": 8}, "hidden-units: … 0"),
    ({"lda": True}, "lda: … --strategy fed3r … --init fed3r"),
    ({"lda": True, "strategy": "fedcof"}, "lda: … --strategy fed3r … --init fed3r"),
    ({"ridge": 1.0}, "ridge: … --strategy … --init"),
    ({"ridge": 1.0, "strategy": "fedncm"}, "ridge: … --strategy … --init"),
    (
        {"init": "fed3r", "trainable": "conv5"},
        "init fed3r: … --trainable conv5 … --unfreeze-at 2:conv5",
    ),
    ({"unfreeze-at": "2:conv5", "strategy": "scaffold"}, "unfreeze-at 2:conv5: … scaffold"),
    *[
        ({**deep, "standardise": "federated"}, "standardise federated:")
        for deep in ({"trainable": "conv5"}, {"unfreeze-at": "2:conv5"})
    ],
    ({"unfreeze-at": "conv5"}, "unfreeze-at: … 'conv5' … ROUND:LAYER"),
    ({"unfreeze-at": "1:conv5"}, "unfreeze-at: … round 1 … round 1 … 100"),
    ({"unfreeze-at": "5:conv5", "rounds": 4}, "unfreeze-at: … round 5 … round 1 … 4"),
    ({"unfreeze-at": "5:head"}, "unfreeze-at: … head"),
    ({"backbone-rate": 0.5}, "backbone-rate: … --trainable … --unfreeze-at … --learning-rate"),
    (
        {"strategy": "scaffold", "trainable": "conv5"},
        "backbone-rate 0.01: … --backbone-rate 1 … --learning-rate … 0.05",
    ),
    ({"client-cpus": 2.0}, "client-cpus: … --engine ray … --threads"),
    ({"client-gpus": 1.0}, "client-gpus: … --engine ray"),
    ({"ray-address": "auto"}, "ray-address: … --engine ray"),
    ({"attack": "backdoor", "attack-scale": 2.0}, "attack, attack-scale: … --hostile-sites"),
    ({"hostile-sites": 2, "engine": "ray"}, "hostile-sites 2 with engine ray: … in process"),
    ({"hostile-sites": 2, "prepared": "p"}, "hostile-sites 2 with prepare: … in process"),
    (
        {"hostile-sites": 2, "dp": "image", "strategy": "fed3r", "epsilon": 1.0},
        "hostile-sites 2 with dp image: … noise",
    ),
    ({"hostile-sites": 2, "trainable": "conv5"}, "hostile-sites 2 with trainable: … head"),
    ({"hostile-sites": 2, "masks": True, "min-sites": 3}, "hostile-sites 2 with masks: … hide"),
]  # fmt: skip


def in_order(facts: str) -> str:
    """Return the pattern of a text that holds these facts, whatever stands between them."""
    return "(?s)" + ".*".join(map(re.escape, facts.split(" … ")))


def name(case: object) -> str:
    return " ".join(case) if isinstance(case, dict) else ""


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=name)
def test_refusals_say_what_and_why(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=in_order(words)):
        make_config(settings, "options")


def test_every_refusal_there_is_has_a_test() -> None:
    """Each ``raise`` of the two modules is reached by some settings above."""
    there, reached = set(), set()
    for checks in (combinations.refuse_contradictions, schedule.schedule):
        file = inspect.getfile(checks)
        tree = ast.parse(Path(file).read_text("utf-8"))
        functions = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name != "deepen"]
        raises = [
            node for function in functions for node in ast.walk(function) if isinstance(node, ast.Raise)
        ]
        there |= {(file, node.lineno) for node in raises}
    for settings, words in REFUSED:
        given = {key.replace("-", "_"): value for key, value in settings.items()}
        with pytest.raises(ValueError, match=in_order(words)) as caught:
            combinations.refuse_contradictions(RunConfig.model_construct(**RunConfig().model_dump() | given))
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        reached.add((last.filename, last.lineno))
    assert there == reached


ROUNDS = {
    "server-learning-rate": 1.0, "server-momentum": 0.0, "weighting": "uniform", "fraction": 0.5,
    "cohort-size": 2, "sampling": "poisson", "early-stopping": 3, "init": "fed3r",
    "schedule": "cosine", "class-balance": 0.9, "max-update-norm": 1.0, "unfreeze-at": "2:conv5",
    "hidden-units": 8, "dropout": 0.1, "l2": 0.1, "trainable": "conv5",
}  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), ROUNDS.items())
def test_a_closed_form_head_refuses_what_only_rounds_would_use(setting: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{setting}: fed3r makes one linear head of sums"):
        make_config({"strategy": "fed3r", setting: value}, "options")


@pytest.mark.parametrize(
    "settings",
    [
        *[{"strategy": strategy} for strategy in METHODS],
        *[{"init": init} for init in ONE_SHOT],
        {
            "strategy": "fed3r",
            "lda": True,
            "ridge": 0.5,
            "standardise": "federated",
            "project": "pca",
            "dimensions": 9,
        },
        {"init": "fed3r", "lda": True, "unfreeze-at": "2:conv5", "standardise": "public"},
        {
            "strategy": "scaffold",
            "trainable": "conv5",
            "backbone-rate": 1.0,
            "init": "zeros",
        },
        {"strategy": "scaffold", "init": "fed3r", "schedule": "cosine", "class-balance": 0.9},
        {"strategy": "perfedavg", "inner-rate": 0.2, "personal-epochs": 2, "unseen-sites": 3},
        {"strategy": "fedopt", "optimizer": "adam", "weight-decay": 0.1},
        {"feature-statistics": "x.npz", "standardise": "none", "project": "pca", "dimensions": 8},
        {"sampling": "poisson", "fraction": 0.5, "strategy": "scaffold"},
        {"hostile-sites": 2, "attack": "backdoor", "attack-scale": 10.0, "strategy": "median"},
    ],
)
def test_what_goes_together_is_let_in(settings: dict) -> None:
    assert make_config(settings, "options").to_flat().items() >= settings.items()


def test_a_strategy_with_a_momentum_of_its_own_takes_the_default() -> None:
    """Which it does not use: only a value that was given is refused."""
    assert RunConfig(strategy="reptile").server_momentum == 0.9
    assert RunConfig(strategy="fedopt", server_momentum=0.0).server_momentum == 0.0


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_let_in(preset: str) -> None:
    assert resolve_config(preset=preset).to_flat().items() >= PRESETS[preset].items()
