"""Settings that would void what a run promises of privacy, or that protect nothing: refused."""

from collections.abc import Callable, Iterator

from fedtransfer.common.config.settings.everything import Settings
from fedtransfer.common.config.settings.option import changed, changed_of, outside
from fedtransfer.common.errors import UserError
from fedtransfer.common.masks.graph import graph, least_sites
from fedtransfer.common.methods import METHODS
from fedtransfer.common.methods.add_ons import ADD_ONS
from fedtransfer.common.methods.method import Method, Verdict

LEAST_NOISE = 0.01  # of a noise multiplier: ε is in the thousands there
_OF_DP = ("epsilon", "noise_multiplier", "clip", "image_rate", "local_steps", "noise")


def refuse_unprotected(config: Settings) -> None:
    """Check the settings of privacy. Raises ValueError: they promise nothing, or what is not so."""
    if config.private:
        _check_budget(config)
        _check_what_else_leaks(config)
        _check_add_ons(config)
        if config.dp == "site":
            _check_site_level(config)
        else:
            _check_image_level(config)
        _check_shares(config)
    elif unused := changed_of(config, _OF_DP):
        raise ValueError(f"{unused}: goes with --dp site or --dp image; without it nothing is noised")
    if config.masks:
        _check_masks(config)
    elif config.colluding_sites:
        raise ValueError("colluding-sites: goes with --masks")


def refuse_undeclared(config: Settings) -> None:
    """Check that class names are public if sites do not say theirs. Raises UserError: they are not.

    A simulation takes those of its data.
    """
    if config.hides_counts and config.classes != "declared":
        how = f"--dp {config.dp}" if config.private else "--masks"
        raise UserError(
            f"classes: with {how} sites do not say which classes they have, since that tells of their "
            "images; give --classes declared --class-names A,B,… , a list that is public"
        )


def _check_budget(config: Settings) -> None:
    if not config.epsilon and not config.noise_multiplier:
        raise ValueError(
            f"dp {config.dp}: say how much noise: by --epsilon (such as 2), or by --noise-multiplier"
        )
    if 0 < config.noise_multiplier < LEAST_NOISE:
        raise ValueError(
            f"noise-multiplier {config.noise_multiplier:g}: so little protects nothing; "
            f"give {LEAST_NOISE:g} or more"
        )


def _check_what_else_leaks(config: Settings) -> None:
    """Refuse what would tell of private images without being accounted for."""
    without_public = not config.public_data
    leaks = {
        "early_stopping": without_public
        and "it looks at the sites' validation losses each round; give --public-data, or leave it at 0",
        "class_balance": "it takes the federation's numbers of images by class; leave it at 0",
        "max_examples": "sites do not say how many images they have; leave it at 0",
        "patience": "epochs would be chosen by a site's validation images, unaccounted; leave it at 0",
        "lda": "it takes differences of noisy sums, with the numbers of images by class; leave it off",
    }
    for name, why in leaks.items():
        if why and changed(config, name):
            raise ValueError(f"{outside(name)}: with --dp {config.dp} {why}")


def _check_add_ons(config: Settings) -> None:
    """Refuse exchanges that their records say do not go with differential privacy."""
    for add_on in ADD_ONS:
        for name in () if add_on.dp.allowed else add_on.settings:
            value, default = getattr(config, name), type(config).model_fields[name].default
            if value == add_on.value or (add_on.value is None and value != default):
                raise ValueError(
                    f"{outside(name)} {value}: with --dp {config.dp}, {add_on.dp.reason}; "
                    f"leave it at {default!r}"
                )


def _going_with(verdict: Callable[[Method], Verdict]) -> str:
    """Name the methods that a protection goes with."""
    return ", ".join(name for name, method in METHODS.items() if verdict(method).allowed)


def _check_site_level(config: Settings) -> None:
    if not (verdict := config.method.dp_site).allowed:
        raise ValueError(
            f"strategy {config.strategy}: --dp site puts noise on the sum of clipped updates, "
            f"but {verdict.reason}; it goes with {_going_with(lambda method: method.dp_site)}"
        )
    if config.weights_of_sites != "uniform":
        raise ValueError(
            "weighting examples: with --dp site a site with many images would change the sum by more than "
            "--clip, and the noise would be too small for it; give --weighting uniform"
        )
    if config.cohort_size or (config.fraction < 1 and config.sampling != "poisson"):
        raise ValueError(
            "sampling: --dp site accounts for Poisson sampling, each site by its own secret draw; "
            "give --fraction with --sampling poisson, or leave out both for all sites in every round"
        )
    if unused := changed_of(config, ("image_rate", "local_steps")):
        raise ValueError(f"{unused}: goes with --dp image; with --dp site a site trains as it would without")


