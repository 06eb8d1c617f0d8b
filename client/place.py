"""Where a node finds its images and keeps its state.

A node of a deployment is told by its node config (``data``, ``state``); a node of Flower's own simulation has a number
only, and works for the prepared site of that number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.config import RunConfig, Value
from common.errors import SiteError


@dataclass(frozen=True)
class Place:
    """A node's place.

    Attributes:
        data: the site's images: folder, manifest or archive.
        state: a folder of the site's own, where the result is kept.
        partition: name of the prepared site, "" for a node that has a name of its own.
    """

    data: str
    state: Path
    partition: str = ""


def place_of(node: Mapping[str, Value], config: RunConfig) -> Place:
    """Find a node's place from its node config and the run config.

    Raises:
        SiteError: neither says where.
    """
    if "data" in node:
        return Place(str(node["data"]), Path(str(node["state"])))
    if "partition-id" not in node or not config.prepared:
        raise SiteError(
            "no-data",
            "the node config names no data, and the run config no prepared folder; start the node with data and "
            "state, or give prepared=DIR as `fedtransfer simulate --prepare DIR` says",
        )
    names, number = _prepared_sites(config.prepared), int(node["partition-id"])
    if len(names) != int(node["num-partitions"]):
        raise SiteError(
            "other-size",
            f"{len(names)} sites are prepared, but the federation has {node['num-partitions']} nodes; "
            f"run it with num-supernodes={len(names)}",
        )
    folder = Path(config.prepared) / "sites" / names[number]
    return Place(str(folder / "images.csv"), folder, names[number])


@lru_cache(maxsize=4)
def _prepared_sites(prepared: str) -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in Path(prepared).glob("sites/*/images.csv")))
