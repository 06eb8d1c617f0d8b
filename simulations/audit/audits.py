"""Whole audits: of every federation of a plan, or of a finished run; each ends with a folder of findings and a report.

DIR/table.csv             a row a number that an attack came to
DIR/roc.csv               curves of membership inference
DIR/reconstructions.npz   images of classes that have one image at a site, and what was rebuilt of them
DIR/audit.json            what was audited, how, and in what time
DIR/report.html
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.backbone import configured_backbone
from common.config import RunConfig, Value
from common.errors import UserError
from common.head import load_head
from common.sources import natural_order, read_source
from server.run import clear_folder, read_summary, settings_of
from simulations.audit.federation import Split, federate, refuse_unrepeatable
from simulations.audit.inference import infer_members
from simulations.audit.mechanisms import one_run_bound
from simulations.audit.plan import Audited, preset, read_plan
from simulations.audit.pool import Pool, drawn_pool, others, pool_of_run
from simulations.audit.tables import Curve, Finding, Rebuilt, write_curves, write_facts, write_findings, write_rebuilt
from simulations.audit.view import look
from simulations.datasets import resolve_data
from simulations.display import Display
from simulations.report import write_report

SHADOWS = 64  # of a run, where nothing else is asked for


def audit_plan(
    name: str, file: Path | None, folder: Path, shadows: int, data: str, store: str, display: Display, command: str,
    *, force: bool = False,
) -> list[Finding]:  # fmt: skip
    """Attack every federation of a preset or plan.

    Raises:
        UserError: the plan, its data or the folder are not usable.
    """
    path = file or preset(name)
    changed: dict[str, Value] = {**({"data": data} if data else {}), **({"store": store} if store else {})}
    _check(folder, force=force)
    classes = natural_order(read_source(resolve_data(data or _data_of(path))).labels)
    plan = read_plan(path, classes, changed)
    audit = _Audit(folder, display, command, shadows or plan.shadows)
    for each in dict.fromkeys(audited.each for audited in plan.audited):
        mine = [audited for audited in plan.audited if audited.each == each]
        with display.bar(f"Features, {each} a class", "images") as progress:
            pool = drawn_pool(mine[0].config, each, progress)
            population = others(mine[0].config, pool.classes, progress)
        for audited in mine:
            audit.attack(audited, pool, population)
    return audit.finished(plan.audited[0].config)


class _Audit:
    """Findings as they come, and the folder that they end in."""

    def __init__(self, folder: Path, display: Display, command: str, shadows: int) -> None:
        self._folder, self._display, self._command, self._shadows = folder, display, command, shadows
        self._findings: list[Finding] = []
        self._curves: list[Curve] = []
        self._rebuilt: list[Rebuilt] = []
        self._began = time.monotonic()
