"""Measures of a run besides its scores: rounds, bytes, seconds, and how it treats single sites."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedtransfer.common.config.config import RunConfig
from fedtransfer.simulations.scoring.estimate import REACHED

if TYPE_CHECKING:
    from fedtransfer.simulations.scoring.baselines import Score


_TUNED = {"personal": "mean", "personal_worse": "worse_than_global"}


@dataclass(frozen=True)
class Row:
    """A run, or a baseline."""

    setting: str
    method: str
    seed: int
    measures: Mapping[str, float]  # those of tables.MEASURES; NaN or absent if missing
    facts: Mapping[str, str] = field(default_factory=dict)  # of its features, and the ε and δ that it claims
    seconds: float = 0.0  # of the whole run; 0 if it was finished before


def fairness(score: "Score", baselines: Mapping[str, "Score"]) -> dict[str, float]:
    """Return the accuracies of sites on their own test images, and the share that gain nothing.

    The accuracies are the mean, the worst, and the mean of the worst tenth (at least one site). The
    share is of the sites that trained a local head, and counts those that do worse than with it.
    """
    accuracies = sorted(score.site_accuracy.values())
    worst = accuracies[: max(1, len(accuracies) // 10)]
    alone = baselines["local only"].site_accuracy if "local only" in baselines else {}
    ours = score.site_accuracy
    worse = [ours[name] < accuracy for name, accuracy in alone.items() if name in ours]
    return {
        "own_mean": score.site_mean,
        "worst_site": score.site_worst,
        "bottom_decile": sum(worst) / len(worst) if worst else math.nan,
        "worse_than_local": sum(worse) / len(worse) if worse else math.nan,
    }


def run_measures(
    history: Sequence[Mapping[str, str]], summary: Mapping[str, Any], pooled: float, config: RunConfig
) -> dict[str, float]:
    """Return rounds, bytes and seconds of a run.

    A round's scores are those of the head that enters it, so the rounds before it made that head.
    The round that reached a good head is known only if all sites scored all heads: the test images
    of a cohort are few and of few classes, and the luckiest of many cohorts proves nothing. Bytes
    are the mean over sites: if a cohort is a fraction of the sites, that fraction of a message
    counts. ``pooled`` is the accuracy of the pooled softmax head.
    """

    def column(name: str) -> list[float]:
        return [float(row[name] or "nan") for row in history]

    def sent(way: str) -> list[float]:
        return [_share(row, config) * float(row[f"bytes_{way}_per_site"]) for row in history]

    down, up = sent("down"), sent("up")
    aggregating, seconds = sum(column("seconds_aggregating")), sum(column("seconds"))
    heads = [row for row in history if row["phase"] in ("train", "score") and row["status"] == "ok"]
    scored = all(row["accuracy"] for row in heads) and len({row["sites_planned"] for row in heads}) == 1
    watched = scored and not math.isnan(pooled)
    good = (i for i, accuracy in enumerate(column("accuracy")) if accuracy >= REACHED * pooled)
    at = next(good, None) if watched else None
    before = history[: at or 0]
    rounds = sum(row["phase"] in ("sums", "train") and row["status"] == "ok" for row in before)
    return {
        "reached": float(at is not None) if watched else math.nan,
        "rounds": math.nan if at is None else rounds,
        "bytes": math.nan if at is None else sum(down[:at]) + sum(up[:at]),
        "bytes_up": sum(up),
        "bytes_down": sum(down),
        "seconds_features": summary["seconds"].get("features", math.nan),
        "seconds_training": seconds - aggregating,
        "seconds_aggregation": aggregating,
        **_added_scores(summary),
    }


def _share(row: Mapping[str, str], config: RunConfig) -> float:
    """Return the fraction of the sites that are in a round's cohort."""
    if row["phase"] != "train":
        return 1.0
    return int(row["sites_planned"]) / config.participants if row["sites_planned"] else config.fraction


def _added_scores(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return mean accuracies of personal heads and at unseen sites, and what attackers achieved."""
    personal, unseen = summary.get("personal"), summary.get("unseen_sites")
    scores = {}
    if personal:
        scores = {name: personal["fine_tuned"][key] for name, key in _TUNED.items()}
        scores["personal_mixed"] = personal["mixed"]["mean"]
    if unseen:
        scores |= {"unseen": unseen["global"], "unseen_adapted": unseen["adapted"]["20"]["accuracy"]}
    scores |= {name: summary["attack"][name] for name in ("backdoor", "mistaken") if "attack" in summary}
    return {name: math.nan if value is None else value for name, value in scores.items()}
