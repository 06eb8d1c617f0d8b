"""Settings that do not go together, and those that do."""

import ast
import inspect
import re
import traceback
from pathlib import Path
from typing import get_args

import pytest

from common import combinations, depth
from common.config import ONE_SHOT, RunConfig, Strategy
from common.config_reading import make_config, resolve_config
from common.errors import UserError
from common.presets import PRESETS

REFUSED: list[tuple[dict, str]] = [
    ({"cohort-size": 3, "fraction": 0.5}, "cohort-size 3 and fraction 0.5: both say how many sites train; give one"),
    (
        {"cohort-size": 3, "sampling": "poisson"},
        "cohort-size: Poisson sampling draws each site by itself, so cohorts have no fixed size; give --fraction",
    ),
    ({"cohort-size": 3, "min-sites": 4}, "min-sites 4 can never be reached by cohorts of 3 sites"),
    ({"class-names": "a,b"}, "class-names: goes with --classes declared; without it the classes are those found at the sites"),
    (
        {"classes": "declared"},
        "class-names: got ''; expected two or more different names, such as cat,dog",
    ),
    ({"classes": "declared", "class-names": "cat"}, "class-names: got 'cat'; expected two or more different names"),
    ({"classes": "declared", "class-names": "a,b, a"}, "class-names: got 'a,b, a'; expected two or more different names"),
    ({"dimensions": 8}, "dimensions: goes with --project pca or random; without it features keep their width"),
    ({"project": "pca"}, "project pca: give the width to project to by --dimensions, such as 64"),
    (
        {"feature-statistics": "x.npz", "standardise": "none"},
        "feature-statistics: --standardise none with --project none uses no public statistics; they go with",
    ),
    (
        {"feature-statistics": "x.npz", "standardise": "federated", "project": "random", "dimensions": 8},
        "feature-statistics: --standardise federated with --project random uses no public statistics",
    ),
    ({"second-momentum": 0.5}, "second-momentum: fedavg does not use it; it goes with --strategy fedadam or fedyogi"),
    ({"adaptivity": 0.5}, "adaptivity: fedavg does not use it; it goes with --strategy fedadam or fedyogi or fedadagrad"),
    ({"proximal": 0.5}, "proximal: fedavg does not use it; it goes with --strategy fedprox"),
    ({"trim": 0.2}, "trim: fedavg does not use it; it goes with --strategy trimmed-mean"),
    ({"inner-rate": 0.2}, "inner-rate: fedavg does not use it; it goes with --strategy perfedavg"),
    ({"server-optimizer": "sgd"}, "server-optimizer: fedavg does not use it; it goes with --strategy fedopt"),
    *[
        ({"strategy": name, "weighting": "uniform"}, f"weighting: {name} counts every site once, whatever its size")
        for name in ("median", "trimmed-mean", "reptile")
    ],
    ({"strategy": "reptile", "server-momentum": 0.5}, "server-momentum: reptile has none; --strategy fedavg has it"),
    (
        {"strategy": "fedopt", "server-momentum": 0.5},
        "server-momentum: fedopt has none; --server-optimizer momentum has it",
    ),
    *[
        ({"strategy": name, "optimizer": "adam"}, f"optimizer adam: {name} is defined for plain SGD steps; leave it at sgd")
        for name in ("scaffold", "perfedavg")
    ],
    ({"strategy": "scaffold", "max-update-norm": 1.0}, "max-update-norm: it bounds updates, but not the changes of scaffold's"),
    ({"strategy": "scaffold", "patience": 2}, "patience: scaffold's variates divide by the number of steps"),
    ({"weight-decay": 0.1, "optimizer": "ftrl"}, "weight-decay: ftrl makes each weight anew from its accumulators"),
    ({"final-rate": 0.5}, "final-rate: goes with --schedule linear, cosine or exponential; a constant rate ends as it"),
    ({"warmup-rounds": 100}, "warmup-rounds 100: the run has 100 rounds only; give fewer"),
    ({"warmup-rounds": 3, "rounds": 2}, "warmup-rounds 3: the run has 2 rounds only; give fewer"),
    *[
        (
            {"strategy": name, "fraction": 0.5, "dropout": 0.1},
            f"fraction, dropout: {name} makes one linear head of sums, in closed form and without rounds of training; to "
            f"train on from it, give --init {name} and another --strategy",
        )
        for name in ONE_SHOT
    ],
    ({"init": "fed3r", "hidden-units": 8}, "hidden-units: fed3r makes a single linear layer; leave it at 0"),
    ({"lda": True}, "lda: goes with --strategy fed3r or --init fed3r, whose sums it is made of"),
    ({"lda": True, "strategy": "fedcof"}, "lda: goes with --strategy fed3r or --init fed3r"),
    ({"ridge": 1.0}, "ridge: goes with fed3r or fedcof, as --strategy or --init"),
    ({"ridge": 1.0, "strategy": "fedncm"}, "ridge: goes with fed3r or fedcof, as --strategy or --init"),
    (
        {"init": "fed3r", "trainable": "conv5"},
        "init fed3r: it needs pooled features, and --trainable conv5 stores those at the cut; begin with the head and go "
        "deeper by --unfreeze-at 2:conv5",
    ),
    (
        {"unfreeze-at": "2:conv5", "ema": 0.5, "interpolate": True},
        "ema, interpolate: the first head and the last have different arrays under --unfreeze-at, so there is none "
        "between them; give --trainable instead",
    ),
    ({"unfreeze-at": "2:conv5", "strategy": "scaffold"}, "unfreeze-at: scaffold's variates have the shapes of the head"),
    *[
        ({**deep, "standardise": "federated"}, "standardise federated: its statistics are of pooled features")
        for deep in ({"trainable": "conv5"}, {"unfreeze-at": "2:conv5"})
    ],
    ({"unfreeze-at": "conv5"}, "unfreeze-at: got 'conv5'; expected ROUND:LAYER, as in 20:conv5_block2,40:conv5"),
    ({"unfreeze-at": "1:conv5"}, "unfreeze-at: got round 1 after round 1 in a run of 100; rounds must rise, from 2 to"),
    ({"unfreeze-at": "5:conv5", "rounds": 4}, "unfreeze-at: got round 5 after round 1 in a run of 4"),
    ({"unfreeze-at": "5:head"}, "unfreeze-at: head is trained from the start or named twice; name deeper layers only"),
    ({"backbone-rate": 0.5}, "backbone-rate: goes with --trainable or --unfreeze-at; the head alone has --learning-rate"),
    (
        {"strategy": "scaffold", "trainable": "conv5"},
        "backbone-rate: scaffold divides by one rate for all that is trained; give --backbone-rate 1 and a --learning-rate "
        "that suits convolutions, such as 0.05",
    ),
    ({"client-cpus": 2.0}, "client-cpus: goes with --engine ray; the in-process engine knows --threads"),
    ({"client-gpus": 1.0}, "client-gpus: goes with --engine ray"),
    ({"ray-address": "auto"}, "ray-address: goes with --engine ray"),
]  # fmt: skip


