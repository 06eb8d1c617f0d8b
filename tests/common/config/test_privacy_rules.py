"""Settings of privacy that protect nothing, or less than they say, and those that are let in."""

import ast
import inspect
import re
import traceback
from pathlib import Path

import pytest

from fedtransfer.common.config import privacy_rules as protection
from fedtransfer.common.config.config import RunConfig, make_config
from fedtransfer.common.errors import UserError

DECLARED = {"classes": "declared", "class-names": "cat,dog"}
SITE = {"dp": "site", "epsilon": 8.0, "weighting": "uniform", **DECLARED}
IMAGE = {**SITE, "dp": "image"}
ONE_RELEASE = {"dp": "image", "epsilon": 2.0, "strategy": "fed3r", **DECLARED}
MASKS = {"masks": True, **DECLARED}
SHARED = {"masks": True, "noise": "shared", "min-sites": 5}

# settings and what the refusal must hold, in this order: facts, with any words between them
REFUSED: list[tuple[dict, str]] = [
    # Nothing that would be noised or masked.
    *[
        ({name: value}, f"{name}: goes with --dp site or --dp image; without it nothing is noised")
        for name, value in {
            "epsilon": 2.0, "noise-multiplier": 1.0, "clip": 0.5, "image-rate": 0.1,
            "local-steps": 3, "noise": "shared",
        }.items()
    ],
    ({"epsilon": 2.0, "clip": 0.5}, "epsilon, clip: … --dp … --dp image"),
    ({"colluding-sites": 3}, "colluding-sites: goes with --masks"),
    ({**SITE, "epsilon": 0.0}, "dp site: … --epsilon … 2 … --noise-multiplier"),
    ({**IMAGE, "epsilon": 0.0}, "dp image: say how much noise"),
    ({**IMAGE, "noise-multiplier": 0.009}, "noise-multiplier 0.009: … 0.01"),
    *[
        ({**private, name: value}, f"{name}: with --dp {private['dp']} {why}")
        for private in (SITE, IMAGE)
        for name, value, why in (
            ("early-stopping", 3,
             "it looks at the sites' validation losses each round; give --public-data, or leave it at 0"),
            ("class-balance", 0.9, "it takes the federation's numbers of images by class; leave it at 0"),
            ("max-examples", 900, "sites do not say how many images they have; leave it at 0"),
            ("patience", 2,
             "epochs would be chosen by a site's validation images, unaccounted; leave it at 0"),
        )
    ],
    ({**ONE_RELEASE, "lda": True}, "lda: … --dp image"),
    *[
        ({**private, name: value}, words)
        for private in (SITE, IMAGE)
        for name, value, words in (
            ("standardise", "federated", f"standardise federated: … --dp {private['dp']}"),
            ("init", "fed3r", f"init fed3r: … --dp {private['dp']}"),
            ("trainable", "conv5", f"trainable conv5: … --dp {private['dp']} … head"),
            ("personal-epochs", 2, f"personal-epochs 2: … --dp {private['dp']} … 0"),
            ("unfreeze-at", "2:conv5", f"unfreeze-at 2:conv5: … --dp {private['dp']}"),
        )
    ],
    # Of sites.
    *[
        ({**SITE, "strategy": name, **({} if weighting else {"weighting": "examples"})},
         f"strategy {name}: … --dp site")
        for name, weighting in (
            ("scaffold", True), ("median", False), ("trimmed-mean", False), ("fedncm", False),
            ("fed3r", False), ("fedcof", False),
        )
    ],
    ({**SITE, "weighting": "examples"}, "weighting examples: … --dp site"),
    ({**SITE, "fraction": 0.5}, "sampling: … --dp site"),
    ({**SITE, "cohort-size": 3}, "sampling: … --dp site"),
    ({**SITE, "image-rate": 0.2}, "image-rate: … --dp image … --dp site"),
    ({**SITE, "image-rate": 0.2, "local-steps": 2}, "image-rate, local-steps: … --dp image"),
    ({**SITE, "masks": True}, "masks: … --dp site"),
    # Of images.
    *[
        ({**IMAGE, "strategy": name}, f"strategy {name}: … --dp image")
        for name in ("scaffold", "perfedavg")
    ],
    ({**IMAGE, "weighting": "examples"}, "weighting examples: … --dp image"),
    *[
        ({**IMAGE, name: value}, f"{name}: --dp image")
        for name, value in {"hidden-units": 8, "dropout": 0.1, "l2": 0.1}.items()
    ],
    ({**IMAGE, "hidden-units": 8, "l2": 0.1}, "hidden-units, l2: --dp image clips"),
    ({**IMAGE, "optimizer": "adam"}, "optimizer adam: … --dp image"),
    ({**IMAGE, "augment": 2}, "augment: … --dp image"),
    ({**ONE_RELEASE, "strategy": "fedcof"}, "strategy fedcof:"),
    ({**ONE_RELEASE, "normalise": False}, "normalise: … --dp image"),
    ({**ONE_RELEASE, "image-rate": 0.1}, "image-rate: … fed3r"),
    ({**ONE_RELEASE, "strategy": "fedncm", "local-steps": 1}, "local-steps: … fedncm"),
    ({**ONE_RELEASE, "augment": 1}, "augment: … 0"),
    # Shared noise, and masks.
    *[
        ({**private, "noise": "shared"}, "noise shared: … --masks")
        for private in (SITE, {**IMAGE, "local-steps": 1}, ONE_RELEASE)
    ],
    ({**SITE, "masks": True, "noise": "shared"}, "min-sites 0:"),
    ({**SITE, **SHARED, "colluding-sites": 4}, "min-sites 5: … --min-sites … --colluding-sites 4 … 2"),
    (
        {**IMAGE, **SHARED, "local-steps": 1, "weight-decay": 0.1},
        "weight-decay: … --noise shared",
    ),
    ({**IMAGE, **SHARED}, "local-steps: … --noise shared … 20 … --local-steps 1"),
    ({**IMAGE, **SHARED, "min-sites": 0}, "min-sites … local-steps: … --noise shared"),
    *[
        ({**MASKS, "strategy": name}, f"masks: … {name}")
        for name in ("median", "trimmed-mean")
    ],
    *[({**MASKS, of: "fedcof"}, "masks: … fedcof") for of in ("strategy", "init")],
    ({**IMAGE, "masks": True, "strategy": "median", "weighting": "examples"}, "masks: … median"),
    ({**MASKS, "max-update-norm": 1.0}, "max-update-norm: … --masks"),
    ({**MASKS, "max-examples": 900}, "max-examples: … --masks"),
    ({**MASKS, "class-balance": 0.9}, "class-balance: … --masks"),
    *[
        ({**MASKS, **few}, f"masks: … {sites} … {least}")
        for few, sites, least in (
            ({"sites": 2}, 2, 3),
            ({"sites": 5, "unseen-sites": 3}, 2, 3),
            ({"sites": 5, "fraction": 0.2}, 1, 3),
            ({"sites": 5, "cohort-size": 2}, 2, 3),
            ({"sites": 2, "cohort-size": 5}, 2, 3),
            ({"sites": 3, "min-sites": 4}, 3, 4),
            ({"sites": 10, "fraction": 0.39, "sampling": "poisson", "min-sites": 4}, 3, 4),
        )
    ],
    ({**MASKS, "sites": 4, "colluding-sites": 4}, "masks: … 4 … 3 … 4"),
    *[({**MASKS, "min-sites": few}, f"min-sites {few}: … 3") for few in (1, 2)],
]  # fmt: skip


