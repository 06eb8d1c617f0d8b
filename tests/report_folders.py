"""Folders as runs, benchmarks and audits leave them, with drawn numbers: for tests of reports."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedtransfer.common.config.config import RunConfig
from fedtransfer.server.run_folder.folder import write_settings, write_summary

BACKBONE = {"name": "resnet18v2-tinyimagenet", "fingerprint": "e51d" * 16, "resolution": 64}
HISTORY = (
    "round",
    "attempt",
    "phase",
    "status",
    "accuracy",
    "loss",
    "validation_accuracy",
    "validation_loss",
    "sites_planned",
    "sites_present",
    "sites_set_aside",
    "best_so_far",
    "bytes_down_per_site",
    "bytes_up_per_site",
    "epsilon",
    "seconds",
)
TABLE = [
    "strategy",
    "protection",
    "epsilon",
    "images_per_class",
    "attack",
    "measure",
    "value",
    "low",
    "high",
    "by_chance",
    "count",
    "note",
]


CHANCES = {
    "accuracy": 0.1,
    "exact_share": 0.5,
    "l1": 30.0,
    "cosine@1": 0.76,
    "auc": 0.5,
    "tpr@1%": 0.01,
    "tpr@0.1%": 0.001,
}


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def run_folder(
    path: Path,
    *,
    sites: Sequence[str] = (),
    classes: Sequence[str] = (),
    simulated: bool = True,
    privacy: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Write a finished run; ``privacy``, changes of the usual promise, hides scores of sites."""
    private = privacy is not None
    config = RunConfig(**{"rounds": 12, **settings})
    sites = sites or [f"site-{i}" for i in range(5)]
    classes = classes or ["cat", "dog", "horse"]
    rng = np.random.default_rng(config.seed)
    path.mkdir(parents=True)
    write_settings(path, config)
    rounds = config.rounds
    curve = 0.66 - 0.5 * np.exp(-np.arange(rounds + 1) / 3) + 0.01 * rng.standard_normal(rounds + 1)
    score = [
        ["", "", "", ""] if private else [f"{a:.6f}", f"{2.3 - 2 * a:.6f}", f"{a - 0.02:.6f}", "1.1"]
        for a in curve
    ]
    epsilon = [f"{0.4 * np.sqrt(i + 1):.6g}" if private else "" for i in range(rounds + 1)]
    rows = [
        [
            i + 1,
            1,
            "train" if i < rounds else "score",
            "ok",
            *score[i],
            len(sites),
            len(sites),
            0,
            1,
            10_745,
            11_043,
            epsilon[i],
            "0.2",
        ]
        for i in range(rounds + 1)
    ]
    write_csv(path / "history.csv", HISTORY, rows)
    counts = rng.multinomial(60, rng.dirichlet(np.full(len(classes), 0.4), len(sites)))  # (sites, classes)
    matrix = np.diag(rng.integers(20, 40, len(classes))) + rng.integers(0, 6, (len(classes), len(classes)))
    own = {site: float(rng.uniform(0.4, 0.8)) for site in sites}
    scores = {
        "accuracy": float(np.trace(matrix) / matrix.sum()),
        "loss": 1.1,
        "mean_site_accuracy": float(np.mean([*own.values()])),
        "worst_site_accuracy": min(own.values()),
        "site_accuracy": own,
    }
    nothing = {key: {} if key == "site_accuracy" else None for key in scores}
    summary = {
        **(nothing if private else scores),
        "scored_on": None if private else "sites",
        "confusion_matrix": None if private else matrix.tolist(),
        "classes": list(classes),
        "rounds": rounds,
        "rounds_planned": rounds,
        "failed_attempts": 0,
        "best_round": rounds + 1,
        "sites": len(sites),
        "sites_absent": {},
        "sites_left_out": {},
        "sites_without_result": {},
        "images": None if private else int(counts.sum()),
        "images_by_split": {} if private else {"train": 200, "validation": 40, "test": 60},
        "images_unreadable": 0,
        "bytes_up_per_site_round": 11_043,
        "bytes_down_per_site_round": 10_745,
        "seconds": {"rounds": 2.4},
        "backbone": BACKBONE,
        "seed": config.seed,
    }
    if private:
        summary["privacy"] = {
            "epsilon": 1.9996,
            "delta": 1e-5,
            "unit": "image",
            "neighbours": "add or remove one image",
            "sampling": "all",
            "noise_multiplier": 1.99,
            "clip": 1.0,
            "releases": 12,
            "rounds_charged": 12,
            "budget": 2.0,
            "stopped_by_budget": False,
            "trust": "the image's own site alone",
            **(privacy or {}),
        }
    if simulated:
        if private:
            summary["measured_outside_the_federation"] = scores
        summary["baselines"] = {"pooled": 0.684, "local_mean": 0.305, "local_worst": 0.238, "majority": 0.1}
        summary["baselines_on_own_test_images"] = {
            "pooled": 0.66,
            "pooled_worst": 0.5,
            "local_mean": 0.71,
            "local_worst": 0.47,
            "local": dict.fromkeys(sites, 0.6),
            "majority": 0.14,
        }
        summary["baselines_local_sites"] = len(sites)
        summary["features"] = {"extracted": 0, "reused": int(counts.sum())}
        summary["seconds"] |= {"features": 1.2, "total": 9.5}
        for site, mine in zip(sites, counts, strict=True):
            images = [
                [f"x/{name}/{i}.png", name, "development", ""]
                for name, n in zip(classes, mine, strict=True)
                for i in range(n)
            ]
            write_csv(path / "sites" / site / "images.csv", ("path", "label", "split", "group"), images)
    write_summary(path, summary)
    return path


