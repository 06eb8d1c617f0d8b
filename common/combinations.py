"""Settings of a federation that contradict each other, or that nothing would use: refused with the reason."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.config import RunConfig

_STRATEGIES_THAT_USE = {
    "second_momentum": ("fedadam", "fedyogi"),
    "adaptivity": ("fedadam", "fedyogi", "fedadagrad"),
    "proximal": ("fedprox",),
    "trim": ("trimmed-mean",),
}
_RAY = ("ray_address", "client_cpus", "client_gpus")


def refuse_contradictions(config: "RunConfig") -> None:
    """Check how settings of cohorts, strategy and engine go together.

    Raises:
        ValueError: they do not; the text says which and why.
    """
    _check_cohorts(config)
    _check_classes(config)
    for name, strategies in _STRATEGIES_THAT_USE.items():
        if _changed(config, name) and config.strategy not in strategies:
            raise ValueError(
                f"{_outside(name)}: {config.strategy} does not use it; it goes with --strategy {' or '.join(strategies)}"
            )
    if config.strategy in ("median", "trimmed-mean") and config.weighting == "uniform":
        raise ValueError(
            f"weighting: {config.strategy} counts every site once, whatever its size; leave it at its default"
        )
    for name in _RAY:
        if _changed(config, name) and config.engine != "ray":
            raise ValueError(f"{_outside(name)}: goes with --engine ray; the in-process engine knows --threads")


def _check_cohorts(config: "RunConfig") -> None:
    size, fraction = config.cohort_size, config.fraction
    if size and fraction < 1:
        raise ValueError(f"cohort-size {size} and fraction {fraction}: both say how many sites train; give one")
    if size and config.sampling == "poisson":
        raise ValueError(
            "cohort-size: Poisson sampling draws each site by itself, so cohorts have no fixed size; give --fraction"
        )
    if size and config.min_sites > size:
        raise ValueError(f"min-sites {config.min_sites} can never be reached by cohorts of {size} sites")


def _check_classes(config: "RunConfig") -> None:
    names = config.declared_classes
    if config.classes == "union" and names:
        raise ValueError(
            "class-names: goes with --classes declared; without it the classes are those found at the sites"
        )
    if config.classes == "declared" and len(set(names)) < max(2, len(names)):
        raise ValueError(
            f"class-names: got {config.class_names!r}; expected two or more different names, such as cat,dog"
        )


def _changed(config: "RunConfig", name: str) -> bool:
    return getattr(config, name) != type(config).model_fields[name].default


def _outside(name: str) -> str:
    return name.replace("_", "-")
