"""After the last round: closing scores, interpolated heads, delivery of the best head, personal heads."""

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
from fedtransfer.server.rounds.scoring import TEST, VALIDATION, score_heads
from fedtransfer.server.rounds.tasks import Requests
from fedtransfer.server.run_folder.personal import summarise_personal, summarise_total
from fedtransfer.server.run_folder.records import Point
from fedtransfer.server.sites.admission import Answers
from fedtransfer.server.sites.messenger import Messenger

log = logging.getLogger(__name__)

SHARES = tuple(i / 10 for i in range(11))
_ROUNDING = 1e-6  # relative difference of one head's losses, summed in two orders


def score(messenger: Messenger, requests: Requests, progress: Progress) -> tuple[Candidate, tuple[str, ...]]:
    """Have all sites score the last head; return the best head, and the sites that scored.

    With public images the server scores the head on these instead. Under differential privacy sites
    return no scores, so without public images the last head is the best.
    """
    number, everyone = progress.round + 1, messenger.federation.everyone
    if messenger.public:
        public = messenger.public.counts(progress)
        after = progress.scored(number, public, messenger.config)
        nobody = Answers(began=time.monotonic())
        messenger.report(number, "score", (), nobody, best=after.best.round > progress.best.round, public=public)
        return after.best, ()
    if messenger.config.private:
        return progress.last(math.inf, number), ()
    answers = messenger.ask_all(protocol.EVALUATE, Scores, number, everyone, requests.tasks(progress, number))
    best = progress.best
    if best.round and (messenger.config.fraction < 1 or messenger.config.cohort_size):
        # Losses of different cohorts do not compare, so all sites score the best head as they score the last one.
        tasks = requests.tasks(progress, best.round, best)
        rescored = messenger.ask_all(protocol.EVALUATE, Scores, best.round, everyone, tasks)
        loss = messenger.total(rescored.summands, "validation").mean_loss
        progress = replace(progress, best=replace(best, loss=math.inf if math.isnan(loss) else loss))
    after = progress.scored(number, messenger.total(answers.summands, "validation"), messenger.config)
    if math.isinf(after.best.loss):  # no site has validation images: keep the last head
        after = replace(after, best=progress.last(math.inf, number))
    messenger.report(number, "score", everyone, answers, best=after.best.round > progress.best.round)
    return after.best, tuple(answers.admitted)


def interpolate(
    messenger: Messenger, requests: Requests, progress: Progress, best: Candidate, scored_by: tuple[str, ...]
) -> tuple[Candidate, list[Point]]:
    """Score heads between two heads, along each curve whose ends the run has; return the best of all.

    ``server``: from the head entering the last round to the average of its updates. ``initial``:
    from the first head to the last (WiSE-FT, arXiv 2109.01903). ``ema``: from the last head to the
    running mean of all heads. With public images the server scores them itself.
    """
    last, arrays = progress.state.head, progress.arrays
    mean = tuple(array.astype(np.float32) for array in arrays[EMA]) if EMA in arrays else None
    ends = {
        "server": (arrays.get(BEFORE), arrays.get(AVERAGE)),
        "initial": (arrays.get(FIRST), last),
        "ema": (last, mean),
    }
    points = []
    for curve, (start, end) in ends.items():
        if start is None or end is None:
            continue
        number = progress.round + 1
        if messenger.public:
            for share in SHARES:
                candidate = Candidate(math.inf, number, mix(start, end, share), best.trainable, f"{curve} {share:g}")
                counts = messenger.public.counts(progress, candidate)
                points.append(Point(curve, share, (math.nan, math.nan), (counts.accuracy, counts.mean_loss)))
                if counts.mean_loss < best.loss * (1 - _ROUNDING):
                    best = replace(candidate, loss=counts.mean_loss)
            continue
        trial = Trial(
            "", number, messenger.terms.classes, (start, end), shares=SHARES, trainable=best.trainable,
            extra=requests.extra(progress),
        )  # fmt: skip
        result = score_heads(messenger, trial)
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


def deliver(messenger: Messenger, requests: Requests, progress: Progress, best: Candidate) -> Answers:
    """Send every site the best head; return the sites' closing scores."""
    everyone = messenger.federation.everyone
    tasks = requests.tasks(progress, best.round, best)
    if not messenger.config.masks:
        return messenger.ask_all(protocol.FINISH, Confusion, best.round, everyone, tasks, len(everyone))
    scores = Answers()
    if not messenger.config.private:  # private sites return no scores
        try:
            scores = messenger.ask_all(protocol.FINISH, Confusion, best.round, everyone, tasks)
        except UserError as error:  # delivery matters more than scores
            log.warning("no closing scores: %s", str(error).splitlines()[0].partition(". The run stops here")[0])
    return _deliver_unmasked(messenger, tasks, best.round, scores)


def _deliver_unmasked(messenger: Messenger, tasks: Callable[[str], Task], number: int, scores: Answers) -> Answers:
    """Send the best head, unmasked, to sites missing from the masked total; they return no scores."""
    unmasked = replace(messenger, config=messenger.config.model_copy(update={"masks": False}))
    missing = [site for site in messenger.federation.everyone if site not in scores.admitted]
    admitted, refused = dict(scores.admitted), dict.fromkeys(missing, "was not asked")
    for _ in messenger.attempts(number) if missing else ():
        answers = unmasked.ask(protocol.FINISH, Confusion, number, {site: tasks(site) for site in missing})
        admitted, refused = admitted | answers.admitted, answers.refused
        if not (missing := list(refused)):
            break
    return Answers(admitted, refused, scores.total)


def make_personal(messenger: Messenger, requests: Requests, progress: Progress, best: Candidate) -> dict[str, Any]:
    """Have every site make a personal head; return their part of ``summary.json``."""
    number, everyone = progress.round + 1, messenger.federation.everyone
    tasks = requests.tasks(progress, number, best)
    try:
        answers = messenger.ask_all(protocol.PERSONAL, Personal, number, everyone, tasks, len(everyone))
    except UserError as error:  # the run already has its result
        log.warning("no personal heads: %s", str(error).splitlines()[0])
        return {}
    messenger.report(number, "personal", everyone, answers)
    if answers.total:
        return summarise_total(answers.total, answers.admitted, messenger.federation.descriptions)
    return summarise_personal(answers.admitted, messenger.federation.descriptions)


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Write ``interpolation.csv``, a row for each head between two."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["curve", "share", "validation_accuracy", "validation_loss", "accuracy", "loss"])
        writer.writerows([p.curve, f"{p.share:g}", *(f"{v:.6f}" for v in (*p.validation, *p.test))] for p in points)
