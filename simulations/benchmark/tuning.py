"""Settings that validation images choose: a grid a method, equal in size, on a seed that no reported run has.

Each point of a grid is a run of its own. The one whose delivered head has the lowest mean cross-entropy on the validation
images of all sites is taken for every seed of the setting; test images have no say.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedtransfer.common.config.config import make_config
from fedtransfer.simulations.benchmark.plans import Cell


def choose(tuning: Sequence[Cell], losses: Mapping[str, float]) -> list[dict[str, Any]]:
    """Choose for each setting and tuned method; return a dict each with setting, method, seed, grid, losses and chosen.

    Args:
        tuning: the runs, in the order of the grids.
        losses: run → mean cross-entropy on validation images. A run that failed is not there, and never chosen: a
            choice of which all failed is None.
    """
    chosen = []
    for setting, method in dict.fromkeys((cell.setting, cell.method) for cell in tuning):
        grid = [cell for cell in tuning if (cell.setting, cell.method) == (setting, method)]
        numbers = [losses.get(str(cell), math.nan) for cell in grid]
        finite = [(number, i) for i, number in enumerate(numbers) if math.isfinite(number)]
        chosen.append(
            {
                "setting": setting,
                "method": method,
                "seed": grid[0].seed,
                "grid": [dict(cell.tried) for cell in grid],
                "validation_loss": numbers,
                "chosen": dict(grid[min(finite)[1]].tried) if finite else None,
            }
        )
    return chosen


def with_choices(cells: Sequence[Cell], choices: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """Give cells what was chosen for them; those of a choice that all runs failed for are left out."""
    chosen_values = {(choice["setting"], choice["method"]): choice["chosen"] for choice in choices}
    result = []
    for cell in cells:
        chosen = chosen_values.get((cell.setting, cell.method), {})
        if chosen is not None:
            config = make_config({**cell.config.to_flat(), **chosen}, f"{cell} as tuned") if chosen else cell.config
            result.append(replace(cell, config=config))
    return result
