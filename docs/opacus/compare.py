"""DP-SGD of one linear layer by Opacus, compared with ours: same settings, same features.

This file imports nothing of the project, and wants an environment of its own:

    python3 -m venv /tmp/opacus
    /tmp/opacus/bin/pip install torch==2.13.0 opacus==1.6.0
    python docs/opacus/features.py --data cifar10 features.npz
    python docs/opacus/ours.py features.npz > ours.jsonl
    /tmp/opacus/bin/python docs/opacus/compare.py features.npz ours.jsonl \\
        --table docs/results/opacus.csv

For each line of ``ours.jsonl`` (epsilon, delta, noise_multiplier, rate, steps, clip, learning_rate,
seed; and our accuracy, seconds and version) it prints one of Opacus' run: accuracy on the test
images, seconds of the processor, and ε at δ by Opacus' own accountants, Rényi orders (RDP) and
numerical composition (PRV; Gopi et al. 2021, arXiv 2106.02848). A seed draws other batches and
other noise here than there. Give both OMP_NUM_THREADS=1, or seconds do not compare.
"""

import argparse
import csv
import json
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import opacus
import torch
from opacus import PrivacyEngine
from opacus.accountants import create_accountant
from torch.utils.data import DataLoader, TensorDataset

SETTINGS = ("epsilon", "delta", "noise_multiplier", "rate", "steps", "clip", "learning_rate")


def train(x: torch.Tensor, y: torch.Tensor, settings: dict[str, Any]) -> tuple[torch.nn.Module, Any]:
    """Train a layer on features (n, d), classes (n,); return it and the accountant's history."""
    torch.manual_seed(settings["seed"])
    model = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    engine = PrivacyEngine(accountant="rdp")
    model, optimizer, loader = engine.make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=settings["learning_rate"]),
        data_loader=DataLoader(TensorDataset(x, y), batch_size=round(settings["rate"] * len(y))),
        noise_multiplier=settings["noise_multiplier"],
        max_grad_norm=settings["clip"],
        poisson_sampling=True,
    )
    # Opacus takes 1 / (number of batches, rounded up) for the rate, whatever the batch size.
    assert abs(loader.sample_rate - settings["rate"]) < 1e-9, f"Opacus samples at {loader.sample_rate}"
    loss, steps = torch.nn.CrossEntropyLoss(), 0
    while steps < settings["steps"]:
        for features, labels in loader:
            optimizer.zero_grad()
            loss(model(features), labels).backward()
            optimizer.step()
            steps += 1
            if steps == settings["steps"]:
                break
    return model, engine.accountant.history


def spent(history: Any, kind: str, delta: float) -> float:
    """Return ε at δ of a history by the accountant ``rdp`` or ``prv``."""
    accountant = create_accountant(kind)
    accountant.history = list(history)
    return float(accountant.get_epsilon(delta))


def rows(lines: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row an ε: settings, mean and standard deviation over seeds of ours and Opacus'."""
    groups: dict[tuple[Any, ...], list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for ours, theirs in lines:
        groups[tuple(ours[key] for key in SETTINGS)].append((ours, theirs))
    table = []
    for settings, runs in groups.items():
        row: dict[str, Any] = dict(zip(SETTINGS, settings, strict=True)) | {"seeds": len(runs)}
        for name, side in (("ours", 0), ("opacus", 1)):
            accuracies = [run[side]["accuracy"] for run in runs]
            row[f"{name}_accuracy"] = round(float(np.mean(accuracies)), 5)
            row[f"{name}_deviation"] = round(float(np.std(accuracies, ddof=1)), 5)
            row[f"{name}_seconds"] = round(float(np.median([run[side]["seconds"] for run in runs])), 2)
        first = runs[0][1]
        row |= {"opacus_epsilon_rdp": first["epsilon_rdp"], "opacus_epsilon_prv": first["epsilon_prv"]}
        table.append(row | {"versions": f"fedtransfer {runs[0][0]['version']}; {first['version']}"})
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", help="of features.py")
    parser.add_argument("ours", type=Path, help="of ours.py")
    parser.add_argument("--table", type=Path, help="CSV of both, a row for each epsilon")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # Opacus': of its random numbers, which are not secret, and of hooks

    data = np.load(arguments.features)
    x_train, y_train, x_test, y_test = (
        torch.from_numpy(data[key]) for key in ("x_train", "y_train", "x_test", "y_test")
    )
    lines = []
    for line in arguments.ours.read_text("utf-8").splitlines():
        ours = json.loads(line)
        began = time.process_time()
        model, history = train(x_train, y_train, ours)
        seconds = time.process_time() - began
        with torch.no_grad():
            accuracy = float((model(x_test).argmax(1) == y_test).float().mean())
        theirs = {key: ours[key] for key in (*SETTINGS, "seed")} | {
            "accuracy": round(accuracy, 4),
            "seconds": round(seconds, 2),
            "epsilon_rdp": round(spent(history, "rdp", ours["delta"]), 4),
            "epsilon_prv": round(spent(history, "prv", ours["delta"]), 4),
            "version": f"opacus {opacus.__version__}, torch {torch.__version__}",
        }
        lines.append((ours, theirs))
        print(json.dumps(theirs), flush=True)
    if arguments.table:
        with arguments.table.open("w", newline="", encoding="utf-8") as file:
            table = rows(lines)
            writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
