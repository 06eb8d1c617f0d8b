"""After the last round: closing scores, delivery of the best head, personal heads."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fedtransfer.common.errors import UserError
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Confusion, Personal, Scores, Task
from fedtransfer.server.rounds.choice import federated_loss
from fedtransfer.server.rounds.progress import Candidate, Progress, Requests
from fedtransfer.server.run_folder.summary import summarise_personal
from fedtransfer.server.sites.admission import Answers
from fedtransfer.server.sites.messenger import Messenger

log = logging.getLogger(__name__)


def score(messenger: Messenger, requests: Requests, progress: Progress) -> Candidate:
    """Have all sites score the last head; return the best head.

    With public images the server scores the head on these instead. Under differential privacy sites
    return no scores, so without public images the last head is the best.
    """
    number, everyone = progress.round + 1, messenger.federation.everyone
    if messenger.public:
        public = messenger.public.counts(progress)
        after = progress.scored(number, public.mean_loss)
        nobody = Answers(began=time.monotonic())
        better = after.best.round > progress.best.round
        messenger.report(number, "score", (), nobody, best=better, public=public)
        return after.best
    if messenger.config.private:
        return progress.last(math.inf, number)
    answers = messenger.ask_all(protocol.EVALUATE, Scores, number, everyone, requests.tasks(progress, number))
    best = progress.best
    if best.round and (messenger.config.fraction < 1 or messenger.config.cohort_size):
        # Losses of different cohorts do not compare, so all sites score the best head too.
        tasks = requests.tasks(progress, best.round, best)
        rescored = messenger.ask_all(protocol.EVALUATE, Scores, best.round, everyone, tasks)
        loss = federated_loss(rescored.summands)
        progress = replace(progress, best=replace(best, loss=math.inf if math.isnan(loss) else loss))
    after = progress.scored(number, federated_loss(answers.summands))
    if math.isinf(after.best.loss):  # no site has validation images: keep the last head
        after = replace(after, best=progress.last(math.inf, number))
    messenger.report(number, "score", everyone, answers, best=after.best.round > progress.best.round)
    return after.best


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
            log.warning(
                "no closing scores: %s", str(error).splitlines()[0].partition(". The run stops here")[0]
            )
    return _deliver_unmasked(messenger, tasks, best.round, scores)


def _deliver_unmasked(
    messenger: Messenger, tasks: Callable[[str], Task], number: int, scores: Answers
) -> Answers:
    """Send the best head, unmasked, to sites not in the masked total; they return no scores."""
    unmasked = replace(messenger, config=messenger.config.model_copy(update={"masks": False}))
    missing = [site for site in messenger.federation.everyone if site not in scores.admitted]
    admitted, refused = dict(scores.admitted), dict.fromkeys(missing, "was not asked")
    for _ in messenger.attempts(number) if missing else ():
        answers = unmasked.ask(protocol.FINISH, Confusion, number, {site: tasks(site) for site in missing})
        admitted, refused = admitted | answers.admitted, answers.refused
        if not (missing := list(refused)):
            break
    return Answers(admitted, refused, scores.total)


def make_personal(
    messenger: Messenger, requests: Requests, progress: Progress, best: Candidate
) -> dict[str, Any]:
    """Have every site make a personal head; return their part of ``summary.json``."""
    number, everyone = progress.round + 1, messenger.federation.everyone
    tasks = requests.tasks(progress, number, best)
    try:
        answers = messenger.ask_all(protocol.PERSONAL, Personal, number, everyone, tasks, len(everyone))
    except UserError as error:  # the run already has its result
        log.warning("no personal heads: %s", str(error).splitlines()[0])
        return {}
    messenger.report(number, "personal", everyone, answers)
    return summarise_personal(answers.admitted, messenger.federation.descriptions, answers.total)