def benchmark_folder(path: Path, settings: Sequence[str] = ("iid", "alpha-0.3"), seeds: int = 3) -> Path:
    """Write a benchmark: methods with and without privacy, baselines, a run folder a cell."""
    rng = np.random.default_rng(7)
    measures = [
        "accuracy",
        "balanced_accuracy",
        "macro_precision",
        "macro_f1",
        "auroc",
        "nll",
        "ece",
        "own_mean",
        "worst_site",
        "bottom_decile",
        "worse_than_local",
        "difference",
        "rounds",
        "bytes",
        "bytes_up",
        "bytes_down",
        "seconds_features",
        "seconds_training",
        "seconds_aggregation",
        "peak_mb",
    ]
    methods = {
        "fedavg": (0.66, "", 11_043 * 100),
        "fedprox": (0.663, "", 11_043 * 100),
        "scaffold": (0.655, "", 22_086 * 100),
        "fed3r": (0.672, "", 142_167),
        "fedncm": (0.58, "", 5_400),
        **{f"fed3r ε={e:g}": (0.66 - 0.2 / (1 + e), e, 142_167) for e in (0.5, 1, 2, 4, 8)},
        **{f"dp-sgd ε={e:g}": (0.6 - 0.35 / (1 + e), e, 11_043 * 50) for e in (0.5, 1, 2, 4, 8)},
        "pooled softmax": (0.684, "", 0),
        "pooled ridge": (0.69, "", 0),
        "pooled NCM": (0.59, "", 0),
        "pooled LDA": (0.68, "", 0),
        "local only": (0.3, "", 0),
        "majority class": (0.1, "", 0),
    }
    columns = [
        "setting",
        "method",
        "seeds",
        *(name for measure in measures for name in (measure, f"{measure}_interval")),
    ]
    columns += ["reached", "epsilon", "delta", "backbone", "resolution", "fingerprint", "expected", "source"]
    rows, cells = [], list[list[Any]]()
    for setting in settings:
        for method, (accuracy, epsilon, sent) in methods.items():
            baseline = sent == 0
            mean = accuracy - (0.02 if setting != "iid" and not baseline else 0) + rng.normal(0, 0.003)
            values = {
                "accuracy": mean,
                "balanced_accuracy": mean - 0.01,
                "macro_precision": mean,
                "macro_f1": mean - 0.015,
                "auroc": 0.5 + mean / 2,
                "nll": 2.3 - 2 * mean,
                "ece": 0.04,
                "own_mean": 0.712 if method == "local only" else mean + 0.02,
                "worst_site": mean - 0.15,
                "bottom_decile": mean - 0.14,
                "worse_than_local": 0.3,
                "difference": mean - 0.66,
                "rounds": "" if epsilon or baseline else 31,
                "bytes": "" if baseline else sent,
                "bytes_up": "" if baseline else sent,
                "bytes_down": "" if baseline else sent * 0.9,
                "seconds_features": 1.1,
                "seconds_training": "" if baseline else 7.3,
                "seconds_aggregation": "" if baseline else 0.4,
                "peak_mb": "" if baseline else 912,
            }
            pairs = [
                cell
                for measure in measures
                for cell in (values[measure], 0.008 if isinstance(values[measure], float) else "")
            ]
            facts = [
                "" if baseline else seeds,
                epsilon,
                1e-5 if epsilon else "",
                BACKBONE["name"],
                64,
                BACKBONE["fingerprint"],
            ]
            elsewhere = [0.67, "the paper's table 2"] if method == "fed3r" else ["", ""]
            rows.append([setting, method, seeds, *pairs, *facts, *elsewhere])
            off = np.linspace(-0.01, 0.01, seeds) if seeds > 1 else [0.0]
            cells += [[setting, method, seed, mean + off[seed]] for seed in range(seeds)]
        for seed in range(seeds):
            for method in ("fedavg", "fedprox", "scaffold"):
                run_folder(path / "runs" / setting / f"seed-{seed}" / method, seed=seed, simulated=False)
        run_folder(
            path / "runs" / setting / "seed-0" / "dp-sgd ε=8", simulated=False, privacy={},
            dp="image", epsilon=8.0, weighting="uniform",
        )  # fmt: skip
    write_csv(path / "table.csv", columns, rows)
    write_csv(path / "cells.csv", ("setting", "method", "seed", "accuracy"), cells)
    (path / "plan.toml").write_text('seeds = [0, 1, 2]\n\n[settings.iid]\npartition = "iid"\n', "utf-8")
    about = {
        "command": "fedtransfer benchmark --preset privacy --out bench",
        "data": ["cifar10-demo"],
        "backbones": [BACKBONE],
        "seconds": {"features": 12.0, "baselines": 61.5, "runs": 844.0},
        "seeds": list(range(seeds)),
        "failures": {},
        "left_out": [],
        "tuning": [
            {
                "method": "fedprox",
                "grid": {"proximal": [0.001, 0.01, 0.1]},
                "chosen": {"proximal": 0.01},
                "accuracy": 0.664,
            }
        ],
        "expected": [
            {
                "setting": settings[0],
                "method": "fed3r",
                "accuracy": 0.67,
                "source": "the paper's table 2",
                "measured": 0.672,
            },
            {
                "setting": settings[0],
                "method": "fedncm",
                "accuracy": 0.538,
                "source": "its table 13",
                "measured": None,
            },
        ],
    }
    (path / "benchmark.json").write_text(json.dumps(about), "utf-8")
    return path


