"""Settings that would void what a run promises of privacy, or that protect nothing: refused with the reason."""

from collections.abc import Iterator

from fedtransfer.common.config.settings.everything import Settings
from fedtransfer.common.config.settings.option import changed, outside
from fedtransfer.common.errors import UserError
from fedtransfer.common.masks.graph import graph, least_sites

LEAST_NOISE = 0.01  # of a noise multiplier: ε is in the thousands there
_SUMMED = ("fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "fedopt", "reptile")  # use the sum of updates only
_ONE_RELEASE = ("fedncm", "fed3r")
_OF_DP = ("epsilon", "noise_multiplier", "clip", "clip_quantile", "image_rate", "local_steps", "noise")
_OF_MASKS = ("mask_neighbours", "colluding_sites")


def refuse_unprotected(config: Settings) -> None:
    """Check the settings of privacy, with all others.

    Raises:
        ValueError: they promise what does not hold, or nothing; the text says which and why.
    """
    if config.private:
        _check_budget(config)
        _check_what_else_leaks(config)
        if config.dp == "site":
            _check_site_level(config)
        else:
            _check_image_level(config)
        _check_shares(config)
    elif unused := [outside(name) for name in _OF_DP if changed(config, name)]:
        raise ValueError(f"{', '.join(unused)}: goes with --dp site or --dp image; without it nothing is noised")
    if config.masks:
        _check_masks(config)
    elif unused := [outside(name) for name in _OF_MASKS if changed(config, name)]:
        raise ValueError(f"{', '.join(unused)}: goes with --masks")


def refuse_undeclared(config: Settings) -> None:
    """Check that the class names are public where sites do not say theirs; a simulation takes those of its data.

    Raises:
        UserError: they are not.
    """
    if config.hides_counts and config.classes != "declared":
        how = f"--dp {config.dp}" if config.private else "--masks"
        raise UserError(
            f"classes: with {how} sites do not say which classes they have, since that tells of their images; give "
            "--classes declared --class-names A,B,… , a list that is public"
        )


def _check_budget(config: Settings) -> None:
    if not config.epsilon and not config.noise_multiplier:
        raise ValueError(f"dp {config.dp}: say how much noise: by --epsilon (such as 2), or by --noise-multiplier")
    if 0 < config.noise_multiplier < LEAST_NOISE:
        raise ValueError(
            f"noise-multiplier {config.noise_multiplier:g}: so little protects nothing; give {LEAST_NOISE:g} or more"
        )


def _check_what_else_leaks(config: Settings) -> None:
    """Refuse what would tell of private images without being accounted for."""
    without_public = not config.public_data
    leaks = {
        "early_stopping": without_public
        and "it looks at the sites' validation losses each round; give --public-data, or leave it at 0",
        "ema": without_public
        and "nobody could say whether the mean is the better head; give --public-data, or leave it at 0",
        "interpolate": without_public
        and "its curves are scored on the sites' images; give --public-data, or leave it off",
        "personal_epochs": "sites would say how their personal heads do; leave it at 0 (a site may fine-tune its result by itself)",
        "class_balance": "it takes the federation's numbers of images by class; leave it at 0",
        "max_examples": "sites do not say how many images they have; leave it at 0",
        "patience": "epochs would be chosen by a site's validation images, unaccounted; leave it at 0",
        "lda": "it takes differences of noisy sums, with the numbers of images by class; leave it off",
        "unfreeze_at": "it is for a head alone: convolutions have no bound in closed form; leave it empty",
    }
    for name, why in leaks.items():
        if why and changed(config, name):
            raise ValueError(f"{outside(name)}: with --dp {config.dp} {why}")
    if config.standardise == "federated":
        raise ValueError(
            f"standardise federated: with --dp {config.dp} mean and deviation of the sites' features would be told exactly; "
            "give --standardise centre or public"
        )
    if config.init != "zeros":
        raise ValueError(
            f"init {config.init}: with --dp {config.dp} it would be a release of its own, unaccounted; begin at zeros"
        )
    if config.trainable != "head":
        raise ValueError(
            f"trainable {config.trainable}: --dp {config.dp} is for the head alone: noise on so many more numbers would drown them"
        )


def _check_site_level(config: Settings) -> None:
    if config.strategy not in _SUMMED:
        raise ValueError(
            f"strategy {config.strategy}: --dp site puts noise on the sum of clipped updates, and this does not work on "
            f"that sum alone; it goes with {', '.join(_SUMMED)}"
        )
    if config.weights_of_sites != "uniform":
        raise ValueError(
            "weighting examples: with --dp site a site with many images would change the sum by more than --clip, and "
            "the noise would be too small for it; give --weighting uniform"
        )
    if config.cohort_size or (config.fraction < 1 and config.sampling != "poisson"):
        raise ValueError(
            "sampling: --dp site accounts for Poisson sampling, each site by its own secret draw; give --fraction with "
            "--sampling poisson, or leave out both for all sites in every round"
        )
    if unused := [outside(name) for name in ("image_rate", "local_steps") if changed(config, name)]:
        raise ValueError(f"{', '.join(unused)}: goes with --dp image; with --dp site a site trains as it would without")
    if config.clip_quantile and config.noise == "shared":
        raise ValueError(
            "clip-quantile: with --noise shared the bound must stand before sites mask; give a fixed --clip"
        )


def _check_image_level(config: Settings) -> None:
    if config.clip_quantile:
        raise ValueError("clip-quantile: it adapts the bound of sites' updates; it goes with --dp site")
    if config.closed_form:
        _check_one_release(config)
        return
    allowed = (*_SUMMED, "median", "trimmed-mean")  # what a server makes of updates that are private costs nothing
    if config.strategy not in allowed:
        raise ValueError(
            f"strategy {config.strategy}: --dp image trains by DP-SGD at the sites, and it wants other gradients than that has; "
            f"it goes with {', '.join(allowed)}, fedncm and fed3r"
        )
    if config.weights_of_sites != "uniform":
        raise ValueError(
            "weighting examples: with --dp image sites do not tell how many images they have; give --weighting uniform "
            "(a site with more images makes longer steps, since sums are divided by --batch-size)"
        )
    if unbounded := [outside(name) for name in ("hidden_units", "dropout", "l1", "l2") if changed(config, name)]:
        raise ValueError(
            f"{', '.join(unbounded)}: --dp image clips each image's gradient in closed form, which a single linear layer "
            "without dropout or penalty has; leave it at 0"
        )
    if config.optimizer != "sgd":
        raise ValueError(
            f"optimizer {config.optimizer}: --dp image takes plain noisy steps at the sites; leave it at sgd"
        )
    if config.augment:
        raise ValueError(
            "augment: with --dp image an image would have several gradients in a step, each clipped alone; leave it at 0"
        )


def _check_one_release(config: Settings) -> None:
    if config.strategy not in _ONE_RELEASE:
        raise ValueError(
            f"strategy {config.strategy}: it takes covariances from the scatter of single sites' class means, and noise "
            "that hides these is all that would be left of it; give fedncm or fed3r"
        )
    if not config.normalise:
        raise ValueError(
            "normalise: --dp image bounds what an image adds to the sums by the length of its features; leave it on"
        )
    if unused := [outside(name) for name in ("image_rate", "local_steps") if changed(config, name)]:
        raise ValueError(f"{', '.join(unused)}: {config.strategy} sums all images once; there is nothing to sample")
    if config.augment:
        raise ValueError("augment: an image would be in the sums several times, beyond the bound; leave it at 0")


def _check_shares(config: Settings) -> None:
    if config.noise == "shared" and not config.masks:
        raise ValueError(
            "noise shared: a site's share alone protects nothing; it goes with --masks, which show sums only"
        )
    if config.dp == "site" and config.masks and config.noise == "alone":
        raise ValueError(
            "masks: with --dp site the server clips each site's update, which masks hide from it; give --noise shared, "
            "where sites clip and add noise themselves, or leave out --masks and trust the server"
        )
    if config.noise == "shared" and config.dp == "image" and config.weight_decay:
        raise ValueError("weight-decay: with --noise shared a site sends its clipped sum alone; leave it at 0")
    if config.noise == "shared" and (obstacles := [*_obstacles_to_shares(config)]):
        raise ValueError("; and ".join(obstacles))


def _obstacles_to_shares(config: Settings) -> Iterator[str]:
    """Say what must be given for shares of noise to add up to enough, all at once."""
    if config.honest_sites < 2:
        sites, colluding = config.participants, config.colluding_sites
        yield (
            f"min-sites {config.min_sites}: shares of noise are sized for the fewest sites of a total that are honest, "
            f"--min-sites less --colluding-sites {colluding}; that must be 2 or more: give --min-sites, such as "
            f"{max(-(-2 * sites // 3), 3, colluding + 2)} of {sites} sites"
        )
    if config.dp == "image" and config.private_steps > 1:
        yield (
            f"local-steps: with --noise shared only the sum over sites is private, so a site must not step on by itself; "
            f"got {config.private_steps} steps in a round, give --local-steps 1"
        )


def _check_masks(config: Settings) -> None:
    why = {
        "median": "it looks at every site's update",
        "trimmed-mean": "it looks at every site's update",
        "fedcof": "it takes covariances from the scatter of single sites' class means, which masks hide",
    }
    for name in (config.strategy, config.one_shot):
        if name in why:
            raise ValueError(f"masks: {name} does not go with them: {why[name]}")
    if config.max_update_norm:
        raise ValueError("max-update-norm: with --masks the server sees no site's update to measure; leave it at 0")
    if config.max_examples:
        raise ValueError("max-examples: with --masks the server sees no site's number of images; leave it at 0")
    if config.class_balance:
        raise ValueError(
            "class-balance: with --masks sites do not say how many images of each class they have; leave it at 0"
        )
    if 0 < config.min_sites < 3:
        raise ValueError(
            f"min-sites {config.min_sites}: a total over fewer than 3 sites tells each of two what the other sent; give 3 or more, or 0"
        )
    if config.partition != "natural":  # else how many sites there are is seen from the data
        _check_cohorts(config)


def cohort_under_masks(config: Settings) -> int:
    """Return how many sites share masks in a round, as far as it is known before; of Poisson cohorts the mean."""
    if config.cohort_size:
        return min(config.cohort_size, config.participants)
    return int(config.fraction * config.participants + (1e-9 if config.sampling == "poisson" else 0.5))


def _check_cohorts(config: Settings) -> None:
    """Refuse cohorts that no masks are safe for, before sites do any work."""
    sites = cohort_under_masks(config)
    if sites < (least := least_sites(sites, config)):
        raise ValueError(
            f"masks: {sites} sites are to answer in a round, and a total needs {least} at least; let more sites take "
            "part (--sites, --fraction, --cohort-size)"
            + ", or lower --min-sites, to 3 at least"
            * (config.min_sites > 3)
        )
    try:
        graph(sites, config)
    except UserError as error:
        raise ValueError(str(error)) from None
