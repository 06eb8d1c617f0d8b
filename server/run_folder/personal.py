"""Personal heads in ``summary.json``: mean and worst accuracy, and the share of sites harmed."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.wire.protocol import PERSONAL_HEADS, Description, Personal


def summarise_personal(answers: Mapping[str, Personal], descriptions: Mapping[str, Description]) -> dict[str, Any]:
    """Summarise the scores of each kind of head on the test images of its site.

    Args:
        answers: site → its counts.
        descriptions: site → its description, for all sites of the federation.

    Returns:
        For each kind, accuracy as ``mean`` over sites, of the ``worst`` site, and ``pooled`` over
        images. For fine-tuned and mixed heads, the shares of sites where they score worse than the
        global head and than the local head (Motley, arXiv 2206.09262). Sites without test images
        are only counted. A number over no sites is NaN.
    """
    scored = [answer for _, answer in sorted(answers.items()) if answer.images]
    images = np.array([answer.images for answer in scored], np.int64)
    correct = np.array([answer.correct for answer in scored], np.int64).reshape(-1, len(PERSONAL_HEADS))
    summary: dict[str, Any] = {
        "sites": len(scored),
        "sites_without_test_images": len(answers) - len(scored),
        "sites_without_answer": sorted(set(descriptions) - set(answers)),
        "images": int(images.sum()),
        "share": _mean(np.array([answer.share for answer in scored])),
    }
    for kind, right in zip(PERSONAL_HEADS, correct.T, strict=True):
        accuracy = right / images
        summary[kind] = {
            "mean": _mean(accuracy),
            "worst": float(accuracy.min(initial=np.inf)) if scored else float("nan"),
            "pooled": float(right.sum() / images.sum()) if scored else float("nan"),
        }
    for kind in ("fine_tuned", "mixed"):
        for rival in ("global", "local"):
            worse = correct[:, PERSONAL_HEADS.index(kind)] < correct[:, PERSONAL_HEADS.index(rival)]
            summary[kind][f"worse_than_{rival}"] = _mean(worse)
    return summary


def summarise_total(total: Personal, sites: Iterable[str], descriptions: Mapping[str, Description]) -> dict[str, Any]:
    """Summarise the scores over all images together, as known under masks; numbers by site are NaN.

    Args:
        total: the sum of the sites' answers.
        sites: the sites in the sum.
        descriptions: site → its description, for all sites of the federation.
    """
    names, unknown = sorted(sites), float("nan")
    summary: dict[str, Any] = {
        "sites": len(names),
        "sites_without_test_images": unknown,
        "sites_without_answer": sorted(set(descriptions) - set(names)),
        "images": total.images,
        "share": total.share / len(names),
    }
    for kind, right in zip(PERSONAL_HEADS, total.correct.tolist(), strict=True):
        pooled = right / total.images if total.images else unknown
        summary[kind] = {"mean": unknown, "worst": unknown, "pooled": pooled}
    for kind in ("fine_tuned", "mixed"):
        summary[kind] |= {"worse_than_global": unknown, "worse_than_local": unknown}
    return summary


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
