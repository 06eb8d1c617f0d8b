"""The sites of a run: wait for them, ask what images they have, and settle names and classes."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import Backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.config.privacy_rules import refuse_undeclared
from fedtransfer.common.data.sources import natural_order
from fedtransfer.common.errors import UserError
from fedtransfer.common.masks.graph import graph
from fedtransfer.common.support.keys import line_of_pem
from fedtransfer.common.support.text import counted, some
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Description, Preparing, ProtocolError, Query
from fedtransfer.server.callbacks import Callback
from fedtransfer.server.sites.admission import Answers, admit, is_gone
from fedtransfer.server.sites.bounds import Images, check_description
from fedtransfer.server.sites.cohort import cohort_size, quorum
from fedtransfer.server.sites.exchange import exchange_in_groups

log = logging.getLogger(__name__)

_UNNAMED = "node "
POLL_SECONDS = 0.2
REPORT_SECONDS = 10.0  # between two reports of a wait


@dataclass(frozen=True)
class Federation:
    """The sites of a run, by name."""

    nodes: dict[str, int]  # site → Flower's node id
    descriptions: dict[str, Description]  # site → its numbers of images
    classes: tuple[str, ...]  # names, in the order of the head's columns
    absent: dict[str, str]  # site that takes no part → why
    hidden: bool = False  # sites do not reveal their numbers of images
    keys: Mapping[str, str] = field(default_factory=dict)  # site → enrolled public key; not in a simulation

    @property
    def everyone(self) -> tuple[str, ...]:
        """All sites, in name order."""
        return tuple(sorted(self.nodes))

    @cached_property
    def images(self) -> dict[str, Images]:
        """Site → its numbers of images at joining; of none if sites do not reveal them."""
        sites = {} if self.hidden else self.descriptions
        return {
            site: np.array([sites[site].images.get(name, (0, 0, 0)) for name in self.classes], np.int64)
            for site in sites
        }

    @cached_property
    def training_images(self) -> NDArray[np.int64]:
        """Training images of each class over all sites, (C,)."""
        zeros = np.zeros((len(self.classes), 3), np.int64)
        return sum(self.images.values(), zeros)[:, 0]

    @property
    def held_by_one(self) -> dict[str, str]:
        """Class → the only site that has training images of it, in a federation of several."""
        holders = {
            name: [site for site in self.everyone if self.descriptions[site].images.get(name, (0,))[0]]
            for name in self.classes
        }
        return {name: sites[0] for name, sites in holders.items() if len(sites) == 1 < len(self.nodes)}

    @property
    def trainers(self) -> tuple[str, ...]:
        """The sites with training images, or all sites if they do not reveal their numbers."""
        if self.hidden:
            return self.everyone
        images = {site: description.images.values() for site, description in self.descriptions.items()}
        return tuple(site for site in self.everyone if any(train for train, _, _ in images[site]))


def join(grid: Grid, config: RunConfig, backbone: Backbone, callbacks: Sequence[Callback] = ()) -> Federation:
    """Wait for the sites, and ask each what images it has.

    A site's name is its enrolled name. In a simulation, where nodes have no enrolled name, it is
    the name of the partition that the node works on. ``callbacks`` hear of sites that prepare their
    features, and every ten seconds of a wait.

    Raises:
        UserError: too few sites connect or can take part, or no site has training images.
    """
    refuse_undeclared(config)
    connected, needed = _wait(grid, config, callbacks), quorum(config.participants, config.min_sites)
    nodes = {label: node.node_id for label, node in connected.items()}
    query = Query(backbone.name, backbone.resolution, backbone.fingerprint, config.declared_classes)
    answers = _describe(grid, nodes, query, config, callbacks)
    for site, why in answers.refused.items():
        log.warning("%s takes no part in the run: %s", site, why)
    if len(answers.admitted) < needed:
        able = f"{len(answers.admitted)} of {len(nodes)} sites can take part"
        raise UserError(f"{able}, {needed} are needed:\n{lines_of(answers.refused)}")
    name = {label: _name(label, description) for label, description in answers.admitted.items()}
    _refuse_same_names(list(name.values()))
    descriptions = {name[label]: description for label, description in answers.admitted.items()}
    classes = config.declared_classes or natural_order(
        class_name for description in descriptions.values() for class_name in description.images
    )
    # The keys of Ray's nodes are invalid.
    enrolled = [label for label in name if not label.startswith(_UNNAMED)]
    keys = {name[label]: line for label in enrolled if (line := line_of_pem(connected[label].public_key))}
    named = {name[label]: nodes[label] for label in name}
    federation = Federation(named, descriptions, classes, answers.refused, config.hides_counts, keys)
    _check_trainers(federation, config)
    if lonely := federation.held_by_one:
        log.warning(
            "%d of %d classes have training images at one site only, "
            "which alone decides what the head learns of them: %s", len(lonely), len(classes),
            some([f"{name} ({site})" for name, site in lonely.items()], 5),
        )  # fmt: skip
    return federation


def lines_of(refused: Mapping[str, str]) -> str:
    """Return a line for each site with why it was refused."""
    return "\n".join(f"  {site}: {why}" for site, why in refused.items())


def wait_for_return(grid: Grid, nodes: Iterable[int], seconds: float) -> None:
    """Wait at most ``seconds`` for these nodes to connect: a deployed site may be restarting."""
    deadline, wanted = time.monotonic() + seconds, set(nodes)
    while not wanted <= set(grid.get_node_ids()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _describe(
    grid: Grid, nodes: Mapping[str, int], query: Query, config: RunConfig, callbacks: Sequence[Callback]
) -> Answers:
    """Query every node, and again those that are restarting or still preparing features."""
    began = time.monotonic()
    result, pending = Answers(), sorted(nodes)
    # Sites that prepare, and those without an answer to the last query.
    preparing, silent = set[str](), set[str]()
    while pending and (left := began + config.round_timeout - time.monotonic()) > 0:
        queries, pending = dict.fromkeys(pending, query), []
        gone: set[str] = set()
        silent.clear()
        for replies in exchange_in_groups(grid, nodes, queries, protocol.QUERY, left):
            answers = admit(replies.by_site, Description, Preparing)
            patience = began + config.join_timeout - time.monotonic()
            gone.update(s for s in answers.refused if patience > 0 and is_gone(replies.by_site[s]))
            silent.update(site for site, received in replies.by_site.items() if not received)
            result.refused.update({site: why for site, why in answers.refused.items() if site not in gone})
            for site, reply in answers.admitted.items():
                if isinstance(reply, Preparing):
                    for callback in callbacks:
                        callback.on_preparing(site, reply.done, reply.total)
                    preparing.add(site)
                    pending.append(site)
                    continue
                try:
                    check_description(reply, config.max_examples, declared=bool(config.declared_classes))
                    result.admitted[site] = reply
                except ProtocolError as error:
                    result.refused[site] = str(error)
        if gone:
            time.sleep(POLL_SECONDS)
            wait_for_return(grid, [nodes[site] for site in gone], patience)
            pending += sorted(gone)
    # The time left for the last query may have been too short for an answer.
    late = [site for site in preparing if site in pending or (site in result.refused and site in silent)]
    why = f"was still preparing its features after {config.round_timeout:g} s (--round-timeout)"
    result.refused.update(dict.fromkeys(late, why))
    return result


def _wait(grid: Grid, config: RunConfig, callbacks: Sequence[Callback]) -> dict[str, NodeInfo]:
    """Wait until all sites are connected, or a quorum when the time is up; return label → node."""
    began = reported = time.monotonic()
    needed = quorum(config.participants, config.min_sites)
    while True:
        connected = list(grid.get_nodes())
        labels = [node.name or f"{_UNNAMED}{node.node_id}" for node in connected]
        now = time.monotonic()
        late = now - began > config.join_timeout
        if len(connected) >= config.participants or (late and len(connected) >= needed):
            _refuse_same_names(labels)
            if len(connected) < config.participants:
                log.warning(
                    "only %d of %d sites connected within %g s; going on with: %s",
                    len(connected), config.participants, config.join_timeout, ", ".join(sorted(labels)),
                )  # fmt: skip
            return dict(zip(labels, connected, strict=True))
        if late:
            raise UserError(
                f"{len(connected)} of {config.participants} sites connected within {config.join_timeout:g} "
                f"s, {needed} are needed. Connected: {', '.join(sorted(labels)) or 'none'}. Start the "
                "others, or set --sites, --min-sites or --join-timeout"
            )
        if now - reported >= REPORT_SECONDS:
            reported = now
            for callback in callbacks:
                callback.on_waiting(sorted(labels), config.participants, now - began)
        time.sleep(POLL_SECONDS)


def _name(label: str, description: Description) -> str:
    if not label.startswith(_UNNAMED):
        return label
    if not description.partition:
        raise UserError(f"{label} has neither an enrolled name nor a prepared site; enrol it under a name")
    return description.partition


def _refuse_same_names(names: list[str]) -> None:
    if duplicates := sorted(name for name, times in Counter(names).items() if times > 1):
        raise UserError(
            f"several nodes have the name {', '.join(duplicates)}; give each site a name of its own"
        )


def _check_trainers(federation: Federation, config: RunConfig) -> None:
    trainers, everyone = federation.trainers, federation.everyone
    if not trainers:
        raise UserError("no site has a training image; give training images to at least one site")
    if idle := sorted(set(everyone) - set(trainers)):
        log.warning("no training image at %s, scored only: %s", counted(len(idle), "site"), some(idle, 3))
    for name, number in (("min-sites", config.min_sites), ("cohort-size", config.cohort_size)):
        if number > len(trainers):
            able = counted(len(trainers), "site with training images", "sites with training images")
            raise UserError(f"{name} is {number}, but there is only {able}; lower it")
    size = cohort_size(len(trainers), config)
    if config.sampling == "fixed" and config.min_sites > size:
        cohort = f"a cohort has only {counted(size, 'site')}"
        raise UserError(f"min-sites is {config.min_sites}, but {cohort}; lower it, or raise fraction")
    if config.masks and config.sampling == "fixed":
        graph(size, config)  # raises if masks need more sites
