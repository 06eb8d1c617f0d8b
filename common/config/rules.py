"""Settings that contradict each other, or that nothing would use: refused with the reason."""

from fedtransfer.common.config.privacy_rules import refuse_unprotected
from fedtransfer.common.config.settings.everything import Settings
from fedtransfer.common.config.settings.option import changed, changed_of, outside
from fedtransfer.common.head.schedule import schedule
from fedtransfer.common.methods import METHODS

_RAY = ("ray_address", "client_cpus", "client_gpus")
# Of no use to a head in closed form: it has no round of training, and one layer only.
_OF_ROUNDS = (
    "init", "server_learning_rate", "server_momentum", "weighting", "fraction", "cohort_size", "sampling",
    "early_stopping", "schedule", "class_balance", "max_update_norm", "unfreeze_at",
)  # fmt: skip
_OF_THE_HEAD = ("hidden_units", "dropout", "l2", "trainable")


def refuse_contradictions(config: Settings) -> None:
    """Check how settings go together. Raises ValueError: they do not; it says which and why."""
    _check_cohorts(config)
    _check_classes(config)
    _check_features(config)
    _check_strategy(config)
    _check_one_shot(config)
    _check_depth(config)
    _check_attack(config)
    refuse_unprotected(config)
    if config.engine != "ray" and (unused := changed_of(config, _RAY)):
        raise ValueError(f"{unused}: goes with --engine ray; the in-process engine knows --threads")


def _check_cohorts(config: Settings) -> None:
    size, fraction = config.cohort_size, config.fraction
    if size and fraction < 1:
        raise ValueError(
            f"cohort-size {size} and fraction {fraction}: both say how many sites train; give one"
        )
    if size and config.sampling == "poisson":
        raise ValueError(
            "cohort-size: Poisson sampling draws each site by itself, so cohorts have no fixed size; "
            "give --fraction"
        )
    if size and config.min_sites > size:
        raise ValueError(f"min-sites {config.min_sites} can never be reached by cohorts of {size} sites")


def _check_classes(config: Settings) -> None:
    names = config.declared_classes
    if config.classes == "union" and names:
        raise ValueError(
            "class-names: goes with --classes declared; without it the classes are those found at the sites"
        )
    if config.classes == "declared" and len(set(names)) < max(2, len(names)):
        raise ValueError(
            f"class-names: got {config.class_names!r}; expected two or more different names, such as cat,dog"
        )


def _check_features(config: Settings) -> None:
    if config.project == "none" and config.dimensions:
        raise ValueError(
            "dimensions: goes with --project pca or random; without it features keep their width"
        )
    if config.project != "none" and not config.dimensions:
        raise ValueError(
            f"project {config.project}: give the width to project to by --dimensions, such as 64"
        )
    if config.feature_statistics and config.standardise in ("none", "federated") and config.project != "pca":
        raise ValueError(
            f"feature-statistics: --standardise {config.standardise} with --project {config.project} uses no "
            "public statistics; they go with --standardise centre or public, or --project pca"
        )


def _check_strategy(config: Settings) -> None:
    method, chosen = config.method, {config.strategy, config.one_shot}
    for setting in dict.fromkeys(setting for each in METHODS.values() for setting in each.options):
        users = [each for each in METHODS.values() if setting in each.options]
        if changed(config, setting) and not chosen & {user.name for user in users}:
            names = " or ".join(user.name for user in users)
            init = f", or --init {names}" if all(user.sums for user in users) else ""
            raise ValueError(
                f"{outside(setting)}: {config.strategy} does not use it; "
                f"it goes with --strategy {names}{init}"
            )
    if not method.weighted and config.weighting == "uniform":
        raise ValueError(
            f"weighting: {config.strategy} counts every site once, whatever its size; leave it at its default"
        )
    for setting, why in method.refuses.items():
        if (value := getattr(config, setting)) and changed(config, setting):
            raise ValueError(f"{outside(setting)} {value}: {why}")
    if config.weight_decay and config.optimizer == "ftrl":
        raise ValueError(
            "weight-decay: ftrl computes each weight from its accumulators, "
            "so a decay between steps has no effect; give --l2"
        )


def _check_one_shot(config: Settings) -> None:
    if config.closed_form and (unused := changed_of(config, (*_OF_ROUNDS, *_OF_THE_HEAD))):
        raise ValueError(
            f"{unused}: {config.strategy} makes one linear head of sums, in closed form and without rounds "
            f"of training; to train on from it, give --init {config.strategy} and another --strategy"
        )
    if config.one_shot and config.hidden_units:
        raise ValueError(f"hidden-units: {config.one_shot} makes a single linear layer; leave it at 0")


def _check_depth(config: Settings) -> None:
    deep = config.trainable != "head" or config.unfreeze_at
    schedule(config)
    if config.init != "zeros" and config.trainable != "head":
        raise ValueError(
            f"init {config.init}: it needs pooled features, and --trainable {config.trainable} stores those "
            f"at the cut; begin with the head and go deeper by --unfreeze-at 2:{config.trainable}"
        )
    if not deep and changed(config, "backbone_rate"):
        raise ValueError(
            "backbone-rate: goes with --trainable or --unfreeze-at; the head alone has --learning-rate"
        )
    if deep and config.method.control_variates and config.backbone_rate != 1:
        raise ValueError(
            f"backbone-rate {config.backbone_rate:g}: {config.strategy} divides by one rate for all that is "
            "trained; give --backbone-rate 1 and a --learning-rate that suits convolutions, such as 0.05"
        )
    if deep and config.standardise == "federated":
        raise ValueError(
            "standardise federated: its statistics are of pooled features, "
            "which change once the backbone is trained; give --standardise public or centre"
        )


def _check_attack(config: Settings) -> None:
    if not config.hostile_sites:
        if unused := changed_of(config, ("attack", "attack_scale")):
            raise ValueError(f"{unused}: goes with --hostile-sites, the number of sites that attack")
        return
    reasons = {
        f"engine {config.engine}": config.engine != "inprocess" and "attackers are simulated in process",
        "prepare": config.prepared and "attackers are simulated in process",
        "masks": config.masks and "attackers answer what honest updates call for, which masks hide",
        f"dp {config.dp}": config.private and "attacks are on updates and sums without noise",
        "trainable": (config.trainable != "head" or config.unfreeze_at) and "attacks are on the head alone",
    }
    for setting, why in reasons.items():
        if why:
            raise ValueError(f"hostile-sites {config.hostile_sites} with {setting}: {why}")
