"""The section about adapted heads: personal heads of the sites, and the head at sites that took no part."""

from collections.abc import Mapping
from typing import Any

from fedtransfer.common.wire.personal import KINDS
from fedtransfer.simulations.report.blocks import Section, Table, percent
from fedtransfer.simulations.report.reading import Run
from fedtransfer.simulations.report.sentences import sentence


def sections(run: Run) -> list[Section]:
    """Return a section if the run adapted its head anywhere."""
    tables = []
    if personal := run.summary.get("personal"):
        tables.append(_personal(personal))
    if unseen := run.summary.get("unseen_sites"):
        tables.append(_unseen(unseen))
    return [Section("adaptation", "Heads adapted to a site", tables=tuple(tables))] if tables else []


def _personal(heads: Mapping[str, Any]) -> Table:
    columns = ("mean", "worst", "pooled", "worse_than_global", "worse_than_local")
    rows = tuple((kind.replace("_", "-"), *(percent(heads[kind].get(key)) for key in columns)) for kind in KINDS)
    names = (
        "head",
        "mean of sites",
        "worst site",
        "all images",
        "sites worse off than with the global head",
        "than alone",
    )
    note = sentence("run", "personal_heads", heads["sites"], heads["share"])
    return Table("Personal heads on each site's own test images", names, rows, note)


def _unseen(heads: Mapping[str, Any]) -> Table:
    rows = [("none", percent(heads["global"]), "", "")]
    rows += [
        (images, percent(scores["accuracy"]), percent(scores["from_scratch"]), percent(scores["got_worse"]))
        for images, scores in heads["adapted"].items()
    ]
    columns = ("images a class to adapt with", "federation's head, adapted", "from scratch", "sites that got worse")
    note = sentence("run", "unseen_sites", heads["sites"], heads["epochs"])
    return Table("Sites that took no part", columns, tuple(rows), note)
