"""Federations with features drawn by a seed: the real server, the real work of sites, no images."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from waiting import wait_until

from fedtransfer.client import tasks
from fedtransfer.client.data import SPLITS, SiteData
from fedtransfer.client.masking.masking import Masking
from fedtransfer.client.masking.secrets import Safe, Steps
from fedtransfer.client.node import Node
from fedtransfer.client.tasks import Site
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.features.feature_map import Moments, feature_map
from fedtransfer.common.masks import messages
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import Gather, Query, Request, Task, Trial
from fedtransfer.server.callbacks import Callback, Round
from fedtransfer.server.rounds.loop import federate
from fedtransfer.server.run_folder.summary import Outcome
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process

WIDTH = 256  # of the bundled backbone's features
Split = tuple[np.ndarray, np.ndarray]  # features (n, WIDTH), class names (n,)
Data = Mapping[str, Mapping[str, Split]]  # site → split → images
Misbehaviour = Callable[[str, Any, Any], Any]  # site, request, sound answer → answer


def draw(seed: int, n: int, classes: str = "abc") -> Split:
    """Draw n images of all these classes: overlapping clouds, with features of different scales."""
    rng = np.random.default_rng(seed)
    labels = np.array(list(classes))[rng.permutation(np.arange(n) % len(classes))]
    centre = {name: np.random.default_rng(ord(name)).normal(0, 0.1, WIDTH) for name in classes}
    x = rng.normal(0, 1, (n, WIDTH)) + np.array([centre[name] for name in labels]).reshape(n, WIDTH)
    return (x * np.linspace(0.5, 2, WIDTH) + 1).astype(np.float32), labels


def three_sites(seed: int = 0, **changes: int) -> dict[str, dict[str, Split]]:
    """Three sites of different sizes; ``validation=0`` and the like set the images of a split."""
    sizes = {"train": 12, "validation": 9, "test": 6} | changes
    return {
        name: {
            split: draw(100 * seed + 10 * k + i, size and size + 9 * k)
            for i, (split, size) in enumerate(sizes.items())
        }
        for k, name in enumerate(("anna", "bert", "carl"))
    }


def together(data: Data, split: str) -> Split:
    """All images of a split, in site order."""
    x, labels = zip(*(data[site][split] for site in sorted(data)), strict=True)
    return np.concatenate(x), np.concatenate(labels)


def seen(config: RunConfig, x: np.ndarray, moments: Moments | None = None) -> np.ndarray:
    """Features as heads see them."""
    return feature_map(config, configured_backbone(config), moments)(x)


@dataclass
class Store:
    """A feature store in memory."""

    features: dict[bytes, np.ndarray]

    def read(self, keys: Sequence[bytes]) -> np.ndarray:
        return np.array([self.features[key] for key in keys], np.float32).reshape(len(keys), WIDTH)


def site_of(splits: Mapping[str, Split], config: RunConfig) -> SiteData:
    keys = {split: [f"{split} {i}".encode() for i in range(len(splits[split][1]))] for split in SPLITS}
    store = Store({key: x for split in SPLITS for key, x in zip(keys[split], splits[split][0], strict=True)})
    labels = {split: np.asarray(splits[split][1], np.str_) for split in SPLITS}
    backbone = configured_backbone(config)
    return SiteData(
        keys, labels, 0, 0, {"head": store}, lambda moments: feature_map(config, backbone, moments)
    )  # type: ignore[dict-item]


class Stopped(Exception):
    """What a run that is to be resumed ends with."""


@dataclass
class Watch(Callback):
    """Remembers rounds; stops the run after so many of training."""

    stop_after: int | None = None
    records: list[Round] = field(default_factory=list)

    def on_round(self, record: Round) -> None:
        self.records.append(record)
        if (
            record.phase == "train"
            and record.round == (self.stop_after or 0) + 1
            and self.stop_after is not None
        ):
            raise Stopped


@dataclass
class Drawn:
    """A federation; ``asked`` and ``answered`` are filled while it runs."""

    data: Data
    folder: Path
    misbehave: Misbehaviour = lambda site, request, value: value
    asked: list[tuple[str, Any]] = field(default_factory=list)
    answered: list[tuple[str, Any]] = field(default_factory=list)
    answers: list[tuple[str, Any]] = field(default_factory=list)  # before masks
    records: list[Round] = field(default_factory=list)
    steps: Steps = field(default_factory=Steps)

    def config(self, **settings: Any) -> RunConfig:
        plain = {"server_learning_rate": 1.0, "server_momentum": 0.0}
        closed = settings.get("strategy") in ("fedncm", "fed3r", "fedcof")
        return RunConfig(**{"sites": len(self.data), "rounds": 3, **({} if closed else plain), **settings})

    def run(
        self,
        *callbacks: Callback,
        stop_after: int | None = None,
        rng: np.random.Generator | None = None,
        **settings: Any,
    ) -> Outcome:
        """Run it; ``stop_after``: break off in the round after so many, before its checkpoint."""
        config, outcomes = self.config(**settings), []
        self.folder.mkdir(exist_ok=True)
        watch = Watch(stop_after)

        def main(grid: Grid) -> None:
            outcomes.append(
                federate(grid, config, configured_backbone(config), self.folder, [watch, *callbacks], rng)
            )

        try:
            self.serve(main, config)
        finally:
            self.records = watch.records
            for callback in callbacks:
                callback.close()
        return outcomes[0]

    def serve(self, main: Callable[[Grid], None], config: RunConfig) -> None:
        """Run a server of one's own over the sites."""
        server = ServerApp()
        server.main()(lambda grid, context: main(grid))
        nodes = [SimulatedSite(name, {"name": name}) for name in sorted(self.data)]
        run_in_process(server, self._app(config), nodes, config.to_flat(), 2)

    def requests(self, kind: type[Any]) -> list[Any]:
        """What sites were asked of a kind."""
        return [request for _, request in self.asked if isinstance(request, kind)]

    def _app(self, config: RunConfig) -> ClientApp:
        app = ClientApp()
        at_work = {
            name: Site(Node("", self.folder / name), config, 1, site_of(splits, config))
            for name, splits in self.data.items()
        }

        def answer(
            kind: type[Any], handle: Callable[[Any, Site], Any] | None = None
        ) -> Callable[[Message, Context], Message]:
            def handler(message: Message, context: Context) -> Message:
                site, request = str(context.node_config["name"]), wire.unpack(message.content, kind)
                masking = Masking(Safe(context.state, self.steps), at_work[site].node, config)
                self.asked.append((site, request))

                def sound() -> Any:
                    self.answers.append((site, value := handle(request, at_work[site])))
                    return value

                try:
                    if handle is None:
                        value = masking.answer(request)
                    elif config.masks and isinstance(request, Request):
                        value = masking.mask(request, message.metadata.message_type, sound)
                    else:
                        value = sound()
                    value = self.misbehave(site, request, value)
                    self.answered.append((site, value))
                except SiteError as error:
                    value = error
                return Message(wire.pack(value), reply_to=message)

            return handler

        app.query()(answer(Query, tasks.describe))
        app.train()(answer(Task, tasks.train))
        app.train("gather")(answer(Gather, tasks.gather))
        app.evaluate()(answer(Task, tasks.score))
        app.evaluate("trial")(answer(Trial, tasks.trial))
        app.evaluate("personal")(answer(Task, tasks.personal))
        app.evaluate("finish")(answer(Task, tasks.finish))
        app.query("keys")(answer(messages.Invitation))
        app.query("peers")(answer(messages.Peers))
        app.query("survivors")(answer(messages.Survivors))
        app.query("unmask")(answer(messages.Unmasking))
        return app


@contextmanager
def hanging() -> Iterator[Callable[[], None]]:
    """Yield a function that hangs until the block ends.

    An exchange times out when a site hangs and all others have answered: no test waits for a clock,
    and no sound site has to hurry on a busy machine.
    """
    end, hung = threading.Event(), []

    def hang() -> None:
        hung.append(1)
        end.wait()

    def wait(futures: Sequence[Future[Message]], timeout: float | None) -> None:
        def answered() -> bool:
            return sum(not future.done() for future in futures) <= len(hung)

        wait_until(answered, "all sites that do not hang have answered")
        hung.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedtransfer.simulations.engines.inprocess.wait", wait)
        try:
            yield hang
        finally:
            end.set()


def losses_of(head: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray, factor: float = 1.0) -> float:
    """Summed cross-entropy of a linear head, in float64."""
    scores = factor * (x.astype(np.float64) @ head[0] + head[1])
    scores -= scores.max(1, keepdims=True)
    return float((np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]).sum())


def numbers(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    return np.array([list(classes).index(name) for name in labels], np.int64)


def assert_same(one: Iterable[np.ndarray], other: Iterable[np.ndarray]) -> None:
    """Bit for bit."""
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
