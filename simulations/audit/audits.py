"""Whole audits: of every federation of a plan, or of a finished run; each ends with a folder of findings and a report.

DIR/table.csv             a row a number that an attack came to
DIR/roc.csv               curves of membership inference
DIR/reconstructions.npz   images of classes that have one image at a site, and what was rebuilt of them
DIR/audit.json            what was audited, how, and in what time
DIR/report.html
"""

import time
from dataclasses import replace
from pathlib import Path

from common.backbone import configured_backbone
from common.config import Value
from common.errors import UserError
from common.head import Arrays, load_head
from common.metrics import Counts
from common.sources import natural_order, read_source
from common.toml_settings import read_settings
from server.run import read_summary, settings_of
from simulations.audit.federation import Seen, Split, federate, refuse_unrepeatable
from simulations.audit.inference import infer_members
from simulations.audit.mechanisms import one_run_bound
from simulations.audit.plan import Audited, PlanFile, preset, read_plan
from simulations.audit.pool import Pool, drawn_pool, others, pool_of_run, without_empty
from simulations.audit.reconstruction import rebuild
from simulations.audit.server_view import leaks
from simulations.audit.tables import Curve, Finding, Rebuilt, write_curves, write_facts, write_findings, write_rebuilt
from simulations.datasets import resolve_data
from simulations.display import Display
from simulations.report import write_report

SHADOWS = 64  # of a run, where nothing else is asked for
_UNMASKED = {"masks": "none", "both": "dp"}


def audit_plan(
    path: Path, folder: Path, shadows: int, changed: dict[str, Value], display: Display, command: str, *, force: bool
) -> list[Finding]:
    """Attack every federation of a plan, and write what came of it.

    Args:
        path: the plan.
        folder: for the findings.
        shadows: of each federation; 0: as many as the plan says.
        changed: settings that replace the plan's.
        display: shows progress.
        command: that repeats the audit.
        force: replace an earlier audit in the folder.

    Raises:
        UserError: the plan, its data or the folder are not usable.
    """
    _check(folder, force=force)
    data = str({**read_settings(path, PlanFile).common, **changed}["data"])
    plan = read_plan(path, natural_order(image.label for image in read_source(resolve_data(data)).images), changed)
    audit = _Audit(folder, display, command, shadows or plan.shadows)
    for each in dict.fromkeys(audited.each for audited in plan.audited):
        mine = [audited for audited in plan.audited if audited.each == each]
        with display.bar(f"Features, {each} a class", "images") as progress:
            pool = without_empty(drawn_pool(mine[0].config, each, progress))
            population = others(mine[0].config, pool.classes, progress)
        for audited in mine:
            audit.attack(audited, pool, population)
    return audit.finished(plan.audited[0])


def audit_run(
    run: Path, folder: Path, shadows: int, changed: dict[str, Value], display: Display, command: str, *, force: bool
) -> list[Finding]:
    """Attack a finished run: its first round, which its sites make again in memory, and the head of its last round.

    Raises:
        UserError: the run is not there, not finished, or one that cannot be repeated in memory.
    """
    config = settings_of(run)
    if not (run / "summary.json").is_file():
        raise UserError(f"{run}: not finished; go on with it first: fedtransfer simulate --resume {run}")
    _check(folder, force=force)
    summary, (head, _, _) = read_summary(run), load_head(run / "last-head.npz")
    if config.closed_form and not config.private:  # validation images chose these, and an audit has none
        chosen = summary["one_shot"]
        head = tuple(array / np.float32(chosen["factor"]) for array in head)
        changed = {"ridge": chosen["ridge"], **changed} if config.strategy != "fedncm" else changed
    config = config.model_copy(update={**changed, "resume": False})
    refuse_unrepeatable(config)
    with display.bar("Features", "images") as progress:
        pool, population = pool_of_run(run, config, tuple(summary["classes"]), progress)
    audit = _Audit(folder, display, command, shadows or SHADOWS)
    audited = Audited(config.strategy, "", 0, config)
    audit.attack(audited, without_empty(pool), population, head)
    return audit.finished(audited)


class _Audit:
    """Findings as they come, and the folder that they end in."""

    def __init__(self, folder: Path, display: Display, command: str, shadows: int) -> None:
        self._folder, self._display, self._command, self._shadows = folder, display, command, shadows
        self._findings: list[Finding] = []
        self._curves: list[Curve] = []
        self._rebuilt: list[Rebuilt] = []
        self._bounds: dict[RunConfig, list[Finding]] = {}
        self._began = time.monotonic()

    def attack(self, audited: Audited, pool: Pool, population: Split, head: Arrays | None = None) -> None:
        """Make all attacks on one federation; on the head of a run where it has one."""
        config, classes = audited.config, len(pool.classes)
        rounds: list[Seen] = []
        made = federate(config, pool.members, classes, observe=rounds.append)
        x, y = population
        accuracy = float(np.mean((x @ (made if head is None else head)[0] + made[1]).argmax(1) == y))
        self._findings.append(
            audited.found("utility", "accuracy", accuracy, count=len(y), note="on images that no site has")
        )
        for measure in leaks(config, pool.members, classes, rounds):
            self._findings.append(audited.measured(measure))
        self._rebuild(audited, pool, rounds)
        self._infer(audited, pool, population, head)
        self._bound(audited)
