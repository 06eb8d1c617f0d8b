"""Whole audits, of a plan's federations or of a finished run: a folder of findings with a report.

DIR/table.csv             a row a number that an attack found
DIR/summary.csv           a row a federation, with the main ones
DIR/roc.csv               curves of membership inference
DIR/reconstructions.npz   the only images of a class at their sites, and what was rebuilt of them
DIR/audit.json            what was audited, how, and in what time
DIR/report.html
"""

import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import Value
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays, load_head
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.support.files import is_empty, write_whole
from fedtransfer.common.support.text import counted
from fedtransfer.server.run_folder.folder import read_summary, settings_of
from fedtransfer.simulations.audit import reconstruction
from fedtransfer.simulations.audit.decoder import SIDE, Pictures, bundled_decoder
from fedtransfer.simulations.audit.federation import RoundView, Split, federate, refuse_unrepeatable
from fedtransfer.simulations.audit.findings import CurvePoint, Finding, write_tables
from fedtransfer.simulations.audit.image_pool import ImagePool, drawn_pool, others, pool_of_run
from fedtransfer.simulations.audit.inference import infer_members
from fedtransfer.simulations.audit.one_run import OneRun, one_run_bound
from fedtransfer.simulations.audit.plan import AuditCase, read_plan
from fedtransfer.simulations.audit.server_view import measure_leaks, recovered
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.report.page import write_report
from fedtransfer.simulations.scoring.estimate import Estimate

SHADOWS = 128  # of a run, by default


@dataclass(frozen=True)
class Options:
    """What the command says of an audit."""

    folder: Path  # for the findings
    shadows: int  # of each federation; 0: as many as the plan has, or 128 for a run
    changed: Mapping[str, Value]  # settings that replace those of the plan or run
    display: Display
    command: str  # repeats the audit
    force: bool = False  # replace an earlier audit in the folder
    pictures: bool = True  # leave original images, and what was rebuilt of them, in the folder and its report

    def check_folder(self) -> None:
        """Raise a UserError for a folder with something else than an audit that may be replaced."""
        is_audit = (self.folder / "audit.json").is_file()
        if self.folder.exists() and not is_empty(self.folder) and not (is_audit and self.force):
            replaced = "; give --force to replace the audit in it, or another --out"
            remedy = replaced if is_audit else " and is no audit; choose another --out"
            raise UserError(f"{self.folder} exists already{remedy}")


def audit_plan(path: Path, options: Options) -> list[Finding]:
    """Attack every federation of a plan, and write the findings.

    Raises:
        UserError: the plan, its data or the folder are not usable.
    """
    options.check_folder()
    cases, shadows = read_plan(path, options.changed)
    audit = Audit(options, options.shadows or shadows)
    audit.announce(len(cases))
    for each, group in itertools.groupby(cases, lambda case: case.each):
        alike = list(group)
        with options.display.bar(f"Features, {each} a class", "images") as progress:
            pool = drawn_pool(alike[0].config, each, progress)
            population = others(alike[0].config, pool.classes, progress)
        for case in alike:
            audit.attack(case, pool, population)
    return audit.write(cases, {"plan": path.stem})


def audit_run(run: Path, options: Options) -> list[Finding]:
    """Attack a finished run: its first round, which sites repeat in memory, and its last head.

    Raises:
        UserError: the run is missing or not finished, or cannot be repeated in memory.
    """
    if any(run.glob("runs/*/seed-*/")) and not (run / "config.toml").is_file():
        raise UserError(f"{run}: it is a benchmark: audit one of its runs, {run}/runs/SETTING/seed-S/METHOD")
    config, changed = settings_of(run), options.changed
    if not (run / "summary.json").is_file():
        raise UserError(f"{run}: not finished; go on with it first: fedtransfer simulate --resume {run}")
    options.check_folder()
    summary, (head, _, _) = read_summary(run), load_head(run / "last-head.npz")
    if config.closed_form and not config.private:  # validation images chose these, and an audit has none
        chosen = summary["one_shot"]
        head = tuple(array / np.float32(chosen["factor"]) for array in head)
        changed = {"ridge": chosen["ridge"], **changed} if "ridge" in config.method.options else changed
    config = config.model_copy(update={**changed, "resume": False})
    refuse_unrepeatable(config)
    audit = Audit(options, options.shadows or SHADOWS)
    audit.announce(1)
    with options.display.bar("Features", "images") as progress:
        pool, population = pool_of_run(run, config, tuple(summary["classes"]), progress)
    case = AuditCase(config.strategy, "", 0, config)
    audit.attack(case, pool, population, head)
    measured = summary.get("measured_outside_the_federation") or summary
    about = {"name": run.resolve().name, "rounds": summary["rounds"], "accuracy": measured["accuracy"]}
    return audit.write([case], {"run": about})


