"""The messages between server and sites, as typed values.

``fedtransfer.common.wire.records`` converts them to Flower's records. Replies carry sums (n ·
delta, n, counts by class), so totals are plain sums over sites. A site's refusal is a code and a
short text from this project; the text of any other exception stays at the site, since it could name
a patient.

A message consists of the method's payload (the head with its class names, the update, sums of
features, counts of 24 bytes for each class and split) and at most 2 KB more.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.head.metrics import Counts
from fedtransfer.common.support.text import printable
from fedtransfer.common.wire.texts import Name, Text, Token

VERSION = 7
# Flower message types
QUERY, TRAIN, EVALUATE, FINISH = "query", "train", "evaluate", "evaluate.finish"
GATHER, TRIAL, PERSONAL = "train.gather", "evaluate.trial", "evaluate.personal"
KINDS = (QUERY, TRAIN, EVALUATE, FINISH, GATHER, TRIAL, PERSONAL)
# That a site compares, in the order of its counts.
PERSONAL_HEADS = ("global", "local", "fine_tuned", "mixed")

# Of a head: convolutions above a cut, hidden layer, kernel (d, C), bias (C,).
Arrays = tuple[NDArray[np.float32], ...]
Extra = Mapping[str, tuple[NDArray[Any], ...]]  # further arrays by name
MOMENTS, CONTROL, CLASS_WEIGHTS = "moments", "control", "class weights"  # names in an Extra


class ProtocolError(Exception):
    """A message that this version of the protocol does not send; the text says how it differs.

    The text may quote the message, so it is cut and escaped.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


@dataclass(frozen=True)
class Query:
    """Asks a site for its description; a site with another backbone refuses."""

    # backbone, resolution, fingerprint: the backbone that the site must have.
    backbone: Text
    resolution: int
    fingerprint: Token
    # The class names that the run declares; a site with another class refuses. Empty: the classes
    # are those that sites have.
    classes: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Preparing:
    """A site's answer while it extracts features: the server has to ask again."""

    # done, total: the number of images that went through the backbone, and of all that must; a
    # total of 0 is not known yet.
    done: int
    total: int


@dataclass(frozen=True)
class Description:
    """A site's answer: images by class name and split, and images that it cannot read."""

    # Class name → numbers of images for (train, validation, test).
    images: Mapping[Name, tuple[int, int, int]]
    unreadable: int  # the number of images that were left out
    partition: Name = ""  # in a simulation, the name of the prepared site; "" if the node has a name


@dataclass(frozen=True)
class Request:
    """The fields of every request after the query."""

    site: Name  # the site's name at the server; it keys the site's random draws
    round: int  # the round of the request
    classes: tuple[Name, ...]  # names of the C classes, in the order of the head's columns
    # ``moments``, the federation's mean and deviation of features, each (d,) float64; ``control``,
    # SCAFFOLD's server variate, shaped as the head, float32; ``class weights``, one (C,) float32.
    extra: Extra = field(default_factory=dict, kw_only=True)
    # Of the session of secure aggregation (``fedtransfer.common.masks``) for the answer; "" for an
    # answer without masks.
    nonce: Token = field(default="", kw_only=True)
    # In such a session, the sites whose shares arrived.
    sharers: tuple[Name, ...] = field(default=(), kw_only=True)
    # One array, the boxes sealed for this site by its neighbours among the sharers, (number, bytes)
    # uint8.
    boxes: tuple[NDArray[np.uint8], ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Task(Request):
    """A head: to score and train in a round, to score only, to make personal, or to store."""

    head: Arrays  # the trained arrays
    # The factor of the update: ``examples``, the number of training images, or ``uniform``, 1.
    weighting: Token = "examples"
    # The layer of the backbone at which the arrays begin; ``head`` for the head alone.
    trainable: Name = "head"
    rate: float = 1.0  # this round's share of the configured learning rate
    # The run's name at the sites, the same over restarts; a site stores its state of the run under
    # it.
    run: Token = ""
    # The last round in which the site's update counted, 0 for none; the site's state after it is
    # valid.
    counted: int = 0


@dataclass(frozen=True)
class Gather(Request):
    """Asks for sums of the training images' features."""

    what: Token  # ``classes``, ``gram`` or ``moments`` (``fedtransfer.client.training.statistics``)


@dataclass(frozen=True)
class Trial(Request):
    """Asks for the scores of several heads, each with several factors on its class scores."""

    heads: tuple[Arrays, ...]  # H heads
    factors: tuple[float, ...]  # S numbers
    trainable: Name = "head"  # the layer of the backbone at which the heads' arrays begin, as in ``Task``


@dataclass(frozen=True)
class Answer:
    """The fields of every answer after the query."""

    round: int  # the round of the request
    fingerprint: Token  # of the site's backbone
    classes: Token  # digest of the class names, in the order of the answer's numbers (``classes_digest``)


@dataclass(frozen=True)
class Scores(Answer):
    """The scores, on a site's images, of the head in the request."""

    validation: Counts  # counts on the site's validation images
    test: Counts  # counts on its test images


@dataclass(frozen=True)
class Update(Scores):
    """Scores and the result of training."""

    examples: int  # n, the number of the site's training images
    total: Arrays = ()  # weight · (head after - head before), array by array
    # ``control``: the change of SCAFFOLD's variate at the site, unweighted, shaped as the head.
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True)
class Confusion(Scores):
    """The closing scores."""

    matrix: NDArray[np.int64]  # (C, C) int64, numbers of test images by true class (rows) and predicted class


@dataclass(frozen=True)
class Sums(Answer):
    """Sums over a site's training images."""

    examples: int  # n
    arrays: tuple[NDArray[Any], ...]  # the sums, in the layout of ``fedtransfer.common.wire.sums``


@dataclass(frozen=True)
class Tally(Answer):
    """The scores of the H heads of a trial under its S factors."""

    images: int  # the number of the site's validation images
    losses: NDArray[np.float64]  # sums of the cross-entropy over them, (H, S) float64


@dataclass(frozen=True)
class Personal(Answer):
    """The scores of personal heads at their site."""

    images: int  # the number of the site's test images
    # Numbers of images classified correctly, (4,) int64: by the global head, by a head trained at
    # the site alone, by the global one fine-tuned at the site, and by a mix of global and local.
    correct: NDArray[np.int64]
    share: float  # share of the global head in the mix, chosen on validation images


def weight_of(weighting: str, examples: int, sites: int = 1) -> int:
    """Return the weight of ``sites`` sites that have ``examples`` training images together."""
    return examples if weighting == "examples" else sites


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a run's settings, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=16)
def classes_digest(classes: tuple[str, ...]) -> str:
    """Return a digest of class names in their order, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(list(classes)).encode()).hexdigest()[:16]