def audit_folder(path: Path, *, broken: bool = False, labels: Sequence[str] = ()) -> Path:
    """Write an audit of two strategies, protected or not; ``broken``: a bound above its claim."""
    rng = np.random.default_rng(3)
    table: list[list[Any]] = []
    roc: list[list[Any]] = []
    for strategy in ("fedavg", "fed3r"):
        for protection, epsilon, strength in (("none", "", 1.0), ("masks", "", 0.5), ("dp", 2.0, 0.12)):
            case = [strategy, protection, epsilon, 5]
            table += [
                [*case, "utility", "accuracy", 0.1 + 0.4 * strength, "", "", 1000, ""],
                [*case, "labels", "exact_share", strength, "", "", 100, ""],
                [*case, "labels", "l1", 40 * (1 - strength), "", "", 100, ""],
                *(
                    [
                        *case,
                        "features",
                        f"cosine@{n}",
                        strength * c,
                        strength * c - 0.05,
                        min(1, strength * c + 0.02),
                        30,
                        "",
                    ]
                    for n, c in (("1", 0.98), ("2-5", 0.9), ("6+", 0.7))
                ),
                [*case, "images", "psnr", 12 + 4 * strength, "", "", 20, ""],
                [*case, "images", "psnr_of_class_mean", 13.1, "", "", 20, ""],
                [*case, "images", "ssim", 0.3 * strength, "", "", 20, ""],
            ]
            for attack, power in (
                ("loss threshold", 0.8),
                ("LiRA offline", 1.0),
                ("LiRA online", 1.3),
                ("RMIA", 1.2),
            ):
                gain = power * strength
                fpr = np.geomspace(1e-3, 1, 120)
                roc += [
                    [strategy, protection, 5, attack, f"{a:.6g}", f"{a ** (1 / (1 + gain)):.6g}"] for a in fpr
                ]
                table += [
                    [
                        *case,
                        attack,
                        "auc",
                        0.5 + 0.25 * gain / 1.3,
                        0.48 + 0.25 * gain / 1.3,
                        0.52 + 0.25 * gain / 1.3,
                        2000,
                        "",
                    ],
                    [
                        *case,
                        attack,
                        "tpr@1%",
                        0.01 ** (1 / (1 + gain)),
                        0.01 ** (1 / (1 + gain)) * 0.8,
                        0.01 ** (1 / (1 + gain)) * 1.2,
                        2000,
                        "",
                    ],
                    [*case, attack, "tpr@0.1%", "", "", "", 2000, "too few non-members"],
                ]
        for claimed in (1.0, 4.0):
            bound = claimed * (1.4 if broken and strategy == "fed3r" and claimed == 1 else 0.6)
            case = [strategy, "dp", claimed, ""]
            table += [
                [*case, "one run", "claimed", claimed, "", "", "", ""],
                [*case, "one run", "epsilon_lower_bound", bound, "", "", 5000, "95 % confidence"],
            ]
    write_csv(path / "table.csv", TABLE, [[*row[:9], CHANCES.get(row[5], ""), *row[9:]] for row in table])
    write_csv(path / "roc.csv", ("strategy", "protection", "images_per_class", "attack", "fpr", "tpr"), roc)
    labels = labels or ["cat", "dog", "horse", "ship", "truck", "frog"]
    ramp = np.linspace(0, 255, 32)
    originals = np.stack(
        [
            np.stack(
                [
                    ramp[None, :] * np.ones((32, 1)),
                    ramp[:, None] * np.ones((1, 32)),
                    np.full((32, 32), 40.0 * i),
                ],
                -1,
            )
            for i in range(len(labels))
        ]
    )
    means = originals * 0.5 + 64
    rebuilt = np.stack([originals + rng.normal(0, scale, originals.shape) for scale in (20, 90)])
    names, sites = (
        np.array(["fedavg, none", "fedavg, dp"]),
        np.array([f"site-{i % 3}" for i in range(len(labels))]),
    )
    images = {
        "originals": originals.astype(np.uint8),
        "class_means": means.astype(np.uint8),
        "rebuilt": np.clip(rebuilt, 0, 255).astype(np.uint8),
    }
    np.savez(
        path / "reconstructions.npz",
        labels=np.array(labels),
        names=names,
        sites=sites,
        images_per_class=5,
        **images,
    )
    about = {
        "command": "fedtransfer audit --preset small --out audit",
        "data": "cifar10-demo",
        "classes": 10,
        "backbone": BACKBONE,
        "resolution": 64,
        "seconds": 431.0,
        "shadows": 64,
        "sites": [10],
        "federations": [
            {"federation": f"fedavg, {name}", "dp": dp} for name, dp in (("none", "none"), ("dp", "image"))
        ],
        "promises": [{"unit": "image", "neighbours": "add or remove one image", "delta": 1e-5}],
        "config": {"rounds": 20, "sites": 10, "clip": 1.0},
        "claims": [],
    }
    (path / "audit.json").write_text(json.dumps(about), "utf-8")
    return path