class Audit:
    """Findings as they come, and the folder in which they are written."""

    def __init__(self, options: Options, shadows: int) -> None:
        self._options, self._shadows = options, shadows
        self._sites: set[int] = set()
        self._findings: list[Finding] = []
        self._curves: list[CurvePoint] = []
        self._originals: dict[int, reconstruction.Originals] = {}
        self._pictures: tuple[reconstruction.Originals, dict[str, Pictures], int] | None = None
        self._inferred: dict[tuple[str, int, bool], tuple[list[Finding], list[CurvePoint]]] = {}
        self._bounds: dict[tuple[str, bool], OneRun] = {}
        self._began = time.monotonic()

    def announce(self, federations: int) -> None:
        """Say how much there is to do, and where the findings will be."""
        self._options.display.print(
            f"{counted(federations, 'federation')} to attack, with {self._shadows} shadow federations each;"
            f" findings are written to {self._options.folder} at the end"
            " (a stopped audit starts again from the beginning)"
        )

    def attack(self, case: AuditCase, pool: ImagePool, population: Split, head: Arrays | None = None) -> None:
        """Make all attacks on one federation; membership inference is on ``head`` if given."""
        config, members, classes = case.config, pool.members, len(pool.classes)
        rounds: list[
            RoundView
        ] = []  # those in which a site is seen for the first time: attacks look at no others
        with self._options.display.bar(f"{case}", "rounds") as progress:
            count, sites = 0, set[str]()

            def observe(view: RoundView) -> None:
                nonlocal count
                count += 1
                progress(count, max(count, config.training_rounds))
                if not sites.issuperset(view.cohort):
                    rounds.append(view)
                    sites.update(view.cohort)

            last = federate(config, members, classes, observe=observe)
        kernel, bias = head or last
        accuracy = float(np.mean((population[0] @ kernel + bias).argmax(1) == population[1]))
        whose, note = "test images that no site has", "of the last head, on images that no site has"
        if head:
            whose = "the sites' own test images, which an outsider does not have"
            note = "of the head of the run's last round, on the sites' test images"
        count = len(population[1])
        guess = int(np.bincount(population[1]).max()) / count
        self._sites.add(len(members))
        self._findings.append(case.finding("utility", "accuracy", Estimate(accuracy, n=count), note, guess))
        self._findings += [
            case.finding(*m) for m in measure_leaks(config, members, classes, rounds, population, whose)
        ]
        self._rebuild(case, pool, rounds)
        self._infer(case, pool, population, head)
        self._bound(case)

    def write(self, cases: Sequence[AuditCase], about: dict[str, Any]) -> list[Finding]:
        """Write the folder, with what the audit is about; return all findings."""
        folder = self._options.folder
        config, backbone = cases[0].config, configured_backbone(cases[0].config)
        folder.mkdir(parents=True, exist_ok=True)
        write_tables(folder, self._findings, self._curves)
        (folder / "reconstructions.npz").unlink(missing_ok=True)  # of an audit that this one replaces
        if self._pictures and self._options.pictures:
            reconstruction.write_examples(folder / "reconstructions.npz", *self._pictures)
        facts = {
            "command": self._options.command,
            "data": config.data,
            "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
            "resolution": backbone.resolution,
            "shadows": self._shadows,
            "seconds": round(time.monotonic() - self._began, 1),
            "sites": sorted(self._sites),
            "promises": _promises(cases),
            **about,
            **_settings(cases),
        }
        write_whole(folder / "audit.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        write_report([folder], folder / "report.html", self._options.command)
        return self._findings

    def _rebuild(self, case: AuditCase, pool: ImagePool, rounds: list[RoundView]) -> None:
        """Rebuild images that are alone of their class at their site, if a decoder fits them."""
        labels = {site: y for site, (_, y) in pool.members.items()}
        try:
            decoder = bundled_decoder()
            decoder.check(case.config, configured_backbone(case.config))
            if case.each not in self._originals:  # they belong to the pool, and not to the protection
                pictures = pool.pictures(SIDE)
                self._originals[case.each] = reconstruction.Originals.of(
                    labels, pictures, pool.classes, decoder
                )
        except UserError as error:
            self._findings.append(case.finding("images", "psnr", Estimate(math.nan), str(error)))
            return
        originals = self._originals[case.each]
        read = recovered(case.config, {site: len(y) for site, y in labels.items()}, rounds)
        images = reconstruction.rebuilt(originals, read, decoder)
        self._findings += [case.finding(*measure) for measure in reconstruction.measures(originals, images)]
        self._pictures = self._pictures or (originals, {}, case.each)
        if self._pictures[0].targets == originals.targets:  # those of the first pool
            self._pictures[1][f"{case.strategy}, {case.protection or 'as it ran'}"] = images

    def _infer(self, case: AuditCase, pool: ImagePool, population: Split, head: Arrays | None) -> None:
        """Infer members. Masks only round a head: what is found without them holds with them."""
        key = case.strategy, case.each, case.config.private
        if earlier := self._inferred.get(key):
            note = "the head is that without masks, except for rounding"
            findings = [replace(finding, protection=case.protection, note=note) for finding in earlier[0]]
            curves = [point._replace(protection=case.protection) for point in earlier[1]]
        else:
            with self._options.display.bar(f"{case}", "federations") as progress:
                findings, curves = infer_members(case, pool, population, self._shadows, progress, head)
            self._inferred[key] = findings, curves
        self._findings += findings
        self._curves += curves

    def _bound(self, case: AuditCase) -> None:
        """Bound ε from below by canaries, once for each mechanism, whatever images it works on."""
        key = case.strategy, case.config.private
        if key not in self._bounds:
            try:
                self._bounds[key] = one_run_bound(case.config, case.config.seed)
            except UserError as error:
                self._findings.append(
                    case.finding("one run", "epsilon_lower_bound", Estimate(math.nan), str(error))
                )
                return
        run = self._bounds[key]
        made_up = "made-up features in a federation of their own, each in or out by a coin"
        note = f"{run.canaries} canaries, {made_up}"
        for measure, value, by_chance in (
            ("right_guesses", run.right / run.guesses, 0.5),
            ("epsilon_lower_bound", run.bound, math.nan),
            ("most_provable", run.most, math.nan),
        ):
            self._findings.append(
                case.finding("one run", measure, Estimate(value, n=run.guesses), note, by_chance)
            )
        self._findings.append(case.finding("one run", "claimed", Estimate(case.claim)))


def _promises(cases: Sequence[AuditCase]) -> list[dict[str, Any]]:
    """Return each promise of differential privacy among the federations, once."""
    promises = {(p.unit, p.neighbours, p.delta) for case in cases if (p := guarantee(case.config))}
    return [dict(zip(("unit", "neighbours", "delta"), promise, strict=True)) for promise in sorted(promises)]


def _settings(cases: Sequence[AuditCase]) -> dict[str, Any]:
    """Return settings that all federations share, and others by strategy and protection."""
    flat = {f"{case.strategy}, {case.protection}": case.config.to_flat() for case in cases}
    first, *_ = flat.values()
    shared = [
        name for name, value in first.items() if all(settings[name] == value for settings in flat.values())
    ]
    differing = [
        {"federation": federation, **{name: settings[name] for name in first if name not in shared}}
        for federation, settings in flat.items()
    ]
    return {
        "config": {name: first[name] for name in shared},
        "federations": differing if len(flat) > 1 else [],
    }
