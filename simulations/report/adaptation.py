"""The section about heads that were adapted: personal heads of the sites, and the head at sites that took no part."""

from collections.abc import Mapping
from typing import Any

from fedtransfer.common.support.text import counted
from fedtransfer.common.wire.personal import KINDS
from fedtransfer.simulations.report.blocks import NONE, Section, Table, percent
from fedtransfer.simulations.report.reading import Run


def sections(run: Run) -> list[Section]:
    """Return a section if the run adapted its head anywhere."""
    tables = []
    if personal := run.summary.get("personal"):
        tables.append(_personal(personal))
    if unseen := run.summary.get("unseen_sites"):
        tables.append(_unseen(unseen))
    return [Section("adaptation", "Heads adapted to a site", tables=tuple(tables))] if tables else []


def _personal(told: Mapping[str, Any]) -> Table:
    columns = ("mean", "worst", "pooled", "worse_than_global", "worse_than_local")
    rows = tuple((kind.replace("_", "-"), *(percent(told[kind].get(key)) for key in columns)) for kind in KINDS)
    share = NONE if told["share"] is None else f"{told['share']:.2f}"
    note = (
        f"Over {counted(told['sites'], 'site')}. A mixed head is {share} of the global one on average, the rest local."
    )
    names = (
        "head",
        "mean of sites",
        "worst site",
        "all images",
        "sites worse off than with the global head",
        "than alone",
    )
    return Table("Personal heads on each site's own test images", names, rows, note)


def _unseen(told: Mapping[str, Any]) -> Table:
    rows = [("none", percent(told["global"]), "", "")]
    rows += [
        (images, percent(mine["accuracy"]), percent(mine["from_scratch"]), percent(mine["got_worse"]))
        for images, mine in told["adapted"].items()
    ]
    sites, epochs = counted(told["sites"], "site"), counted(told["epochs"], "epoch")
    note = f"Accuracy on own test images, mean of {sites} that took no part; {epochs} of adaptation."
    columns = ("images a class to adapt with", "federation's head, adapted", "from scratch", "sites that got worse")
    return Table("Sites that took no part", columns, tuple(rows), note)
