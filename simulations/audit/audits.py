"""Whole audits: of every federation of a plan, or of a finished run; each ends with a folder of findings and a report.

DIR/table.csv             a row a number that an attack came to
DIR/summary.csv           a row a federation, with the main ones
DIR/roc.csv               curves of membership inference
DIR/reconstructions.npz   images of classes that have one image at a site, and what was rebuilt of them
DIR/audit.json            what was audited, how, and in what time
DIR/report.html
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedtransfer.common.backbone.backbone import configured_backbone
from fedtransfer.common.config.config import Value
from fedtransfer.common.errors import UserError
from fedtransfer.common.head.head import Arrays, load_head
from fedtransfer.common.privacy.guarantee import guarantee
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.text import counted
from fedtransfer.server.run_folder.folder import read_summary, settings_of
from fedtransfer.simulations.audit.decoder import SIDE, Pictures, bundled_decoder
from fedtransfer.simulations.audit.federation import Seen, Split, federate, refuse_unrepeatable
from fedtransfer.simulations.audit.inference import infer_members
from fedtransfer.simulations.audit.mechanisms import OneRun, one_run_bound
from fedtransfer.simulations.audit.plan import Audited, read_plan
from fedtransfer.simulations.audit.pool import Pool, drawn_pool, others, pool_of_run, without_empty
from fedtransfer.simulations.audit.reconstruction import Originals, measures, rebuilt, write_examples
from fedtransfer.simulations.audit.server_view import leaks, recovered
from fedtransfer.simulations.audit.shown import summary, write_summary_table
from fedtransfer.simulations.audit.tables import Curve, Finding, write_curves, write_findings
from fedtransfer.simulations.display import Display
from fedtransfer.simulations.report import write_report

SHADOWS = 128  # of a run, where nothing else is asked for


def audit_plan(
    path: Path, folder: Path, shadows: int, changed: dict[str, Value], display: Display, command: str,
    *, force: bool, pictures: bool = True,
) -> list[Finding]:  # fmt: skip
    """Attack every federation of a plan, and write what came of it.

    Args:
        path: the plan.
        folder: for the findings.
        shadows: of each federation; 0: as many as the plan says.
        changed: settings that replace the plan's.
        display: shows progress.
        command: that repeats the audit.
        force: replace an earlier audit in the folder.
        pictures: leave original images, and what was rebuilt of them, in the folder and its report.

    Raises:
        UserError: the plan, its data or the folder are not usable.
    """
    _check(folder, force=force)
    plan = read_plan(path, changed)
    audit = _Audit(folder, display, command, shadows or plan.shadows, pictures=pictures)
    audit.announce(len(plan.audited))
    for each in dict.fromkeys(audited.each for audited in plan.audited):
        mine = [audited for audited in plan.audited if audited.each == each]
        with display.bar(f"Features, {each} a class", "images") as progress:
            pool = without_empty(drawn_pool(mine[0].config, each, progress))
            population = others(mine[0].config, pool.classes, progress)
        for audited in mine:
            audit.attack(audited, pool, population)
    return audit.finished(plan.audited, {"plan": path.stem})


def audit_run(
    run: Path, folder: Path, shadows: int, changed: dict[str, Value], display: Display, command: str,
    *, force: bool, pictures: bool = True,
) -> list[Finding]:  # fmt: skip
    """Attack a finished run: its first round, which its sites make again in memory, and the head of its last round.

    Raises:
        UserError: the run is not there, not finished, or one that cannot be repeated in memory.
    """
    if any(run.glob("runs/*/seed-*/")) and not (run / "config.toml").is_file():
        raise UserError(f"{run}: it is a benchmark: audit one of its runs, {run}/runs/SETTING/seed-S/METHOD")
    config = settings_of(run)
    if not (run / "summary.json").is_file():
        raise UserError(f"{run}: not finished; go on with it first: fedtransfer simulate --resume {run}")
    _check(folder, force=force)
    summary, (head, _, _) = read_summary(run), load_head(run / "last-head.npz")
    if config.closed_form and not config.private:  # validation images chose these, and an audit has none
        chosen = summary["one_shot"]
        head = tuple(array / np.float32(chosen["factor"]) for array in head)
        changed = {"ridge": chosen["ridge"], **changed} if "ridge" in config.method.options else changed
    config = config.model_copy(update={**changed, "resume": False})
    refuse_unrepeatable(config)
    audit = _Audit(folder, display, command, shadows or SHADOWS, pictures=pictures)
    audit.announce(1)
    with display.bar("Features", "images") as progress:
        pool, population = pool_of_run(run, config, tuple(summary["classes"]), progress)
    audited = Audited(config.strategy, "", 0, config)
    audit.attack(audited, without_empty(pool), population, head)
    measured = summary.get("measured_outside_the_federation") or summary
    about = {"name": run.resolve().name, "rounds": summary["rounds"], "accuracy": measured["accuracy"]}
    return audit.finished([audited], {"run": about})


class _Audit:
    """Findings as they come, and the folder that they end in."""

    def __init__(self, folder: Path, display: Display, command: str, shadows: int, *, pictures: bool = True) -> None:
        self._folder, self._display, self._command, self._shadows = folder, display, command, shadows
        self._keep_pictures = pictures
        self._sites: set[int] = set()
        self._findings: list[Finding] = []
        self._curves: list[Curve] = []
        self._originals: dict[int, Originals] = {}
        self._pictures: tuple[Originals, dict[str, Pictures], int] | None = None
        self._inferred: dict[tuple[str, int, bool], tuple[list[Finding], list[Curve]]] = {}
        self._bounds: dict[tuple[str, bool], OneRun] = {}
        self._began = time.monotonic()

    def announce(self, federations: int) -> None:
        """Say how much there is to do, and where it ends."""
        self._display.print(
            f"{counted(federations, 'federation')} to attack, with {self._shadows} shadow federations each; findings are in "
            f"{self._folder} once all is done (stopped, an audit begins anew)"
        )

    def attack(self, audited: Audited, pool: Pool, population: Split, head: Arrays | None = None) -> None:
        """Make all attacks on one federation; where ``head`` is given, membership inference is on that one."""
        config, members, classes = audited.config, pool.members, len(pool.classes)
        rounds: list[Seen] = []  # those in which a site was seen for the first time, which is all that attacks look at
        with self._display.bar(f"{audited}", "rounds") as progress:
            count, known = 0, set[str]()

            def seen(one: Seen) -> None:
                nonlocal count
                count += 1
                progress(count, max(count, config.training_rounds))
                if not known.issuperset(one.cohort):
                    rounds.append(one)
                    known.update(one.cohort)

            made = federate(config, members, classes, observe=seen)
        kernel, bias = head or made
        accuracy = float(np.mean((population[0] @ kernel + bias).argmax(1) == population[1]))
        whose, note = "test images that no site has", "of the head that comes out, on images that no site has"
        if head:
            whose = "the sites' own test images, which an outsider does not have"
            note = "of the head of the run's last round, on the sites' test images"
        majority, count = int(np.bincount(population[1]).max()), len(population[1])
        self._sites.add(len(members))
        self._findings.append(
            audited.found("utility", "accuracy", accuracy, by_chance=majority / count, count=count, note=note)
        )
        self._findings += [
            audited.measured(measure) for measure in leaks(config, members, classes, rounds, population, whose)
        ]
        self._rebuild(audited, pool, rounds)
        self._infer(audited, pool, population, head)
        self._bound(audited)

    def finished(self, audited: Sequence[Audited], about: dict[str, Any]) -> list[Finding]:
        """Write the folder, with what the audit is about; return all findings."""
        config, backbone = audited[0].config, configured_backbone(audited[0].config)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_findings(self._folder / "table.csv", self._findings)
        write_curves(self._folder / "roc.csv", self._curves)
        write_summary_table(self._folder / "summary.csv", summary(self._findings))
        (self._folder / "reconstructions.npz").unlink(missing_ok=True)  # of an audit that this one replaces
        if self._pictures and self._keep_pictures:
            write_examples(self._folder / "reconstructions.npz", *self._pictures)
        facts = {
            "command": self._command,
            "data": config.data,
            "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
            "resolution": backbone.resolution,
            "shadows": self._shadows,
            "seconds": round(time.monotonic() - self._began, 1),
            "sites": sorted(self._sites),
            "promises": _promises(audited),
            **about,
            **_settings(audited),
        }
        write_whole(self._folder / "audit.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        write_report([self._folder], self._folder / "report.html", self._command)
        return self._findings

    def _rebuild(self, audited: Audited, pool: Pool, rounds: list[Seen]) -> None:
        """Rebuild the images that are alone of their class at their site, where there is a decoder for such features."""
        labels = {site: y for site, (_, y) in pool.members.items()}
        try:
            decoder = bundled_decoder()
            decoder.check(audited.config, configured_backbone(audited.config))
            if audited.each not in self._originals:  # they are the pool's, whatever is done with it
                self._originals[audited.each] = Originals.of(labels, pool.pictures(SIDE), pool.classes, decoder)
        except UserError as error:
            self._findings.append(audited.found("images", "psnr", math.nan, note=str(error)))
            return
        originals = self._originals[audited.each]
        read = recovered(audited.config, {site: len(y) for site, y in labels.items()}, rounds)
        images = rebuilt(originals, read, decoder)
        self._findings += [audited.measured(measure) for measure in measures(originals, images)]
        if not self._pictures or self._pictures[0].targets == originals.targets:  # those of the pool that came first
            self._pictures = self._pictures or (originals, {}, audited.each)
            self._pictures[1][f"{audited.strategy}, {audited.protection or 'as it ran'}"] = images

    def _infer(self, audited: Audited, pool: Pool, population: Split, head: Arrays | None) -> None:
        """Infer members. Masks leave a head as it is but for rounding, so what is known without them holds with them."""
        key = audited.strategy, audited.each, audited.config.private
        if known := self._inferred.get(key):
            note = "the head is that without masks, but for rounding"
            findings = [replace(found, protection=audited.protection, note=note) for found in known[0]]
            curves = [replace(curve, protection=audited.protection) for curve in known[1]]
        else:
            with self._display.bar(f"{audited}", "federations") as progress:
                findings, curves = infer_members(audited, pool, population, self._shadows, progress, head)
            self._inferred[key] = findings, curves
        self._findings += findings
        self._curves += curves

    def _bound(self, audited: Audited) -> None:
        """Bound ε from below by canaries; it is the mechanism's, whatever it works on, and so is found once."""
        key = audited.strategy, audited.config.private
        if key not in self._bounds:
            try:
                self._bounds[key] = one_run_bound(audited.config, audited.config.seed)
            except UserError as error:
                self._findings.append(audited.found("one run", "epsilon_lower_bound", math.nan, note=str(error)))
                return
        audit = self._bounds[key]
        note = f"{audit.canaries} canaries, made-up features in a federation of their own, each in or out by a coin"
        for measure, value, by_chance in (
            ("right_guesses", audit.right / audit.guesses, 0.5),
            ("epsilon_lower_bound", audit.bound, math.nan),
            ("most_provable", audit.most, math.nan),
        ):
            found = audited.found("one run", measure, value, by_chance=by_chance, count=audit.guesses, note=note)
            self._findings.append(found)
        self._findings.append(audited.found("one run", "claimed", audited.claim))


