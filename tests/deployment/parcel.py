"""A message as it travels to SuperLink, to be changed in any way."""

import hashlib
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)


@dataclass
class Parcel:
    """A message as it travels: envelope, tree of object ids, and the objects by id."""

    envelope: Any
    tree: Any
    objects: dict[str, bytes]

    @classmethod
    def of(cls, message: Message) -> "Parcel":
        """Wrap a message as SuperNode does; change what you like before it is pushed."""
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            contents = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
            tree = get_object_tree(message)
            return cls(message_to_proto(remove_content_from_message(message)), tree, contents)

    def replace(self, parts: dict[str, bytes], tree: Any) -> "Parcel":
        """Put other objects in the same envelope, under the id of the tree's root."""
        self.envelope.metadata.message_id = tree.object_id
        self.tree, self.objects = tree, parts
        return self


def part(kind: str, children: list[str], body: bytes) -> tuple[str, bytes]:
    """Return the id and the bytes of an object of a kind: Message, ConfigRecord, ArrayChunk …"""
    content = f"{kind} {','.join(children)} {len(body)}".encode() + b"\x00" + body
    return hashlib.sha256(content).hexdigest(), content
