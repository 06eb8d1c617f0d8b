"""The round loop, in plain sight: query, R rounds of training, one scoring round, delivery of the best head.

A round, as data flows: cohort → task → replies → admission → sum in site order (float64) → strategy → next head.
The scores of a round are those of the head entering it, on the images of the sites that took part.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from common import protocol
from common.backbone import Backbone
from common.config import RunConfig
from common.errors import UserError
from common.head import Arrays, HeadSpec, initial_head
from common.metrics import Counts
from common.protocol import Confusion, Description, Query, Scores, Task, Update
from common.sources import natural_order
from server.admission import Admission, admit
from server.cohort import draw_cohort
from server.strategies import fedavg

log = logging.getLogger(__name__)

JOIN_SECONDS = 120.0  # how long to wait for all sites to connect
REPLY_SECONDS = 3600.0  # how long to wait for the replies of a round


@dataclass(frozen=True)
class Round:
    """What is known after a round.

    Attributes:
        round: 1 … R for rounds of training, R + 1 for the closing scoring round.
        planned: the cohort.
        scores: site → its scores of the head that entered the round.
        refused: site → why its reply was left out.
        test, validation: the summed counts.
        seconds: wall time.
        bytes_down, bytes_up: mean size of a message to and from a site, in bytes.
        best: whether this head has the lowest validation loss so far.
    """

    round: int
    planned: tuple[str, ...]
    scores: dict[str, Scores]
    refused: dict[str, str]
    validation: Counts
    test: Counts
    seconds: float
    bytes_down: float
    bytes_up: float
    best: bool


@dataclass(frozen=True)
class Outcome:
    """What a federation ends with.

    Attributes:
        head: the best head by validation loss (the last where no site has validation images; with partial
            participation, the better of the last and of the best by its cohort's loss, both scored by all sites).
        classes: class names in the order of the head's columns.
        best_round: the round that this head entered.
        confusion: site → closing scores of that head with the confusion matrix on the site's test images.
        descriptions: site → what it said of its images.
        undelivered: site → why it does not hold the result.
    """

    head: Arrays
    classes: tuple[str, ...]
    best_round: int
    confusion: dict[str, Confusion]
    descriptions: dict[str, Description]
    undelivered: dict[str, str]


Observer = Callable[[Round], None]


def federate(grid: Grid, config: RunConfig, backbone: Backbone, observe: Iterable[Observer] = ()) -> Outcome:
    """Run a whole federation over ``grid`` and return its outcome.

    Raises:
        UserError: sites are missing or refuse to take part, none can train, or a round got no usable reply.
    """
    nodes = _wait_for_sites(grid, config.sites)
    descriptions = _describe(grid, nodes, Query(backbone.name, backbone.resolution, backbone.fingerprint))
    classes = natural_order(name for description in descriptions.values() for name in description.images)
    spec = HeadSpec.from_config(config, backbone.features, len(classes))
    state = fedavg.start(initial_head(spec, config.seed))
    everyone, trainers = tuple(sorted(nodes)), _able_to_train(descriptions)
    best = _Candidate(np.inf, 0, state.head)
    observers = list(observe)

    def ask(kind: str, answer: type[Any], number: int, head: Arrays, sites: tuple[str, ...]) -> _Replies:
        replies, down = _exchange(grid, nodes, {site: Task(site, number, classes, head) for site in sites}, kind)
        admission = admit(replies, answer, round=number, spec=spec)
        _refuse_empty_round(number, admission)
        return _Replies(admission, down, _mean_size(replies.values()))

    for number in range(1, config.rounds + 2):
        began = time.monotonic()
        closing = number > config.rounds
        planned = everyone if closing else draw_cohort(trainers, config.fraction, config.seed, number)
        kind, answer = (protocol.EVALUATE, Scores) if closing else (protocol.TRAIN, Update)
        replies = ask(kind, answer, number, state.head, planned)
        admitted = replies.admission.admitted
        validation, test = _total(admitted, "validation", spec), _total(admitted, "test", spec)
        if closing and config.fraction < 1 and best.round:
            # Losses of different cohorts do not compare: the best so far is scored by all sites, as the last head is.
            again = ask(protocol.EVALUATE, Scores, best.round, best.head, everyone)
            best = replace(best, loss=_loss(_total(again.admission.admitted, "validation", spec)))
        improved = _loss(validation) < best.loss
        if improved or (closing and np.isinf(best.loss)):  # without any validation image, the last head it is
            best = _Candidate(_loss(validation), number, state.head)
        if not closing:
            totals, examples = _sum(admitted, spec)
            state = fedavg.step(
                state, totals, examples, learning_rate=config.server_learning_rate, momentum=config.server_momentum
            )
        record = Round(
            number, planned, admitted, replies.admission.refused, validation, test, time.monotonic() - began,
            replies.bytes_down, replies.bytes_up, improved,
        )  # fmt: skip
        for observer in observers:
            observer(record)

    delivery = ask(protocol.FINISH, Confusion, best.round, best.head, everyone).admission
    return Outcome(best.head, classes, best.round, delivery.admitted, descriptions, delivery.refused)


@dataclass(frozen=True)
class _Candidate:
    """The head to keep so far, the round that it entered, and its validation loss."""

    loss: float
    round: int
    head: Arrays


@dataclass(frozen=True)
class _Replies:
    admission: Admission
    bytes_down: float
    bytes_up: float


def _total(scores: dict[str, Scores], split: str, spec: HeadSpec) -> Counts:
    return sum((getattr(scores[site], split) for site in sorted(scores)), Counts.empty(spec.classes))


def _loss(counts: Counts) -> float:
    return counts.mean_loss if counts.total else np.inf


def _wait_for_sites(grid: Grid, expected: int) -> dict[str, int]:
    """Wait until ``expected`` sites are connected; return site name → node id."""
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        nodes = {node.name or str(node.node_id): node.node_id for node in grid.get_nodes()}
        if len(nodes) >= expected:
            return nodes
        if time.monotonic() > deadline:
            raise UserError(
                f"{len(nodes)} of {expected} sites connected within {JOIN_SECONDS:.0f} s: {', '.join(sorted(nodes)) or 'none'}; "
                "start the others, or set --sites to the number there is"
            )
        time.sleep(1.0)


def _describe(grid: Grid, nodes: dict[str, int], query: Query) -> dict[str, Description]:
    replies, _ = _exchange(grid, nodes, dict.fromkeys(sorted(nodes), query), protocol.QUERY)
    answers = admit(replies, Description)
    if answers.refused:
        raise UserError(
            f"{len(answers.refused)} of {len(nodes)} sites cannot take part:\n"
            + "\n".join(f"  {s}: {why}" for s, why in sorted(answers.refused.items()))
        )
    return answers.admitted


def _able_to_train(descriptions: dict[str, Description]) -> tuple[str, ...]:
    """Return the sites that have training images; the others are scored but never drawn."""
    able = {site for site, told in descriptions.items() if any(train for train, _, _ in told.images.values())}
    unable = sorted(set(descriptions) - able)
    if not able:
        raise UserError(f"none of the {len(unable)} sites has a training image")
    if unable:
        log.warning(
            "%d sites have no training image, so they are scored only: %s …", len(unable), ", ".join(unable[:3])
        )
    return tuple(sorted(able))


def _exchange(
    grid: Grid, nodes: dict[str, int], contents: dict[str, Any], kind: str
) -> tuple[dict[str, Message | None], float]:
    """Send each site its content; return the replies by site (None where none came in time) and the bytes sent to one."""
    site_of = {nodes[site]: site for site in contents}
    messages = [Message(protocol.pack(content), nodes[site], kind) for site, content in contents.items()]
    replies: dict[str, Message | None] = dict.fromkeys(contents)
    for reply in grid.send_and_receive(messages, timeout=REPLY_SECONDS):
        if (site := site_of.get(reply.metadata.src_node_id)) is not None:
            replies[site] = reply
    return replies, protocol.message_bytes(messages[0])


def _sum(updates: dict[str, Update], spec: HeadSpec) -> tuple[list[NDArray[np.float64]], int]:
    """Add up Σ n · delta in site order, in float64, and Σ n."""
    totals = [np.zeros(shape, np.float64) for shape in spec.shapes]
    for site in sorted(updates):
        for total, array in zip(totals, updates[site].total, strict=True):
            total += array
    return totals, sum(update.examples for update in updates.values())


def _mean_size(replies: Iterable[Message | None]) -> float:
    return float(np.mean([protocol.message_bytes(reply) for reply in replies if reply is not None]))


def _refuse_empty_round(number: int, admission: Admission) -> None:
    for site, why in admission.refused.items():
        log.warning("round %d: %s is left out: %s", number, site, why)
    if not admission.admitted:
        reasons = "\n".join(f"  {site}: {why}" for site, why in admission.refused.items())
        raise UserError(f"round {number} got no usable reply; the run stops here:\n{reasons}")