def _promises(audited: Sequence[Audited]) -> list[dict[str, Any]]:
    """Return what each promise of differential privacy among the federations is about, once."""
    made = [promised for each in audited if (promised := guarantee(each.config))]
    told = {(promised.unit, promised.neighbours, promised.delta) for promised in made}
    return [{"unit": unit, "neighbours": neighbours, "delta": delta} for unit, neighbours, delta in sorted(told)]


def _settings(audited: Sequence[Audited]) -> dict[str, Any]:
    """Return the settings that all federations share, and of each strategy and protection those that differ."""
    flat = {(each.strategy, each.protection): each.config.to_flat() for each in audited}
    first = next(iter(flat.values()))
    shared = {name for name, value in first.items() if all(mine[name] == value for mine in flat.values())}
    differing = [
        {"federation": f"{strategy}, {protection}", **{name: mine[name] for name in first if name not in shared}}
        for (strategy, protection), mine in flat.items()
    ]
    return {
        "config": {name: first[name] for name in first if name in shared},
        "federations": differing if len(flat) > 1 else [],
    }


def _check(folder: Path, *, force: bool) -> None:
    if folder.exists() and any(folder.iterdir()) and not ((folder / "audit.json").is_file() and force):
        raise UserError(
            f"{folder} exists already" + ("; give --force to replace the audit in it, or another --out"
            if (folder / "audit.json").is_file() else " and is no audit; choose another --out")
        )  # fmt: skip