def name(case: object) -> str:
    return " ".join(case) if isinstance(case, dict) else ""


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=name)
def test_refusals_say_what_and_why(settings: dict, words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config(settings, "options")
    assert words in str(caught.value)


def test_every_refusal_there_is_has_a_test() -> None:
    """Each ``raise`` of the two modules is reached by some settings above."""
    there, reached = set(), set()
    for checks in (combinations.refuse_contradictions, depth.schedule):
        file = inspect.getfile(checks)
        tree = ast.parse(Path(file).read_text("utf-8"))
        functions = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name != "deepen"]
        raises = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Raise)]
        there |= {(file, node.lineno) for node in raises}
    for settings, words in REFUSED:
        given = {key.replace("-", "_"): value for key, value in settings.items()}
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            combinations.refuse_contradictions(RunConfig.model_construct(**RunConfig().model_dump() | given))
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        reached.add((last.filename, last.lineno))
    assert there == reached


ROUNDS = {
    "server-learning-rate": 1.0, "server-momentum": 0.0, "weighting": "uniform", "fraction": 0.5, "cohort-size": 2,
    "sampling": "poisson", "early-stopping": 3, "min-delta": 0.1, "ema": 0.5, "interpolate": True, "init": "fed3r",
    "schedule": "cosine", "warmup-rounds": 2, "class-balance": 0.9, "max-update-norm": 1.0, "unfreeze-at": "2:conv5",
    "hidden-units": 8, "dropout": 0.1, "l1": 0.1, "l2": 0.1, "trainable": "conv5",
}  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), ROUNDS.items())
def test_a_closed_form_head_refuses_what_only_rounds_would_use(setting: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{setting}: fed3r makes one linear head of sums"):
        make_config({"strategy": "fed3r", setting: value}, "options")


@pytest.mark.parametrize(
    "settings",
    [
        *[{"strategy": strategy} for strategy in get_args(Strategy)],
        *[{"init": init} for init in ONE_SHOT],
        {"strategy": "fed3r", "lda": True, "ridge": 0.5, "standardise": "federated", "project": "pca", "dimensions": 9},
        {"init": "fed3r", "lda": True, "unfreeze-at": "2:conv5", "standardise": "public"},
        {
            "strategy": "scaffold",
            "trainable": "conv5",
            "backbone-rate": 1.0,
            "ema": 0.5,
            "interpolate": True,
            "init": "zeros",
        },
        {"strategy": "scaffold", "init": "fed3r", "schedule": "linear", "warmup-rounds": 3, "class-balance": 0.9},
        {"strategy": "perfedavg", "inner-rate": 0.2, "personal-epochs": 2, "unseen-sites": 3},
        {"strategy": "fedopt", "server-optimizer": "adam", "optimizer": "adam", "weight-decay": 0.1},
        {"feature-statistics": "x.npz", "standardise": "none", "project": "pca", "dimensions": 8},
        {"sampling": "poisson", "fraction": 0.5, "strategy": "scaffold"},
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
