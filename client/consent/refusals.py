"""What a site refuses: runs that ``site.toml`` does not allow, requests beyond a run's settings.

A server could ask for sums in a run of FedAvg, train deeper layers, or isolate one class in an
update. A site agreed to the run's settings only, so it refuses that.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtransfer.client.consent.day import refuse_beyond_day
from fedtransfer.client.consent.ledger import SiteLedger, refuse_beyond_budget
from fedtransfer.client.deployment.settings import MECHANISMS, UNPINNED, SiteFolder
from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import BUNDLED, RunConfig
from fedtransfer.common.data.feature_card import card_of
from fedtransfer.common.errors import SiteError
from fedtransfer.common.head.head import head_spec
from fedtransfer.common.head.schedule import layers, rate
from fedtransfer.common.methods.method import RIDGES
from fedtransfer.common.wire import protocol
from fedtransfer.common.wire.protocol import Gather, Request, Task, Trial
from fedtransfer.common.wire.sums import requested_sums

log = logging.getLogger(__name__)

HEADS, FACTORS = RIDGES, 10  # the most in a trial


def refuse_run(site: SiteFolder, ledger: SiteLedger, config: RunConfig, kind: str) -> None:
    """Refuse a message of a run that ``site.toml`` does not allow.

    Raises:
        SiteError: it is refused; code and text go to the coordinator.
    """
    consent, settings = site.settings.consent, site.settings
    others = [name for name in config.exchanges if name not in consent.methods]
    if consent.methods and others:
        raise SiteError(
            "method-not-allowed",
            f"this site takes part in {', '.join(consent.methods)} only, the run uses {', '.join(others)}; "
            "agree on one of these",
        )
    opened = config.backbone != BUNDLED and not card_of(config.backbone)
    if opened and not site.names(config):  # a site opens, or fetches, only what it names itself
        raise SiteError(
            "backbone-not-held",
            "the run wants another backbone than the bundled one, and this site names none; put the file "
            "there and name it in its site.toml, as backbone or weights",
        )
    if config.feature_statistics and not settings.feature_statistics:
        raise SiteError(
            "statistics-not-held",
            "the run standardises or projects features by a file of public statistics, and this site names "
            "none; put the coordinator's file there and name it in its site.toml, as feature-statistics",
        )
    _refuse_unprotected(site, config)
    refuse_beyond_budget(ledger, settings.privacy.epsilon, settings.privacy.delta, config, kind)
    if config.masks and kind == protocol.QUERY and not site.roster:
        log.warning(UNPINNED)
    refuse_beyond_day(site, config, kind)


def _refuse_unprotected(site: SiteFolder, config: RunConfig) -> None:
    """Refuse a run that lacks a privacy mechanism that the site demands."""
    consent = site.settings.consent
    if missing := sorted(set(consent.demand) - set(MECHANISMS)):
        raise SiteError(
            "demand-not-met",
            f"this site demands {', '.join(missing)}, which its version of fedtransfer does not have; "
            "agree on something else, or install a version that has it",
        )
    for name, (has, settings) in MECHANISMS.items():
        if name in consent.demand and not has(config):
            raise SiteError(
                "demand-not-met", f"this site demands {name}, and the run has none; give {settings}"
            )
    if config.dp == "image" and consent.least_images > 1:
        raise SiteError(
            "rare-classes",
            f"this site leaves out classes with fewer than {consent.least_images} images, "
            "so one image can add a whole class, which the noise of --dp image does not hide; its people "
            "set least-images = 1, because that noise hides rare classes, or run without --dp image",
        )
    if config.dp == "image" and site.settings.strict:
        raise SiteError(
            "strict",
            "this site stops at the first image that cannot be read, "
            "so one image can end its part in the run, which the noise of --dp image does not hide; "
            "its people set strict = false in its site.toml",
        )


def refuse_beyond(request: Request, kind: str, config: RunConfig) -> None:
    """Check a request, not a query, against the run's settings as they are at the site.

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
        heads, factors = len(request.heads), len(request.factors)
        if not config.one_shot or heads > HEADS or factors > FACTORS:
            most = f"{HEADS} heads under {FACTORS} factors at most" if config.one_shot else "none"
            raise _beyond(f"a trial of {heads} heads under {factors} factors", most)
    if isinstance(request, Task) and kind == protocol.TRAIN:
        if request.weighting != config.weights_of_sites:
            raise _beyond(f"weighting {request.weighting}", config.weights_of_sites)
        _check_round(request, config)
    _check_extra(request, config)


def _check_round(task: Task, config: RunConfig) -> None:
    last = config.training_rounds
    if not (1 <= task.round <= last and 0 <= task.counted < task.round):
        limit = f"rounds 1 to {last}" if last else "no training"
        raise _beyond(f"round {task.round} after {task.counted}", limit)
    expected = rate(config, task.round)
    if not math.isclose(task.rate, expected):  # libraries differ in the last bits of a cosine
        raise _beyond(f"{task.rate:g} of the learning rate in round {task.round}", f"{expected:g}")


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
    width, with_control = configured_backbone(config).features, config.method.control_variates
    expected = {
        protocol.MOMENTS: [(width,)] * 2 if config.standardise == "federated" else None,
        protocol.CONTROL: _spec(request, config, layers(config)[0]) if with_control else None,
        protocol.CLASS_WEIGHTS: [(len(request.classes),)] if config.class_balance else None,
    }
    for name, arrays in request.extra.items():
        if (shapes := expected.get(name)) is None:
            raise _beyond(f"arrays called {name[:20]!r} to be used", "none")
        _check_arrays(arrays, shapes, f"arrays called {name!r}")


def _spec(request: Request, config: RunConfig, layer: str) -> Sequence[tuple[int, ...]]:
    return head_spec(config, configured_backbone(config), len(request.classes), layer).shapes


def _check_arrays(arrays: Sequence[NDArray[Any]], shapes: Sequence[tuple[int, ...]], name: str) -> None:
    received = [array.shape for array in arrays]
    if received != list(shapes) or not all(
        array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays
    ):
        raise SiteError(
            "other-arrays",
            f"sent {name} of shapes {received}, or not of finite numbers; expected {list(shapes)}",
        )


def _beyond(request: str, limit: str) -> SiteError:
    return SiteError(
        "not-of-this-run", f"asked for {request}; the run's settings say {limit}, and this site gives no more"
    )
