"""What a site refuses of a run, by its ``site.toml``: methods, backbones, rounds a day, missing protection, its budget.

``fedtransfer.client.consent.requests`` holds single requests to the settings that passed here.
"""

import logging
import time

from fedtransfer.client.consent.ledger import SiteLedger, refuse_beyond_budget
from fedtransfer.client.deployment.exchange_log import ExchangeLog
from fedtransfer.client.deployment.settings import MECHANISMS, UNPINNED, SiteFolder
from fedtransfer.common.config.config import BUNDLED, KERAS_BACKBONES, RunConfig
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire import protocol

log = logging.getLogger(__name__)

DAY = 24 * 3600.0


def refuse_run(site: SiteFolder, ledger: SiteLedger, config: RunConfig, kind: str) -> None:
    """Refuse a message of a run that ``site.toml`` does not allow.

    Args:
        site: whose settings count.
        ledger: the privacy that the site has spent.
        config: the run's settings, as they are at the site.
        kind: the message's type.

    Raises:
        SiteError: it is refused; code and text go to the coordinator.
    """
    consent, settings = site.settings.consent, site.settings
    others = [name for name in config.exchanges if name not in consent.methods]
    if consent.methods and others:
        raise SiteError(
            "method-not-allowed",
            f"this site takes part in {', '.join(consent.methods)} only, the run uses "
            f"{', '.join(others)}; agree on one of these",
        )
    held = config.backbone == BUNDLED or settings.backbone or (settings.weights and config.backbone in KERAS_BACKBONES)
    if not held:  # a run must not make the site open files, or fetch weights, that it did not name itself
        raise SiteError(
            "backbone-not-held",
            "the run wants another backbone than the bundled one, and this site names none; put the "
            "file there and name it in its site.toml, as backbone or weights",
        )
    if config.feature_statistics and not settings.feature_statistics:
        raise SiteError(
            "statistics-not-held",
            "the run standardises or projects features by a file of public statistics, and this site "
            "names none; put the coordinator's file there and name it in its site.toml, as "
            "feature-statistics",
        )
    _refuse_unprotected(site, config)
    refuse_beyond_budget(ledger, settings.privacy.limit, settings.privacy.delta, config, kind)
    if config.masks and kind == protocol.QUERY and not site.roster:
        log.warning("%s", UNPINNED)
    if consent.rounds_a_day and kind in (protocol.QUERY, protocol.GATHER, protocol.TRAIN):
        done = ExchangeLog(site.exchange_log).rounds_since(time.time() - DAY)
        all_rounds = kind == protocol.QUERY and not config.resume
        more = config.gatherings + config.training_rounds if all_rounds else 1
        if done + more > consent.rounds_a_day:
            raise SiteError(
                "too-many-rounds",
                f"this site takes part in at most {consent.rounds_a_day} rounds of training or of sums "
                f"within 24 hours and has done {done}; the run asks for {more} more; lower rounds, or "
                "wait",
            )


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
            raise SiteError("demand-not-met", f"this site demands {name}, and the run has none; give {settings}")
    if config.dp == "image" and consent.least_images > 1:
        raise SiteError(
            "rare-classes",
            f"this site leaves out classes with fewer than {consent.least_images} images, so one image "
            "can add a whole class, which the noise of --dp image does not hide; its people set "
            "least-images = 1, because that noise hides rare classes, or run without --dp image",
        )
    if config.dp == "image" and site.settings.strict:
        raise SiteError(
            "strict",
            "this site stops at the first image that cannot be read, so one image can end its part in "
            "the run, which the noise of --dp image does not hide; its people set strict = false in its "
            "site.toml",
        )