def in_order(facts: str) -> str:
    """Return the pattern of a text that holds these facts, whatever stands between them."""
    return "(?s)" + ".*".join(map(re.escape, facts.split(" … ")))


def name(case: object) -> str:
    if not isinstance(case, dict):
        return ""
    usual = {**DECLARED, "epsilon": 8.0, "weighting": "uniform"}
    return " ".join(f"{key}={value}" for key, value in case.items() if usual.get(key) != value)


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=name)
def test_refusals_say_what_and_why(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=in_order(words)):
        make_config(settings, "options")


def test_every_refusal_there_is_has_a_test() -> None:
    """Each ``raise`` of the module is reached by some settings above."""
    tree = ast.parse(Path(inspect.getfile(protection)).read_text("utf-8"))
    refusals = [node for node in tree.body if getattr(node, "name", "") != "refuse_undeclared"]
    there = {node.lineno for part in refusals for node in ast.walk(part) if isinstance(node, ast.Raise)}
    reached = set()
    for settings, words in REFUSED:
        given = {key.replace("-", "_"): value for key, value in settings.items()}
        with pytest.raises(ValueError, match=in_order(words)) as caught:
            protection.refuse_unprotected(RunConfig.model_construct(**RunConfig().model_dump() | given))
        reached.add(traceback.extract_tb(caught.value.__traceback__)[-1].lineno)
    assert there == reached


