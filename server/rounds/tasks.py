"""What a site is sent in a round, from where the run stands."""

from collections.abc import Callable
from dataclasses import dataclass

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.head.schedule import rate
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Extra, Task
from fedtransfer.server.rounds.balance import class_weights
from fedtransfer.server.rounds.progress import MOMENTS, Candidate, Progress
from fedtransfer.server.sites.federation import Federation


@dataclass(frozen=True)
class Requests:
    """Makes the requests of one run."""

    config: RunConfig
    federation: Federation

    def extra(self, progress: Progress) -> Extra:
        """Return what every request needs to see features as the run does."""
        return {protocol.MOMENTS: progress.arrays[MOMENTS]} if MOMENTS in progress.arrays else {}

    def tasks(self, progress: Progress, number: int, candidate: Candidate | None = None) -> Callable[[str], Task]:
        """Return a function from a site to its task of scoring: the head that a run stands at, or another one."""
        head = candidate.head if candidate else progress.state.head
        trainable = candidate.trainable if candidate else progress.trainable
        extra = self.extra(progress)

        def task(site: str) -> Task:
            return Task(site, number, self.federation.classes, head, trainable=trainable, run=progress.run, extra=extra)

        return task

    def training(self, progress: Progress, number: int, more: Extra) -> Callable[[str], Task]:
        """Return a function from a site to its task of training in a round, with ``more`` next to the head."""
        extra = {**self.extra(progress), **more}
        if self.config.class_balance:
            extra[protocol.CLASS_WEIGHTS] = (class_weights(self.federation.training_images, self.config.class_balance),)
        now, weighting, trainable = rate(self.config, number), self.config.weights_of_sites, progress.trainable

        def task(site: str) -> Task:
            return Task(
                site, number, self.federation.classes, progress.state.head, weighting, trainable, now, progress.run,
                progress.counted.get(site, 0), extra=extra,
            )  # fmt: skip

        return task
