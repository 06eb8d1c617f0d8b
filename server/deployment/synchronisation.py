"""SuperLink's sites follow the key files in ``sites/``."""

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import write_whole
from fedtransfer.common.support.keys import line_of_pem
from fedtransfer.server.deployment.coordinator import Coordinator
from fedtransfer.server.deployment.enrolment import read_site
from fedtransfer.server.deployment.superlink import SuperLink


def synchronise(coordinator: Coordinator, superlink: SuperLink) -> None:
    """Register the sites of the key files with SuperLink, and unregister all others.

    A damaged key file is written again if SuperLink knows its site.

    Raises:
        UserError: a key file was damaged. Its site stays as it was, all others are synchronised.
    """
    paths = {path.stem: path for path in coordinator.key_files}
    nodes, damaged = {node.name: node for node in superlink.nodes()}, []
    for name in nodes.keys() - paths.keys():
        superlink.unregister(nodes[name].node_id)
    for name, path in paths.items():
        try:
            site = read_site(path, name)
        except UserError as error:
            if not path.exists():  # revoked since the files were listed
                if name in nodes:
                    superlink.unregister(nodes[name].node_id)
                continue
            if name in nodes:
                write_whole(path, f"{line_of_pem(nodes[name].public_key)} {name}\n")
                damaged.append(f"{error}. It was written again from SuperLink's database")
            else:
                damaged.append(str(error))
            continue
        if name in nodes and nodes[name].public_key != site.pem:
            superlink.unregister(nodes.pop(name).node_id)
        if name not in nodes:
            superlink.register(site.pem, name)
    if damaged:
        raise UserError("\n".join(damaged))
