"""What comes after the last round: the last scores, heads between heads, and the delivery of the one to keep."""

import csv
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import mix
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Confusion, Personal, Scores, Task, Trial
from fedtransfer.server.rounds.progress import AVERAGE, BEFORE, EMA, FIRST, Candidate, Progress
from fedtransfer.server.rounds.scoring import TEST, VALIDATION, hold_trial
from fedtransfer.server.rounds.tasks import Requests
from fedtransfer.server.run_folder.personal import summarise_personal, summarise_total
from fedtransfer.server.run_folder.records import Point
from fedtransfer.server.sites.admission import Admission
from fedtransfer.server.sites.messenger import Asked, Asker

log = logging.getLogger(__name__)

SHARES = tuple(i / 10 for i in range(11))
_ROUNDING = 1e-6  # by which the loss of one head may differ, summed in another order


def score(asker: Asker, requests: Requests, progress: Progress) -> tuple[Candidate, tuple[str, ...]]:
    """Have all sites score the last head; return the head to keep, and the sites that did.

    Public images score it here where there are any. Under differential privacy sites have nothing to say of it, so without
    such images the last head is kept.
    """
    number, everyone = progress.round + 1, asker.federation.everyone
    if asker.public:
        public = asker.public.counts(progress)
        after = progress.scored(number, public, asker.config)
        nobody = Asked(Admission({}, {}), 0, 0, time.monotonic(), 0.0)
        asker.report(number, "score", (), nobody, best=after.best.round > progress.best.round, public=public)
        return after.best, ()
    if asker.config.private:
        return progress.last(math.inf, number), ()
    asked = asker.ask_all(protocol.EVALUATE, Scores, number, everyone, requests.tasks(progress, number))
    best = progress.best
    if best.round and (asker.config.fraction < 1 or asker.config.cohort_size):
        # Losses of different cohorts do not compare: the best so far is scored by all sites, as the last head is.
        again = asker.ask_all(
            protocol.EVALUATE, Scores, best.round, everyone, requests.tasks(progress, best.round, best)
        )
        loss = asker.total(again.answers, "validation").mean_loss
        progress = replace(progress, best=replace(best, loss=math.inf if math.isnan(loss) else loss))
    after = progress.scored(number, asker.total(asked.answers, "validation"), asker.config)
    if math.isinf(after.best.loss):  # without any validation image, the last head it is
        after = replace(after, best=progress.last(math.inf, number))
    asker.report(number, "score", everyone, asked, best=after.best.round > progress.best.round)
    return after.best, tuple(asked.admitted)


def interpolate(
    asker: Asker, requests: Requests, progress: Progress, best: Candidate, scored_by: tuple[str, ...]
) -> tuple[Candidate, list[Point]]:
    """Score the heads between two, along every curve that the run kept the ends of; return the best head of all.

    ``server``: from the head that entered the last round to the average that came of it, the server's own mix;
    ``initial``: from the first head to the last (WiSE-FT, arXiv 2109.01903); ``ema``: from the last head to the running
    mean of all. On public images where the server has some.
    """
    last, kept = progress.state.head, progress.kept
    mean = tuple(array.astype(np.float32) for array in kept[EMA]) if EMA in kept else None
    ends = {
        "server": (kept.get(BEFORE), kept.get(AVERAGE)),
        "initial": (kept.get(FIRST), last),
        "ema": (last, mean),
    }
    points = []
    for curve, (start, end) in ends.items():
        if start is None or end is None:
            continue
        number = progress.round + 1
        if asker.public:
            for share in SHARES:
                candidate = Candidate(math.inf, number, mix(start, end, share), best.trainable, f"{curve} {share:g}")
                counts = asker.public.counts(progress, candidate)
                points.append(Point(curve, share, (math.nan, math.nan), (counts.accuracy, counts.mean_loss)))
                if counts.mean_loss < best.loss * (1 - _ROUNDING):
                    best = replace(candidate, loss=counts.mean_loss)
            continue
        trial = Trial(
            "", number, asker.terms.classes, (start, end), shares=SHARES, trainable=best.trainable,
            extra=requests.extra(progress),
        )  # fmt: skip
        result = hold_trial(asker, trial)
        comparable = result.images[VALIDATION] and result.sites == scored_by  # losses of other sites do not compare
        accuracy, loss = (
            result.correct / np.maximum(result.images, 1),
            result.losses[:, 0] / np.maximum(result.images, 1),
        )
        for share, accuracies, losses in zip(SHARES, accuracy.tolist(), loss.tolist(), strict=True):
            pairs = [
                (accuracies[split], losses[split]) if result.images[split] else (math.nan, math.nan)
                for split in (VALIDATION, TEST)
            ]
            points.append(Point(curve, share, *pairs))
            if comparable and losses[VALIDATION] < best.loss * (1 - _ROUNDING):
                best = Candidate(
                    losses[VALIDATION], number, mix(start, end, share), best.trainable, f"{curve} {share:g}"
                )
    return best, points


def deliver(asker: Asker, requests: Requests, progress: Progress, best: Candidate) -> Admission:
    """Hand every site the head to keep; its closing scores come back."""
    everyone = asker.federation.everyone
    tasks = requests.tasks(progress, best.round, best)
    if not asker.config.masks:
        return asker.ask_all(protocol.FINISH, Confusion, best.round, everyone, tasks, len(everyone)).admission
    counted = Admission({}, {})
    if not asker.config.private:  # else there is nothing to count
        try:
            counted = asker.ask_all(protocol.FINISH, Confusion, best.round, everyone, tasks).admission
        except UserError as error:  # the sites' result matters more than their counts
            log.warning("no closing scores: %s", str(error).splitlines()[0].partition(". The run stops here")[0])
    return _handed(asker, tasks, best.round, counted)


def _handed(asker: Asker, tasks: Callable[[str], Task], number: int, counted: Admission) -> Admission:
    """Hand the head to sites that are not in the total under masks; asked without masks, they say nothing of how it does."""
    openly = replace(asker, config=asker.config.model_copy(update={"masks": False}))
    left = [site for site in asker.federation.everyone if site not in counted.admitted]
    admitted, refused = dict(counted.admitted), dict.fromkeys(left, "was not asked")
    for _ in asker.attempts(number) if left else ():
        asked = openly.ask(protocol.FINISH, Confusion, number, {site: tasks(site) for site in left})
        admitted, refused = admitted | asked.admitted, asked.refused
        if not (left := list(refused)):
            break
    return Admission(admitted, refused, counted.total)


def make_personal(asker: Asker, requests: Requests, progress: Progress, best: Candidate) -> dict[str, Any]:
    """Have every site make the head its own; return what ``summary.json`` says of how these do."""
    number, everyone = progress.round + 1, asker.federation.everyone
    tasks = requests.tasks(progress, number, best)
    try:
        asked = asker.ask_all(protocol.PERSONAL, Personal, number, everyone, tasks, len(everyone))
    except UserError as error:  # the run has its result
        log.warning("no personal heads: %s", str(error).splitlines()[0])
        return {}
    asker.report(number, "personal", everyone, asked)
    if asked.admission.total:
        return summarise_total(asked.admission.total, asked.admitted, asker.federation.descriptions)
    return summarise_personal(asked.admitted, asker.federation.descriptions)


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Write ``interpolation.csv``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["curve", "share", "validation_accuracy", "validation_loss", "accuracy", "loss"])
        writer.writerows([p.curve, f"{p.share:g}", *(f"{v:.6f}" for v in (*p.validation, *p.test))] for p in points)
