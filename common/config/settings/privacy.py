"""Settings that protect the sites: differential privacy and masks (secure aggregation)."""

from typing import Literal

from fedtransfer.common.config.settings.option import SettingsGroup, option

PANEL = "Privacy"


class PrivacySettings(SettingsGroup):
    """Differential privacy and secure aggregation."""

    dp: Literal["none", "site", "image"] = option(
        "none",
        PANEL,
        "Differential privacy: of a site's taking part (the server clips updates and adds noise to their sum, and is trusted), or"
        " of each training image (noise at each site, which need not trust the server; with --strategy fedncm or fed3r on"
        " their sums, once).",
    )
    epsilon: float = option(
        0.0,
        PANEL,
        "Epsilon that the run may spend. The noise that it takes is found from it; with --noise-multiplier too, the"
        " run stops before it would spend more (0: no bound, the noise is given).",
        ge=0,
    )
    delta: float = option(1e-5, PANEL, "Delta of the guarantee; below 1 / number of protected units.", gt=0, lt=0.1)
    noise_multiplier: float = option(
        0.0,
        PANEL,
        "Standard deviation of the noise on a sum over what one unit can change it by (0: found from --epsilon).",
        ge=0,
    )
    clip: float = option(
        1.0,
        PANEL,
        "Bound of what one unit adds: Euclidean norm of a site's update, or of an image's gradient (one-shot heads: of its"
        " features, which have length 1).",
        gt=0,
    )
    image_rate: float = option(
        0.05,
        PANEL,
        "With --dp image: chance of each training image to be in a step's batch. Sums over a batch are divided by --batch-size:"
        " a larger one makes smaller steps and so damps noise; with few images leave it above this share of a site's images.",
        gt=0,
        le=1,
    )
    local_steps: int = option(
        0,
        PANEL,
        "With --dp image: steps at a site in a round (0: --local-epochs passes, 1 / --image-rate steps each).",
        ge=0,
    )
    noise: Literal["alone", "shared"] = option(
        "alone",
        PANEL,
        "Who adds the noise: the server (--dp site) or each site all of it for itself (--dp image); shared: with --masks, every site adds a"
        " share, so that the sum over --min-sites of them is private, and no site's update is seen.",
    )
    masks: bool = option(
        False,
        PANEL,
        "Secure aggregation: sites mask what they send, and the server learns totals over at least --min-sites of them only.",
    )
    colluding_sites: int = option(
        0,
        PANEL,
        "With --masks: number of sites that may collude with the server without exposing the others.",
        ge=0,
    )
    public_data: str = option(
        "",
        PANEL,
        "Public labelled images at the server (folder, manifest, archive or data set): heads are scored on them in each"
        " round, in place of the sites' own.",
    )
