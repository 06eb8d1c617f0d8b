"""What ``summary.json`` says of personal heads: sites' counts to means, worst sites, and the share of sites harmed."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire.personal import KINDS
from fedtransfer.common.wire.protocol import Description, Personal


def summarise_personal(answers: Mapping[str, Personal], descriptions: Mapping[str, Description]) -> dict[str, Any]:
    """Summarise how the heads of each kind do on the test images of the sites that they were made for.

    Args:
        answers: site → its counts.
        descriptions: site → what it has, for all sites of the federation.

    Returns:
        For each kind the ``mean`` over sites of the accuracy, that of the ``worst`` site, and ``pooled`` over images; for
        fine-tuned and mixed heads the shares of sites where they do worse than the global head and than the local one
        (Motley, arXiv 2206.09262). Sites without test images are in none of these, but counted. NaN where no site is.
    """
    scored = [answer for _, answer in sorted(answers.items()) if answer.images]
    images = np.array([answer.images for answer in scored], np.int64)
    correct = np.array([answer.correct for answer in scored], np.int64).reshape(-1, len(KINDS))
    summary: dict[str, Any] = {
        "sites": len(scored),
        "sites_without_test_images": len(answers) - len(scored),
        "sites_without_answer": sorted(set(descriptions) - set(answers)),
        "images": int(images.sum()),
        "share": _mean(np.array([answer.share for answer in scored])),
    }
    for kind, right in zip(KINDS, correct.T, strict=True):
        accuracy = right / images
        summary[kind] = {
            "mean": _mean(accuracy),
            "worst": float(accuracy.min(initial=np.inf)) if scored else float("nan"),
            "pooled": float(right.sum() / images.sum()) if scored else float("nan"),
        }
    for kind in ("fine_tuned", "mixed"):
        for other in ("global", "local"):
            worse = correct[:, KINDS.index(kind)] < correct[:, KINDS.index(other)]
            summary[kind][f"worse_than_{other}"] = _mean(worse)
    return summary


def summarise_total(total: Personal, sites: Iterable[str], descriptions: Mapping[str, Description]) -> dict[str, Any]:
    """Summarise what is known under masks: how the heads do on all images together. What sites have alone is NaN.

    Args:
        total: the sum of the sites' answers.
        sites: those that are in it.
        descriptions: site → what it has, for all sites of the federation.
    """
    named, unknown = sorted(sites), float("nan")
    summary: dict[str, Any] = {
        "sites": len(named),
        "sites_without_test_images": unknown,
        "sites_without_answer": sorted(set(descriptions) - set(named)),
        "images": total.images,
        "share": total.share / len(named),
    }
    for kind, right in zip(KINDS, total.correct.tolist(), strict=True):
        pooled = right / total.images if total.images else unknown
        summary[kind] = {"mean": unknown, "worst": unknown, "pooled": pooled}
    for kind in ("fine_tuned", "mixed"):
        summary[kind] |= {"worse_than_global": unknown, "worse_than_local": unknown}
    return summary


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