PUBLIC = {"public-data": "public.npz", "early-stopping": 5}


@pytest.mark.parametrize(
    "settings",
    [
        *[
            {**SITE, "strategy": strategy, "fraction": 0.1, "sampling": "poisson"}
            for strategy in ("fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "fedopt")
        ],
        {**SITE, "strategy": "reptile", "weighting": "examples"},
        {**SITE, "clip": 0.1},
        {**SITE, "epsilon": 0.0, "noise-multiplier": 3.0},
        {**SITE, "noise-multiplier": 0.01},
        {
            **SITE,
            "noise-multiplier": 3.0,
            "hidden-units": 64,
            "dropout": 0.2,
            "optimizer": "adam",
            "augment": 1,
        },
        {**SITE, **PUBLIC, "max-update-norm": 9.0},
        *[{**IMAGE, "strategy": strategy} for strategy in ("fedavg", "fedprox", "fedadam", "fedopt")],
        *[
            {**IMAGE, "strategy": strategy, "weighting": "examples"}
            for strategy in ("reptile", "median", "trimmed-mean")
        ],
        {**IMAGE, "image-rate": 0.2, "local-steps": 3, "fraction": 0.5, "schedule": "cosine"},
        {**IMAGE, "cohort-size": 4, **PUBLIC},
        *[
            {
                **ONE_RELEASE,
                "strategy": strategy,
                "project": project,
                "dimensions": 64,
                "standardise": "public",
            }
            for strategy in ("fedncm", "fed3r")
            for project in ("pca", "random")
        ],
        {**ONE_RELEASE, "ridge": 3.0},
        {**ONE_RELEASE, **SHARED},
        {**MASKS, "colluding-sites": 2, "min-sites": 3},
        {**MASKS, "init": "fed3r", "standardise": "federated", "early-stopping": 5, "strategy": "scaffold"},
        {**MASKS, "strategy": "fedncm"},
        {**MASKS, "sites": 3},
        {**MASKS, "sites": 10, "fraction": 0.4, "sampling": "poisson", "min-sites": 4},
        {**MASKS, "sites": 1, "partition": "natural"},
        {**IMAGE, "masks": True},
        {**IMAGE, **SHARED, "local-steps": 1},
        {**IMAGE, **SHARED, "image-rate": 1.0, "colluding-sites": 3},
        {**SITE, **SHARED, "fraction": 0.5, "sampling": "poisson"},
        {"public-data": "public.npz", "early-stopping": 5},
    ],
    ids=name,
)
def test_what_protects_is_let_in(settings: dict) -> None:
    assert make_config(settings, "options").to_flat().items() >= settings.items()


def test_private_heads_are_adapted_by_their_sites_alone() -> None:
    """Reptile asks for personal heads by itself, and their scores are of private images."""
    adapted = {"strategy": "reptile", "local-epochs": 2}
    assert make_config(adapted, "options").adaptation_epochs == 2
    assert make_config({**adapted, **SITE, "weighting": "examples"}, "options").adaptation_epochs == 0


@pytest.mark.parametrize(
    ("settings", "how"), [(SITE, "--dp site"), (IMAGE, "--dp image"), (MASKS, "--masks")]
)
def test_sites_that_do_not_say_their_classes_need_a_public_list(settings: dict, how: str) -> None:
    protection.refuse_undeclared(make_config(settings, "options"))
    without = make_config({**settings, "classes": "union", "class-names": ""}, "options")
    with pytest.raises(UserError, match=f"classes: .*{how}"):
        protection.refuse_undeclared(without)
