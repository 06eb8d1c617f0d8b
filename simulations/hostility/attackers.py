"""The hostile sites of a simulation: what they train on, what they send, and what they achieve."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.app.message import make_message

from fedtransfer.client.data import SiteData
from fedtransfer.client.training.trainer import Recipe
from fedtransfer.client.training.trainers import trainer
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.backbone.cut import HEAD
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError, UserError
from fedtransfer.common.features.feature_map import Moments
from fedtransfer.common.head.head import Arrays, head_spec
from fedtransfer.common.seeds import generator
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import ProtocolError, Sums, Update
from fedtransfer.simulations.hostility.attacks import ATTACKS, Aim, Features, Labels, Vector
from fedtransfer.simulations.hostility.sums import altered_sums

Split = tuple[Features, Labels]


@dataclass(frozen=True, eq=False)
class PoisonedSite(SiteData):
    """A site that trains on other images than it has; it counts and scores those that it has."""

    poison: Callable[[Features, Labels, tuple[str, ...]], Split] = field(kw_only=True)

    def data(
        self, split: str, classes: tuple[str, ...], moments: Moments | None = None, layer: str = HEAD
    ) -> Split:
        """Return features and class numbers of a split; training images are poisoned."""
        x, y = super().data(split, classes, moments, layer)
        return self.poison(x, y, classes) if split == "train" else (x, y)


@dataclass(frozen=True)
class Attackers:
    """The hostile sites of a run.

    They agree on a source class, the one that they have most training images of, and on a target.
    """

    config: RunConfig
    names: tuple[str, ...]  # of the hostile sites
    source: str
    target: str

    @classmethod
    def draw(cls, config: RunConfig, sites: Mapping[str, SiteData]) -> "Attackers":
        """Draw the hostile sites of a run, and their target, by its seed.

        Raises:
            UserError: none of the sites would be honest.
        """
        if config.hostile_sites >= len(sites):
            raise UserError(
                f"hostile-sites {config.hostile_sites}: {len(sites)} sites take part, and one at least must "
                f"be honest; lower --hostile-sites to {len(sites) - 1} or less"
            )
        rng = generator(config.seed, "hostile sites")
        names = tuple(sorted(map(str, rng.choice(sorted(sites), config.hostile_sites, replace=False))))
        images = Counter(label for name in names for label in sites[name].labels["train"].tolist())
        source = max(sorted(images), key=lambda label: images[label], default="")
        others = {label for site in sites.values() for label in site.labels["train"].tolist()} - {source}
        return cls(config, names, source, str(rng.choice(sorted(others))))

    def poisoned(self, sites: Mapping[str, SiteData]) -> dict[str, SiteData]:
        """Return the sites with hostile ones that train on poisoned images."""
        return {**sites, **{name: self._poisoned(sites[name]) for name in self.names}}

    def _poisoned(self, site: SiteData) -> PoisonedSite:
        def poison(x: Features, y: Labels, classes: tuple[str, ...]) -> Split:
            return ATTACKS[self.config.attack].poison(x, y, self._aim(classes, x.shape[1]))

        return PoisonedSite(**{each.name: getattr(site, each.name) for each in fields(site)}, poison=poison)

    def _aim(self, classes: Sequence[str], width: int) -> Aim:
        pattern = generator(self.config.seed, "pattern of a backdoor").standard_normal(width)
        unit = (pattern / np.linalg.norm(pattern)).astype(np.float32)
        return Aim(classes.index(self.source), classes.index(self.target), unit)

    def alter(self, replies: Mapping[str, Message]) -> dict[str, Message]:
        """Return the replies to an exchange with those of hostile sites as these send them.

        Args:
            replies: site → its reply. Other answers than updates and class sums stay as they are.
        """
        answers = {name: answer for name, reply in replies.items() if (answer := _answer_of(reply))}
        if self.config.attack == "none" or not answers.keys() - {*self.names}:  # nobody to see first
            return dict(replies)
        altered = self._updates({name: each for name, each in answers.items() if isinstance(each, Update)})
        sums = {name: each for name, each in answers.items() if isinstance(each, Sums)}
        if sums:
            attack, scale = ATTACKS[self.config.attack], self.config.attack_scale
            altered |= altered_sums(sums, {*self.names}, attack, scale)
        return {
            name: make_message(copy(reply.metadata), wire.pack(altered[name])) if name in altered else reply
            for name, reply in replies.items()
        }

    def _updates(self, updates: Mapping[str, Update]) -> dict[str, Any]:
        """Return the updates of hostile sites as these send them."""
        honest = np.array([self._delta(update) for name, update in updates.items() if name not in self.names])
        altered = {}
        for name in updates.keys() & {*self.names}:
            update, attack = updates[name], ATTACKS[self.config.attack]
            sent = attack.answer(self._delta(update), honest, self.config.attack_scale) * self._weight(update)
            parts = np.split(sent.astype(np.float32), np.cumsum([a.size for a in update.total])[:-1])
            total = tuple(part.reshape(a.shape) for part, a in zip(parts, update.total, strict=True))
            altered[name] = replace(update, total=total)
        return altered

    def _weight(self, update: Update) -> int:
        return protocol.weight_of(self.config.weights_of_sites, update.examples)

    def _delta(self, update: Update) -> Vector:
        flat = np.concatenate([array.ravel() for array in update.total]).astype(np.float64)
        return np.asarray(flat / self._weight(update))

    def achieved(
        self, sites: Mapping[str, SiteData], classes: tuple[str, ...], head: Arrays,
        moments: Moments | None = None, layer: str = HEAD,
    ) -> dict[str, Any]:  # fmt: skip
        """Return who attacked, and how many test images of all sites a head takes for the target.

        ``backdoor`` is the share of the images of other classes, with the pattern in them;
        ``mistaken`` is that of the images of the source class, as they are.
        """
        spec = head_spec(self.config, configured_backbone(self.config), len(classes), layer)
        test = [site.data("test", classes, moments, layer) for site in sites.values()]
        x, y = (np.concatenate(arrays) for arrays in zip(*test, strict=True))
        aim = self._aim(classes, x.shape[1])
        with trainer(spec, Recipe.from_config(self.config)) as t:

            def share(images: Features) -> float | None:
                predicted = t.predict(head, images).argmax(1)
                return float(np.mean(predicted == aim.target)) if len(images) else None

            shares = {
                "backdoor": share(aim.marked(x[y != aim.target])),
                "mistaken": share(x[y == aim.source]),
            }
        return {"sites": list(self.names), "source": self.source, "target": self.target, **shares}


def _answer_of(reply: Message) -> Update | Sums | None:
    """Return the update or the class sums in a reply; None if it is another answer or a refusal."""
    if not reply.has_content():
        return None
    try:
        answer = wire.unpack(reply.content, Update, Sums)
    except (ProtocolError, SiteError):
        return None
    moments = isinstance(answer, Sums) and len(answer.arrays) == 1
    return None if moments else answer
