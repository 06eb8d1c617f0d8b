"""Membership inference on one federation: findings and curves of every attack."""

from collections.abc import Callable

import numpy as np

from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays
from fedtransfer.common.seeds import generator
from fedtransfer.simulations.audit.federation import Split
from fedtransfer.simulations.audit.image_pool import ImagePool
from fedtransfer.simulations.audit.measures import RATES, attacked
from fedtransfer.simulations.audit.membership import Target, check_enough
from fedtransfer.simulations.audit.plan import AuditCase
from fedtransfer.simulations.audit.shadows import coins, pooled, run_shadows
from fedtransfer.simulations.audit.tables import Curve, Finding


def infer_members(
    case: AuditCase,
    pool: ImagePool,
    population: Split,
    shadows: int,
    progress: Callable[[int, int], None],
    head: Arrays | None = None,
) -> tuple[list[Finding], list[Curve]]:
    """Attack a federation's heads.

    Args:
        case: which federation.
        pool: images that it may have been trained on.
        population: features and classes of images that no head has seen.
        shadows: federations that are run on random halves of the pool; for a given head on as large a share as it had.
        progress: called with the number done.
        head: the one that is attacked; without one each of the shadows' is, in turn, with the others for its shadows.

    Raises:
        UserError: the federation cannot be repeated in memory, or there are too few shadows.
    """
    classes = len(pool.classes)
    trained_on = np.concatenate([pool.inside[site] for site in sorted(pool.sites)])
    share = 0.5 if head is None else float(trained_on.mean())  # shadows are then as large as the run that is attacked
    members = [coins(case.config.seed, shadow, len(trained_on), share) for shadow in range(shadows)]
    try:
        check_enough(np.array(members), others=int(head is None))
    except ValueError as error:
        raise UserError(f"--shadows: {error}, such as {max(32, 2 * shadows)}") from None
    run = run_shadows(case.config, pool.sites, population, classes, shadows, progress, share=share)
    target, note = None, f"{shadows} heads, each the target in turn"
    if head is not None:
        target = Target.of(head, pooled(pool.sites), population), trained_on
        note = f"the run's own head; {shadows} shadows"
    findings, curves = [], []
    for name, measures, points in attacked(run, generator(case.config.seed, "bootstrap"), target):
        findings += [case.finding(name, key, estimate, note, RATES.get(key, 0.5)) for key, estimate in measures.items()]
        curves.append(Curve(case.strategy, case.protection, case.each, name, points.fpr, points.tpr))
    return findings, curves