def altered(
    folder: Path, change: Callable[[dict[str, str]], dict[str, str]], file: str = "table.csv"
) -> Path:
    """Change each row of a table of a folder."""
    with (folder / file).open(encoding="utf-8", newline="") as lines:
        rows = [change(dict(row)) for row in csv.DictReader(lines)]
    write_csv(folder / file, list(rows[0]), [list(row.values()) for row in rows])
    return folder


def audit_of_a_run(folder: Path) -> Path:
    """Make an audit one of a single run: no protection named, too few images for rates at 1 %."""
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


def with_more_images(folder: Path) -> Path:
    """Make an audit one of federations with 25 images a class too, with more answers."""
    audit_folder(folder)
    for name in ("table.csv", "roc.csv"):
        header, *rows = list(csv.reader((folder / name).read_text("utf-8").splitlines()))
        images = header.index("images_per_class")
        more = [
            [*row[:images], "25", *(cell.replace("2000", "5000") for cell in row[images + 1 :])]
            for row in rows
        ]
        write_csv(folder / name, header, [*rows, *more])
    return folder


def baselines_alone(folder: Path) -> Path:
    """Take all federated methods out of a benchmark."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    for name in ("table.csv", "cells.csv"):
        lines = (folder / name).read_text("utf-8").splitlines()
        kept = [line for line in lines if line.split(",")[1].startswith(("method", "pooled", "local"))]
        (folder / name).write_text("\n".join(kept) + "\n", "utf-8")
    return folder
