"""The node of a process, found from its node config.

The node config of a deployment names the site's folder. A node of Flower's simulation has only a
number, and works on the prepared site of that number.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fedtransfer.client.deployment.node import deployed_node
from fedtransfer.client.node import Node
from fedtransfer.common.config.config import RunConfig, Value
from fedtransfer.common.errors import SiteError


def find_node(node_config: Mapping[str, Value], config: RunConfig) -> Node:
    """Find a node from its node config and the run config.

    Raises:
        SiteError: neither names a site.
    """
    if "site" in node_config:
        return deployed_node(str(node_config["site"]))
    if "data" in node_config:
        return Node(str(node_config["data"]), Path(str(node_config["state"])))
    if "partition-id" not in node_config or not config.prepared:
        raise SiteError(
            "no-data",
            "the node config names no site, and the run config no prepared folder; start the node with "
            "fedtransfer client start, or give prepared=DIR as `fedtransfer simulate --prepare DIR` says",
        )
    names, number = _prepared_sites(config.prepared), int(node_config["partition-id"])
    if len(names) != int(node_config["num-partitions"]):
        raise SiteError(
            "other-size",
            f"{len(names)} sites are prepared, but the federation has {node_config['num-partitions']} nodes; "
            f"run it with num-supernodes={len(names)}",
        )
    folder = Path(config.prepared) / "sites" / names[number]
    return Node(str(folder / "images.csv"), folder, names[number])


@lru_cache(maxsize=4)
def _prepared_sites(prepared: str) -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in Path(prepared).glob("sites/*/images.csv")))
