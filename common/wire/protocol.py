"""What travels between server and sites, as typed values; ``fedtransfer.common.wire.records`` turns them into Flower's records.

Replies carry sums (n · delta, n, counts by class), so totals are plain sums over sites. A site's refusal is a code and
a short text of our own; the text of any other exception stays at the site, since it could name a patient.

Each message is the method's payload (the head with its class names, the update, sums of features, counts of 24 bytes a
class and split) and at most 2 KB around it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.metrics import Counts

VERSION = 6
# Flower message types
QUERY, TRAIN, EVALUATE, FINISH = "query", "train", "evaluate", "evaluate.finish"
GATHER, TRIAL, PERSONAL = "train.gather", "evaluate.trial", "evaluate.personal"
KINDS = (QUERY, TRAIN, EVALUATE, FINISH, GATHER, TRIAL, PERSONAL)

Arrays = tuple[NDArray[np.float32], ...]  # of a head: convolutions above a cut, hidden layer, kernel (d, C), bias (C,)
Extra = Mapping[str, tuple[NDArray[Any], ...]]  # further arrays by name
MOMENTS, CONTROL, CLASS_WEIGHTS = "moments", "control", "class weights"  # the names


class ProtocolError(Exception):
    """A message that is not what this version of the protocol sends; the text says in what."""


@dataclass(frozen=True)
class Query:
    """Asks a site what it has. A site whose backbone differs refuses.

    Attributes:
        backbone, resolution, fingerprint: what the site must have.
        classes: the class names that the run declares; a site with another one refuses. Empty: what sites have counts.
    """

    backbone: str
    resolution: int
    fingerprint: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preparing:
    """A site's answer while its features are not all there yet: it is to be asked again.

    Attributes:
        done, total: images that went through the backbone so far, and those that must (0 while it looks).
    """

    done: int
    total: int


@dataclass(frozen=True)
class Description:
    """A site's answer: images by class name and split, and what it could not read.

    Attributes:
        images: class name → images for (train, validation, test).
        unreadable: images that were left out.
        partition: in a simulation, the name of the prepared site that it works for; "" where the node has a name.
    """

    images: Mapping[str, tuple[int, int, int]]
    unreadable: int
    partition: str = ""


@dataclass(frozen=True)
class Request:
    """What every request after the query says.

    Attributes:
        site: the name by which the server knows the site; it keys the site's random draws.
        round: the round it belongs to.
        classes: names of the C classes, in the order of the head's columns.
        extra: ``moments``, the federation's mean and deviation of features, each (d,) float64; ``control``, SCAFFOLD's
            server variate, shaped as the head, float32; ``class weights``, one (C,) float32.
        nonce: of the session of secure aggregation (``fedtransfer.common.masks``) that it is answered in; "" for an open answer.
        sharers: in such a session, the sites whose shares came.
        boxes: one array, the boxes sealed for this site by its neighbours among the sharers, (number, bytes) uint8.
    """

    site: str
    round: int
    classes: tuple[str, ...]
    extra: Extra = field(default_factory=dict, kw_only=True)
    nonce: str = field(default="", kw_only=True)
    sharers: tuple[str, ...] = field(default=(), kw_only=True)
    boxes: tuple[NDArray[np.uint8], ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Task(Request):
    """A head to work with: to score and train in a round, only to score, to make personal, or to keep as the result.

    Attributes:
        head: the arrays of what is trained.
        weighting: what the update is to be multiplied by: ``examples``, the number of training images, or ``uniform``, 1.
        trainable: from which layer of the backbone on they are; ``head`` for the head alone.
        rate: share of the configured learning rate that holds in this round.
        run: names the run at the sites, over restarts; a site keeps its state of it under that name.
        counted: the last round in which the site's update counted, 0 for none; its state of then is the one that holds.
    """

    head: Arrays
    weighting: str = "examples"
    trainable: str = "head"
    rate: float = 1.0
    run: str = ""
    counted: int = 0


@dataclass(frozen=True)
class Gather(Request):
    """Asks for sums of the training images' features.

    Attributes:
        what: ``classes``, ``gram`` or ``moments`` (``fedtransfer.client.training.statistics``).
    """

    what: str


@dataclass(frozen=True)
class Trial(Request):
    """Asks how several heads do, each under several factors on its class scores.

    Attributes:
        heads: H heads; or two, between which ``shares`` says H others.
        factors: S numbers.
        shares: where these are given, the heads to score are (1 - share) · first + share · second.
        trainable: what the heads' arrays are, as in ``Task``.
    """

    heads: tuple[Arrays, ...]
    factors: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = ()
    trainable: str = "head"

    @property
    def number(self) -> int:
        """H."""
        return len(self.shares) or len(self.heads)


@dataclass(frozen=True)
class Answer:
    """What every answer after the query says of itself.

    Attributes:
        round: the round it belongs to.
        fingerprint: of the site's backbone.
        classes: digest of the class names that its numbers are in the order of (``classes_digest``).
    """

    round: int
    fingerprint: str
    classes: str


@dataclass(frozen=True)
class Scores(Answer):
    """How the head that a site was sent did on its images.

    Attributes:
        validation: counts on the site's validation images.
        test: counts on its test images.
    """

    validation: Counts
    test: Counts


@dataclass(frozen=True)
class Update(Scores):
    """Scores and the outcome of training.

    Attributes:
        examples: n, the site's training images.
        total: weight · (head after - head before), array by array.
        extra: ``control``: the change of SCAFFOLD's variate at the site, unweighted, shaped as the head.
    """

    examples: int
    total: Arrays = ()
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True)
class Confusion(Scores):
    """The closing scores.

    Attributes:
        matrix: (C, C) int64, test images by true class (rows) and predicted class.
    """

    matrix: NDArray[np.int64]


@dataclass(frozen=True)
class Sums(Answer):
    """Sums over a site's training images.

    Attributes:
        examples: n.
        arrays: the sums, as ``fedtransfer.client.training.statistics`` lays them out.
    """

    examples: int
    arrays: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Tally(Answer):
    """How the H heads of a trial did under its S factors.

    Attributes:
        images: validation and test images, (2,) int64.
        correct: images given to their class, (H, 2) int64; a factor does not change it.
        losses: sums of the cross-entropy, (H, S, 2) float64.
    """

    images: NDArray[np.int64]
    correct: NDArray[np.int64]
    losses: NDArray[np.float64]


@dataclass(frozen=True)
class Personal(Answer):
    """How heads do at the site that they were made for.

    Attributes:
        images: the site's test images.
        correct: those given to their class by the global head, by one trained here alone, by the global one fine-tuned
            here, and by a mix of global and local, (4,) int64.
        share: of the global head in that mix, chosen on validation images.
    """

    images: int
    correct: NDArray[np.int64]
    share: float


def weight_of(weighting: str, examples: int, sites: int = 1) -> int:
    """Return what a site, or so many sites together, with so many training images counts for."""
    return examples if weighting == "examples" else sites


def classes_digest(classes: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that stand for class names in their order."""
    return hashlib.sha256(json.dumps(list(classes)).encode()).hexdigest()[:16]