def _check_image_level(config: Settings) -> None:
    if not (verdict := config.method.dp_image).allowed:
        raise ValueError(
            f"strategy {config.strategy}: with --dp image, {verdict.reason}; "
            f"it goes with {_going_with(lambda method: method.dp_image)}"
        )
    if config.closed_form:
        _check_one_release(config)
        return
    if config.weights_of_sites != "uniform":
        raise ValueError(
            "weighting examples: with --dp image sites do not tell how many images they have; "
            "give --weighting uniform (a site with more images makes longer steps, "
            "since sums are divided by --batch-size)"
        )
    if unbounded := changed_of(config, ("hidden_units", "dropout", "l2")):
        raise ValueError(
            f"{unbounded}: --dp image clips each image's gradient in closed form, "
            "which a single linear layer without dropout or penalty has; leave it at 0"
        )
    if config.optimizer != "sgd":
        raise ValueError(
            f"optimizer {config.optimizer}: --dp image takes plain noisy steps at the sites; leave it at sgd"
        )
    if config.augment:
        raise ValueError(
            "augment: with --dp image an image would have several gradients in a step, each clipped alone; "
            "leave it at 0"
        )


def _check_one_release(config: Settings) -> None:
    if not config.normalise:
        raise ValueError(
            "normalise: --dp image bounds what an image adds to the sums by the length of its features; "
            "leave it on"
        )
    if unused := changed_of(config, ("image_rate", "local_steps")):
        raise ValueError(f"{unused}: {config.strategy} sums all images once; there is nothing to sample")
    if config.augment:
        raise ValueError(
            "augment: an image would be in the sums several times, beyond the bound; leave it at 0"
        )


def _check_shares(config: Settings) -> None:
    if config.noise == "shared" and not config.masks:
        raise ValueError(
            "noise shared: a site's share alone protects nothing; it goes with --masks, which show sums only"
        )
    if config.dp == "site" and config.masks and config.noise == "alone":
        raise ValueError(
            "masks: with --dp site the server clips each site's update, which masks hide from it; "
            "give --noise shared, where sites clip and add noise themselves, "
            "or leave out --masks and trust the server"
        )
    if config.noise == "shared" and config.dp == "image" and config.weight_decay:
        raise ValueError(
            "weight-decay: with --noise shared a site sends its clipped sum alone; leave it at 0"
        )
    if config.noise == "shared" and (obstacles := [*_obstacles_to_shares(config)]):
        raise ValueError("; and ".join(obstacles))


def _obstacles_to_shares(config: Settings) -> Iterator[str]:
    """Say what must be given for shares of noise to add up to enough, all at once."""
    if config.honest_sites < 2:
        sites, colluding = config.participants, config.colluding_sites
        yield (
            f"min-sites {config.min_sites}: shares of noise are sized for the fewest sites of a total that "
            f"are honest, --min-sites less --colluding-sites {colluding}; that must be 2 or more: "
            f"give --min-sites, such as {max(-(-2 * sites // 3), 3, colluding + 2)} of {sites} sites"
        )
    if config.dp == "image" and config.private_steps > 1:
        yield (
            "local-steps: with --noise shared only the sum over sites is private, so a site must not step on "
            f"by itself; got {config.private_steps} steps in a round, give --local-steps 1"
        )


def _check_masks(config: Settings) -> None:
    for name, method in ((config.strategy, config.method), (config.one_shot, METHODS.get(config.one_shot))):
        if method and not method.masks.allowed:
            raise ValueError(f"masks: {name} does not go with them: {method.masks.reason}")
    if config.max_update_norm:
        raise ValueError(
            "max-update-norm: with --masks the server sees no site's update to measure; leave it at 0"
        )
    if config.max_examples:
        raise ValueError(
            "max-examples: with --masks the server sees no site's number of images; leave it at 0"
        )
    if config.class_balance:
        raise ValueError(
            "class-balance: with --masks sites do not say how many images of each class they have; "
            "leave it at 0"
        )
    if 0 < config.min_sites < 3:
        raise ValueError(
            f"min-sites {config.min_sites}: "
            "a total over fewer than 3 sites tells each of two what the other sent; give 3 or more, or 0"
        )
    if config.partition != "natural":  # else how many sites there are is seen from the data
        _check_cohorts(config)


def cohort_under_masks(config: Settings) -> int:
    """Return how many sites share masks in a round, if known; of Poisson cohorts the mean."""
    if config.cohort_size:
        return min(config.cohort_size, config.participants)
    return int(config.fraction * config.participants + (1e-9 if config.sampling == "poisson" else 0.5))


def _check_cohorts(config: Settings) -> None:
    """Refuse cohorts that no masks are safe for, before sites do any work."""
    sites = cohort_under_masks(config)
    if sites < (least := least_sites(sites, config)):
        raise ValueError(
            f"masks: {sites} sites are to answer in a round, and a total needs {least} at least; "
            "let more sites take part (--sites, --fraction, --cohort-size)"
            + ", or lower --min-sites, to 3 at least"
            * (config.min_sites > 3)
        )
    try:
        graph(sites, config)
    except UserError as error:
        raise ValueError(str(error)) from None
