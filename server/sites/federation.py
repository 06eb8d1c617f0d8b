"""Which sites a run has: wait for them, ask what they hold, and agree on names and classes."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Description, Preparing, Query
from fedtransfer.server.sites.admission import Admission, admit, is_gone
from fedtransfer.server.sites.cohort import cohort_size, quorum
from fedtransfer.server.sites.exchange import exchange

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]  # site, images done, images to do
Waiting = Callable[[Sequence[str], float], None]  # the sites that are connected, seconds waited

_UNNAMED = "node "
POLL_SECONDS = 0.2
REPORT_SECONDS = 10.0  # after which a wait says what it waits for


@dataclass(frozen=True)
class Federation:
    """The sites of a run.

    Attributes:
        nodes: site name → Flower's node id.
        descriptions: site name → what it said of its images.
        classes: class names, in the order of the head's columns.
        absent: what was asked but takes no part → why.
        hidden: sites keep their numbers of images to themselves.
        keys: site name → the public key by which it is enrolled (OpenSSH's one-line form); empty in a simulation.
    """

    nodes: dict[str, int]
    descriptions: dict[str, Description]
    classes: tuple[str, ...]
    absent: dict[str, str]
    hidden: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def everyone(self) -> tuple[str, ...]:
        """All sites, in name order."""
        return tuple(sorted(self.nodes))

    @cached_property
    def training_images(self) -> NDArray[np.int64]:
        """Training images of each class over all sites, (C,)."""
        told = self.descriptions.values()
        return np.array([sum(site.images.get(name, (0,))[0] for site in told) for name in self.classes], np.int64)

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
        """The sites that have training images; the others are scored only. Where none says, all of them."""
        return tuple(
            site
            for site in self.everyone
            if self.hidden or any(train for train, _, _ in self.descriptions[site].images.values())
        )


def join(
    grid: Grid, config: RunConfig, backbone: Backbone, report: Report, waiting: Waiting = lambda *_: None
) -> Federation:
    """Wait for the sites, and ask each what it has.

    A site's name is the one under which it is enrolled. Only the nodes of a simulation have none; there it is the
    prepared site that the node works for. ``report`` is told how far sites are that still prepare their features, and
    ``waiting``, every ten seconds, who is connected already.

    Raises:
        UserError: too few sites connect or can take part, or none of them can train.
    """
    refuse_undeclared(config)
    connected, needed = _wait(grid, config, waiting), quorum(config.participants, config.min_sites)
    nodes = {label: node.node_id for label, node in connected.items()}
    query = Query(backbone.name, backbone.resolution, backbone.fingerprint, config.declared_classes)
    answers = _ask(grid, nodes, query, config, report)
    for site, why in answers.refused.items():
        log.warning("%s takes no part in the run: %s", site, why)
    if len(answers.admitted) < needed:
        raise UserError(
            f"{len(answers.admitted)} of {len(nodes)} sites can take part, {needed} are needed:\n"
            + "\n".join(f"  {site}: {why}" for site, why in answers.refused.items())
        )
    name = {asked: _name(asked, told) for asked, told in answers.admitted.items()}
    _refuse_same_names(list(name.values()))
    descriptions = {name[asked]: told for asked, told in answers.admitted.items()}
    classes = config.declared_classes or natural_order(label for told in descriptions.values() for label in told.images)
    enrolled = [asked for asked in name if not asked.startswith(_UNNAMED)]  # Ray's nodes have keys that are none
    keys = {name[asked]: line for asked in enrolled if (line := line_of_pem(connected[asked].public_key))}
    federation = Federation(
        {name[asked]: nodes[asked] for asked in name}, descriptions, classes, answers.refused, config.hides_counts, keys
    )
    _check_trainers(federation, config)
    if alone := federation.held_by_one:
        named = ", ".join(f"{name} ({site})" for name, site in [*alone.items()][:5])
        log.warning(
            "%d of %d classes have training images at one site only, so all that the head learns of them comes from "
            "there: %s%s", len(alone), len(classes), named, " …" if len(alone) > 5 else "",
        )  # fmt: skip
    return federation


def wait_for_return(grid: Grid, nodes: Iterable[int], seconds: float) -> None:
    """Wait until these nodes are connected, so many seconds at most: those of a deployment may be starting again."""
    deadline, wanted = time.monotonic() + seconds, set(nodes)
    while not wanted <= set(grid.get_node_ids()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _ask(grid: Grid, nodes: Mapping[str, int], query: Query, config: RunConfig, report: Report) -> Admission:
    """Ask every node what it has, and again those that are just starting anew or still prepare their features."""
    began = time.monotonic()
    result, asked = Admission({}, {}), sorted(nodes)
    preparing: set[str] = set()
    while asked and (left := began + config.round_timeout - time.monotonic()) > 0:
        replies = exchange(grid, nodes, dict.fromkeys(asked, query), protocol.QUERY, left)
        answers = admit(replies.by_site, Description, Preparing)
        patience = began + config.join_timeout - time.monotonic()
        asked = [site for site in answers.refused if patience > 0 and is_gone(replies.by_site[site])]
        if asked:
            time.sleep(POLL_SECONDS)
            wait_for_return(grid, [nodes[site] for site in asked], patience)
        result.refused.update({site: why for site, why in answers.refused.items() if site not in asked})
        for site, told in answers.admitted.items():
            if isinstance(told, Preparing):
                report(site, told.done, told.total)
                preparing.add(site)
                asked.append(site)
            else:
                result.admitted[site] = told
    # The last time that a site is asked may be too short for an answer.
    late = [site for site in preparing if site in asked or (site in result.refused and not replies.by_site.get(site))]
    why = f"still prepared its features after {config.round_timeout:g} s (--round-timeout)"
    result.refused.update(dict.fromkeys(late, why))
    return result


def _wait(grid: Grid, config: RunConfig, waiting: Waiting) -> dict[str, NodeInfo]:
    """Wait until all sites are connected, or at least a quorum when the time is up; return label → node."""
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
                    "only %d of %d sites connected within %g s; going on with them: %s",
                    len(connected), config.participants, config.join_timeout, ", ".join(sorted(labels)),
                )  # fmt: skip
            return dict(zip(labels, connected, strict=True))
        if late:
            raise UserError(
                f"{len(connected)} of {config.participants} sites connected within {config.join_timeout:g} s, {needed} are needed: "
                f"{', '.join(sorted(labels)) or 'none'} did; start the others, or set --sites, --min-sites or --join-timeout"
            )
        if now - reported >= REPORT_SECONDS:
            reported = now
            waiting(sorted(labels), now - began)
        time.sleep(POLL_SECONDS)


def _name(label: str, told: Description) -> str:
    if not label.startswith(_UNNAMED):
        return label
    if not told.partition:
        raise UserError(f"{label} has neither an enrolled name nor a prepared site; enrol it under a name")
    return told.partition


def _refuse_same_names(names: list[str]) -> None:
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        raise UserError(f"several nodes go by the name {', '.join(twice)}; a name must belong to one site")


def _check_trainers(federation: Federation, config: RunConfig) -> None:
    trainers, everyone = federation.trainers, federation.everyone
    if not trainers:
        raise UserError(f"none of the {len(everyone)} sites has a training image")
    if unable := sorted(set(everyone) - set(trainers)):
        log.warning(
            "%d sites have no training image, so they are scored only: %s …", len(unable), ", ".join(unable[:3])
        )
    for name, wanted in (("min-sites", config.min_sites), ("cohort-size", config.cohort_size)):
        if wanted > len(trainers):
            raise UserError(f"{name} is {wanted}, but only {len(trainers)} sites have training images; lower it")
    if config.sampling == "fixed" and config.min_sites > (size := cohort_size(len(trainers), config)):
        raise UserError(
            f"min-sites is {config.min_sites}, but a cohort has {size} sites only; lower it, or raise fraction"
        )
    if config.masks and config.sampling == "fixed":
        graph(cohort_size(len(trainers), config), config)  # says why there is none
