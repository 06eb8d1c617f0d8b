"""What the server of a run can infer about each site, and how close that is to the truth.

The server is curious, not malicious: it runs the federation by the protocol and analyses what it
gets. It attacks each site in the site's first round, when the head is least trained and an update
reveals most. It is assumed to know each site's number of images, even if that is not sent. Under
masks it has only a total, and divides it among sites by their numbers of images. If each site adds
noise to its own answer, the server may add the answers up, and does so if the sum is clearer. If
the server alone adds the noise (``--dp site``), what it gets has none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.training.trainer import Features
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.schedule import rate
from fedtransfer.common.privacy.closed_form import gram_matrix
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.wire.protocol import weight_of
from fedtransfer.common.wire.sums import NOISY_GRAM, one_shot_sums, unpack_triangle
from fedtransfer.simulations.audit import leaks
from fedtransfer.simulations.audit.federation import TOTAL, Answer, RoundView, Split
from fedtransfer.simulations.audit.leaks import Matrix, Recovered, unit_rows
from fedtransfer.simulations.scoring.estimate import Estimate

_BUCKETS = (("cosine@1", 1, 1), ("cosine@2-5", 2, 5), ("cosine@6+", 6, np.inf))


class Measure(NamedTuple):
    """One number of an audit: the mean over sites, or over classes or images at sites."""

    attack: str
    measure: str
    estimate: Estimate  # the mean, with the interval by the bootstrap
    note: str = ""  # what it is to be read with
    by_chance: float = math.nan  # the value of a guess that needs nothing from the site; NaN for none


def recovered(
    config: RunConfig, images: Mapping[str, int], rounds: Sequence[RoundView]
) -> dict[str, Recovered]:
    """Read counts and sums of features off each site that was in a round.

    ``images`` are the numbers at all sites that have any; a site is in the ``rounds`` of
    ``federate`` in which it was seen for the first time.

    Raises:
        UserError: features are not of length 1.
    """
    if not config.normalise:
        raise UserError(
            "normalise false: these attacks know features by their length of 1; audit with normalise = true"
        )
    sites: dict[str, Recovered] = {}
    for view in rounds:
        read: dict[tuple[str, ...], Recovered] = {}
        for site, (answer, cohort) in _clearest(config, view).items():
            if site in sites or site not in images:
                continue
            among = {name: images[name] for name in cohort if name in images}
            total = sum(among.values())
            if cohort not in read:
                is_sum = config.closed_form
                read[cohort] = (
                    _of_sums(config, answer, total) if is_sum else _of_change(config, view, answer, among)
                )
            share = images[site] / total
            sites[site] = Recovered(read[cohort].counts * share, read[cohort].sums * share)
    return sites


def measure_leaks(
    config: RunConfig, sites: Mapping[str, Split], classes: int, rounds: Sequence[RoundView], others: Split,
    whose: str,
) -> list[Measure]:  # fmt: skip
    """Measure what the server reads off: label counts, features, of one-shot sums single features.

    Args:
        config, sites, classes: as in ``federate``.
        rounds: those in which a site was seen for the first time.
        others: images that were not trained on; their class means are the guess by class alone.
        whose: these are, in words.
    """
    truth = {
        name: np.bincount(y, minlength=classes).astype(np.int64) for name, (_, y) in sites.items() if len(y)
    }
    read = recovered(config, {name: int(true.sum()) for name, true in truth.items()}, rounds)
    truth = {name: true for name, true in truth.items() if name in read}
    exact = Estimate.bootstrapped(
        [float(np.mean(np.rint(read[name].counts) == true)) for name, true in truth.items()]
    )
    wrong = Estimate.bootstrapped([_share_wrong(read[name].counts, true) for name, true in truth.items()])
    even = np.mean([_share_wrong(np.full(classes, true.sum() / classes), true) for true in truth.values()])
    commonest = np.unique(np.concatenate([*truth.values()]), return_counts=True)[1].max() / (
        len(truth) * classes
    )
    measures = [
        Measure("labels", "exact_share", exact, "classes with the right number of images", float(commonest)),
        Measure("labels", "l1", wrong, "as a share of the images", float(even)),
    ]
    guess = unit_rows(np.stack([others[0][others[1] == c].sum(0, np.float64) for c in range(classes)]))
    cosines = [
        (true[c], float(read[name].directions[c] @ mean), float(guess[c] @ mean))
        for name, true in truth.items()
        for x, y in [sites[name]]
        for c in np.flatnonzero(true)
        for mean in unit_rows(x[y == c].mean(0, np.float64)[None])
    ]
    note = (
        f"to the mean feature of a class at a site, by its images; the guess is the class's mean over {whose}"
    )
    for bucket, low, high in _BUCKETS:
        mean = Estimate.bootstrapped([cosine for n, cosine, _ in cosines if low <= n <= high])
        guessed = [cosine for n, _, cosine in cosines if low <= n <= high]
        measures.append(
            Measure("features", bucket, mean, note, float(np.mean(guessed)) if guessed else math.nan)
        )
    features = {name: sites[name][0] for name in truth}
    if config.method.sums == "gram":
        return measures + _of_grams(config, features, rounds)
    if config.closed_form:
        measures.append(
            _largest("means", "of a class mean", {name: read[name].sums for name in truth}, features)
        )
    return measures


def _clearest(config: RunConfig, view: RoundView) -> dict[str, tuple[Answer, tuple[str, ...]]]:
    """Return site → the answer that tells most of it, its own or the sum of all, and whose it is.

    All N answers have noise of the same variance, and their sum has N times as much: the sum is
    the clearer one if its square is more than N times that of the answer.
    """
    if TOTAL in view.sent:
        return dict.fromkeys(view.cohort, (view.sent[TOTAL], view.cohort))
    single: dict[str, tuple[Answer, tuple[str, ...]]] = {
        site: (answer, (site,)) for site, answer in view.sent.items()
    }
    if config.dp != "image":
        return single
    answers = [answer.arrays for answer in view.sent.values()]
    added = Answer(tuple(np.sum(arrays, axis=0) for arrays in zip(*answers, strict=True)), None)
    square = _square(added)
    return {
        site: (added, view.cohort) if square > len(answers) * _square(alone[0]) else alone
        for site, alone in single.items()
    }


def _square(answer: Answer) -> float:
    return float(sum(np.sum(array**2) for array in answer.arrays))


def _of_sums(config: RunConfig, answer: Answer, images: int) -> Recovered:
    first, *second = answer.arrays
    match one_shot_sums(config):
        case "classes":
            return leaks.from_sums(first, second[0], images)
        case "gram":
            return leaks.from_sums(second[0][:-1].T, second[0][-1], images)
        case kind:
            return leaks.from_sums(second[0].T if kind == NOISY_GRAM else first, None, images)


def _of_change(config: RunConfig, view: RoundView, answer: Answer, images_of: Mapping[str, int]) -> Recovered:
    """Read a mean change of the head over sites as that of one site with all their images."""
    promised, images, together = guarantee(config), sum(images_of.values()), len(images_of)
    weight = weight_of(config.weights_of_sites, answer.images or together, together)
    change = tuple(array / weight for array in answer.arrays)
    step, steps = config.learning_rate * rate(config, view.round), promised.releases if promised else 0
    if promised and config.dp == "image":
        # A sum over a sample has a fixed divisor; at a head of zeros the gradients of all images
        # have one norm, so one factor clips them.
        step *= promised.release.rate * images / together / config.batch_size
        step *= min(1.0, promised.clip / np.sqrt(2 * (1 - 1 / len(view.head[-1]))))
    else:
        steps = config.local_epochs * int(np.ceil(images / together / config.batch_size))
    return leaks.from_update(view.head, change, images, step, steps)


def _of_grams(
    config: RunConfig, features: Mapping[str, Features], rounds: Sequence[RoundView]
) -> list[Measure]:
    """Measure how near the Gram matrix' eigenvectors are to features, and what its span tells."""
    directions: dict[str, Matrix] = {}
    clearest = _clearest(config, rounds[0])
    for name in features:
        answer, _ = clearest[name]
        if config.private:
            gram, total = gram_matrix(answer.arrays[0]), answer.arrays[1].sum(1)
        else:
            augmented = unpack_triangle(answer.arrays[0])
            gram, total = augmented[:-1, :-1], augmented[-1, :-1]
        directions[name] = leaks.gram_directions(gram, total)
    inside = [float(leaks.inside_span(directions[name], x).mean()) for name, x in features.items()]
    outside = [
        float(leaks.inside_span(directions[name], features[other]).mean()) for name, other in _pairs(features)
    ]
    note = "share of the length of a site's features in the matrix's row space"
    return [
        _largest("gram", "of an eigenvector", directions, features),
        Measure("gram", "inside_span", Estimate.bootstrapped(inside), note),
        Measure(
            "gram",
            "inside_span_of_others",
            Estimate.bootstrapped(outside),
            "the same of the features of another site",
        ),
    ]


def _largest(
    attack: str, subject: str, guesses: Mapping[str, Matrix], features: Mapping[str, Features]
) -> Measure:
    values = Estimate.bootstrapped([leaks.largest_cosine(guesses[name], x) for name, x in features.items()])
    others = [leaks.largest_cosine(guesses[other], features[name]) for name, other in _pairs(features)]
    by_chance = float(np.mean(others)) if others else math.nan
    return Measure(attack, "max_cosine", values, f"{subject} to any feature of the site", by_chance)


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Give each name its next one, in a circle."""
    names = list(names)
    return list(zip(names, names[1:] + names[:1], strict=True)) if len(names) > 1 else []


def _share_wrong(counts: Matrix, true: NDArray[np.int64]) -> float:
    return float(np.abs(counts - true).sum() / true.sum())
