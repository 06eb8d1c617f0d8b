"""Limits of a request: it may ask for no more than the run's settings, to which the site agreed.

A server could ask for sums in a run of FedAvg, train deeper layers, or isolate one class in an
update. A site refuses that.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.depth import layers
from fedtransfer.common.head.schedule import rate
from fedtransfer.common.head.spec import head_spec
from fedtransfer.common.methods.sizes import RIDGES
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import CLASS_WEIGHTS, CONTROL, MOMENTS, Gather, Request, Task, Trial
from fedtransfer.common.wire.sums import requested_sums

HEADS, FACTORS = RIDGES, 10  # the most in a trial


def refuse_beyond(request: Request, kind: str, config: RunConfig) -> None:
    """Check a request against the run's settings.

    Args:
        request: any request but a query.
        kind: its message type.
        config: the run's settings, as they are at the site.

    Raises:
        SiteError: the request goes beyond the settings; the text says how.
    """
    if config.dp == "image" and request.classes != config.declared_classes:
        raise _beyond("other classes", ", ".join(config.declared_classes))
    if config.private and (isinstance(request, Trial) or kind == protocol.PERSONAL):
        raise _beyond("scores of private images", "none")
    if isinstance(request, Gather) and request.what not in (kinds := requested_sums(config)):
        raise _beyond(f"sums of kind {request.what[:20]!r}", " and ".join(kinds) or "none")
    if isinstance(request, Task | Trial):
        _check_heads(request, config)
    if isinstance(request, Trial):
        _check_trial(request, config)
    if isinstance(request, Task) and kind == protocol.TRAIN:
        if request.weighting != config.weights_of_sites:
            raise _beyond(f"weighting {request.weighting}", config.weights_of_sites)
        _check_round(request, config)
    _check_extra(request, config)


def _check_round(task: Task, config: RunConfig) -> None:
    last = config.training_rounds
    if not (1 <= task.round <= last and 0 <= task.counted < task.round):
        raise _beyond(f"round {task.round} after {task.counted}", f"rounds 1 to {last}" if last else "no training")
    expected = rate(config, task.round)
    if not math.isclose(task.rate, expected):  # libraries differ in the last bits of a cosine
        raise _beyond(f"{task.rate:g} of the learning rate in round {task.round}", f"{expected:g}")


def _check_trial(trial: Trial, config: RunConfig) -> None:
    heads, factors = len(trial.heads), len(trial.factors)
    if not config.one_shot or heads > HEADS or factors > FACTORS:
        most = f"{HEADS} heads under {FACTORS} factors at most" if config.one_shot else "none"
        raise _beyond(f"a trial of {heads} heads under {factors} factors", most)


def _check_heads(request: Task | Trial, config: RunConfig) -> None:
    if request.trainable not in (allowed := layers(config)):
        raise SiteError(
            "other-layer",
            f"asked to work from {request.trainable[:40]!r} on; the run's settings say {', '.join(allowed)}",
        )
    shapes = _spec(request, config, request.trainable)
    for head in request.heads if isinstance(request, Trial) else (request.head,):
        _check_arrays(head, shapes, "a head")


def _check_extra(request: Request, config: RunConfig) -> None:
    if not request.extra:
        return
    width = configured_backbone(config).features
    expected = {
        MOMENTS: [(width,)] * 2 if config.standardise == "federated" else None,
        CONTROL: _spec(request, config, layers(config)[0]) if config.method.control_variates else None,
        CLASS_WEIGHTS: [(len(request.classes),)] if config.class_balance else None,
    }
    for name, arrays in request.extra.items():
        if (shapes := expected.get(name)) is None:
            raise _beyond(f"arrays called {name[:20]!r} to be used", "none")
        _check_arrays(arrays, shapes, f"arrays called {name!r}")


def _spec(request: Request, config: RunConfig, layer: str) -> Sequence[tuple[int, ...]]:
    return head_spec(config, configured_backbone(config), len(request.classes), layer).shapes


def _check_arrays(arrays: Sequence[NDArray[Any]], shapes: Sequence[tuple[int, ...]], name: str) -> None:
    received = [array.shape for array in arrays]
    if received != list(shapes) or not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays):
        raise SiteError(
            "other-arrays", f"sent {name} of shapes {received}, or not of finite numbers; expected {list(shapes)}"
        )


def _beyond(request: str, limit: str) -> SiteError:
    return SiteError(
        "not-of-this-run", f"asked for {request}; the run's settings say {limit}, and this site gives no more"
    )
