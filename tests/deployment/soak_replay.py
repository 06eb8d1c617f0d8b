"""The heads that follow from what a run admitted, computed in process."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context, Message

from fedtransfer.client.app import app as client_app
from fedtransfer.common.errors import SiteError
from fedtransfer.common.wire import records as wire
from fedtransfer.common.wire.protocol import EVALUATE, TRAIN, Task
from fedtransfer.server.app import make_app
from fedtransfer.server.callbacks.tables import read_history
from fedtransfer.server.run_folder.folder import settings_of
from fedtransfer.server.sites import cohort
from fedtransfer.simulations.engines.inprocess import SimulatedSite, run_in_process


def admitted_sites(folder: Path) -> dict[int, set[str]]:
    """Return from a run's tables the sites whose answers counted, by round."""
    counted = {(row["round"], row["attempt"]) for row in read_history(folder) if row["status"] == "ok"}
    sites: dict[int, set[str]] = defaultdict(set)
    with (folder / "sites.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["round"], row["attempt"]) in counted and row["status"] == "ok":
                sites[int(row["round"])].add(row["site"])
    return sites


def replay(folder: Path, data: Mapping[str, Path], out: Path) -> None:
    """Run again in this process, with the answers only that a run admitted.

    Args:
        folder: the run folder.
        data: enrolled name of a site → its features file, for all that were asked.
        out: the run folder of the replay.
    """
    admitted = admitted_sites(folder)

    def answer(message: Message, context: Context) -> Message:
        if message.metadata.message_type in (TRAIN, EVALUATE):
            task = wire.unpack(message.content, Task)
            if task.site not in admitted[task.round]:
                return Message(wire.pack(SiteError("left-out", "as in the run")), reply_to=message)
        return client_app(message, context)

    changes = {"out": str(out), "sites": len(data), "min_sites": 1, "log_json": "", "resume": False}
    config = settings_of(folder).model_copy(update=changes)
    sites = [
        SimulatedSite(name, {"data": str(file), "state": str(out / "sites" / name)})
        for name, file in sorted(data.items())
    ]
    failures, cohort.FAILURES = cohort.FAILURES, 10**9  # whom the run did not draw is left out above
    try:
        run_in_process(make_app(), answer, sites, config.to_flat(), 2)  # type: ignore[arg-type]
    finally:
        cohort.FAILURES = failures
