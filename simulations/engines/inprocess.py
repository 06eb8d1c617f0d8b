"""The in-process engine: a Flower ``Grid`` for the same apps, without Ray or network.

Each side gets a copy of a message, equal to what Flower's wire would bring it: no side can change
what the other holds. A few threads work for the sites; replies come back in the order of the
requests, so the number of threads does not change a result.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import count
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.app.message import make_message
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedtransfer.common.config.config import Value


def handed_over(message: Message) -> Message:
    """Return the message as its receiver gets it: equal, and of containers of its own.

    What the project sends is copied: bytes, plain text and small whole numbers, which cannot be
    changed. All else goes through Flower's wire format, which refuses what no wire carries.
    """
    if not (message.has_content() and all(map(_is_plain, message.content, message.content.values()))):
        return message_from_proto(message_to_proto(message))
    content = RecordDict({name: record.copy() for name, record in message.content.items()})
    return make_message(copy(message.metadata), content)


def _is_plain(name: str, record: object) -> bool:
    return type(record) is ConfigRecord and all(
        (type(value) is bytes)
        or (type(value) is str and value.isascii())
        or (type(value) is int and 0 <= value < 2**63)
        for value in (name, *record, *record.values())
    )


Alter = Callable[[Mapping[str, Message]], Mapping[str, Message]]  # site → reply, and the same altered


class SimulatedSite(NamedTuple):
    """A site's name and its node config, as ``flower-supernode --node-config`` would give it."""

    name: str
    node_config: Mapping[str, Value]


class Workers:
    """Daemon threads that work for sites: a site that hangs does not keep the program from ending.

    (Python waits for the threads of ``concurrent.futures`` when it ends.)
    """

    def __init__(self, threads: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[Message], Callable[[], Message]] | None] = SimpleQueue()
        self._threads = threads
        for number in range(threads):
            Thread(target=self._run, name=f"site-{number}", daemon=True).start()

    def submit(self, work: Callable[..., Message], *arguments: Any) -> Future[Message]:
        """Queue a piece of work."""
        future: Future[Message] = Future()
        self._jobs.put((future, partial(work, *arguments)))
        return future

    def close(self) -> None:
        """End each thread after its current job."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            del job, future, work  # an idle thread must not keep a reply alive


@dataclass
class InProcessGrid(Grid):
    """Carries messages between one ServerApp and the sites' ClientApp within this process.

    Flower 1.41 keeps the identity of a task in a process-global, so one grid is in use at a time.
    """

    group = 64  # sites that get messages at a time: more would only wait, each with a head in memory

    client_app: ClientApp
    sites: Sequence[SimulatedSite]
    run_config: Mapping[str, Value]
    threads: int
    alter: Alter | None = None  # what becomes of the replies to one exchange on their way

    def __post_init__(self) -> None:
        self._states, self._pending = dict[int, RecordDict](), dict[str, Future[Message]]()
        self._run = Run.create_empty(run_id=int.from_bytes(os.urandom(7)))
        self._numbers = count(1)  # of messages; random ids would take longer than the copies
        task = TaskIdentity
        task.task_id, task.run_id, task.node_id = 1, self._run.run_id, SUPERLINK_NODE_ID
        self._work: Workers = Workers(self.threads)

    def close(self) -> None:
        """Release the threads; one whose site hangs stays behind."""
        self._work.close()

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str,
        ttl: float | None = None,
    ) -> Message:  # fmt: skip
        """Create a message to a site."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all sites: 1 … K in the order given."""
        return range(1, len(self.sites) + 1)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return all sites with their names, as a SuperLink does for enrolled ones."""
        return [NodeInfo(node_id=node, name=site.name) for node, site in enumerate(self.sites, 1)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to their sites; return ids to pull the replies with."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = identity = self._new_id()
            self._pending[identity] = self._work.submit(self._deliver, handed_over(message), message)
            ids.append(identity)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that have arrived, in the order of the ids."""
        pending = self._pending
        ready = [identity for identity in message_ids if identity in pending and pending[identity].done()]
        return [pending.pop(identity).result() for identity in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages; return the replies within ``timeout`` seconds, in the same order."""
        ids = list(self.push_messages(messages))
        wait([self._pending[identity] for identity in ids], timeout)
        replies = list(self.pull_messages(ids))
        late = [future for identity in ids if (future := self._pending.pop(identity, None))]
        if [future for future in late if not future.cancel()]:  # it runs: give up its reply and its thread
            self._work.close()
            self._work = Workers(self.threads)
        if self.alter is None:
            return replies
        named = {self.sites[reply.metadata.src_node_id - 1].name: reply for reply in replies}
        return [*self.alter(named).values()]

    def _deliver(self, message: Message, request: Message) -> Message:
        """Run the ClientApp on a message; an exception becomes an error reply, as in Flower."""
        try:
            node = request.metadata.dst_node_id
            context = self.context(node, self.sites[node - 1].node_config)
            context.state = self._states.get(node, context.state)
            reply = self.client_app(message, context)
            if context.state:  # so that many sites without a state cost nothing
                self._states[node] = context.state
            reply.metadata.__dict__["_message_id"] = self._new_id()
            return handed_over(reply)
        except BaseException as error:  # sys.exit as well: it would end a site's process, not the federation
            raised = isinstance(error, Exception)
            code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION if raised else ErrorCode.CLIENT_APP_CRASHED
            return Message(Error(code, f"{type(error).__name__}: {error}"), reply_to=request)

    def _new_id(self) -> str:
        return f"{next(self._numbers):032x}"

    def context(self, node: int, node_config: Mapping[str, Value]) -> Context:
        """Return a new context of a node in this run."""
        return Context(self._run.run_id, node, dict(node_config), RecordDict(), dict(self.run_config))


def run_in_process(
    server_app: ServerApp, client_app: ClientApp, sites: Sequence[SimulatedSite],
    run_config: Mapping[str, Value], threads: int, alter: Alter | None = None,
) -> None:  # fmt: skip
    """Run a federation to its end in this process; exceptions of the server's app are raised here.

    Both apps get the run config as from ``flwr run --run-config``; ``threads`` sites work at once.
    The server gets the replies to an exchange as ``alter`` makes them, in the same order.
    """
    grid = InProcessGrid(client_app, sites, run_config, threads, alter)
    try:
        server_app(grid, grid.context(SUPERLINK_NODE_ID, {}))
    finally:
        grid.close()
