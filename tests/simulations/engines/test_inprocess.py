"""The in-process grid keeps Flower's contract: after a failure read what an upgrade changed."""

import threading
import time

import flwr
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from waiting import patient

from fedtransfer.simulations.engines.inprocess import InProcessGrid, SimulatedSite, run_in_process

SITES = [SimulatedSite(f"site-{i}", {"number": i}) for i in range(6)]


def echo_app(before=lambda number: None) -> ClientApp:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        number = int(context.node_config["number"])
        before(number)
        return Message(
            RecordDict({"r": ConfigRecord({"number": number, "key": context.run_config["key"]})}),
            reply_to=message,
        )

    return app


def messages(grid: Grid) -> list[Message]:
    return [Message(RecordDict({"q": ConfigRecord({"x": 1})}), node, "query") for node in grid.get_node_ids()]


def numbers(replies) -> list[int]:
    return [reply.content["r"]["number"] for reply in replies]


@pytest.fixture
def make_grid():
    grids = []

    def make(app: ClientApp, threads: int = 2) -> InProcessGrid:
        grids.append(InProcessGrid(app, SITES, {"key": "value"}, threads))
        return grids[-1]

    yield make
    for grid in grids:
        grid.close()


def test_pinned_flower() -> None:
    assert flwr.__version__.startswith("1.41."), (
        "the engine sets Flower's private TaskIdentity; check it before moving the pin"
    )


@pytest.mark.parametrize("threads", [1, 2, 6])
def test_replies_come_in_the_order_of_the_messages(make_grid, threads: int) -> None:
    grid = make_grid(echo_app(lambda number: time.sleep(0.02 * (5 - number))), threads)
    replies = list(grid.send_and_receive(messages(grid)))
    assert numbers(replies) == list(range(6))
    assert [reply.metadata.src_node_id for reply in replies] == list(grid.get_node_ids())
    assert all(reply.metadata.reply_to_message_id for reply in replies)


def test_sites_have_their_names(make_grid) -> None:
    assert [node.name for node in make_grid(echo_app()).get_nodes()] == [site.name for site in SITES]


def test_an_exception_is_an_error_reply(make_grid) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise RuntimeError("broken")

    replies = list((grid := make_grid(echo_app(fail))).send_and_receive(messages(grid)))
    assert [reply.has_error() for reply in replies] == [False, False, True, False, False, False]
    assert "RuntimeError: broken" in (replies[2].error.reason or "")


def test_timeouts_are_honoured_and_late_replies_dropped(make_grid) -> None:
    release = threading.Event()
    grid = make_grid(echo_app(lambda number: release.wait(60) if number == 1 else None), 6)
    began = time.monotonic()
    assert numbers(grid.send_and_receive(messages(grid), timeout=patient(0.7))) == [0, 2, 3, 4, 5]
    assert time.monotonic() - began < 30
    release.set()
    time.sleep(0.1)
    assert numbers(grid.send_and_receive(messages(grid), timeout=patient(30))) == list(range(6))


def test_push_and_pull(make_grid) -> None:
    grid = make_grid(echo_app())
    ids = list(grid.push_messages(messages(grid)))
    received: list[Message] = []
    while len(received) < 6:
        received += grid.pull_messages(ids)
    assert sorted(numbers(received)) == list(range(6))
    assert list(grid.pull_messages(ids)) == []


def test_both_sides_work_on_their_own_copy(make_grid) -> None:
    app = ClientApp()
    seen = []

    @app.query()
    def query(message: Message, context: Context) -> Message:
        seen.append(message.content)
        return Message(message.content, reply_to=message)

    grid = make_grid(app)
    [message] = messages(grid)[:1]
    [reply] = grid.send_and_receive([message])
    assert seen[0] is not message.content
    assert reply.content is not seen[0]
    assert reply.content == message.content


def test_a_whole_run_and_its_exceptions() -> None:
    server = ServerApp()
    got: list[int] = []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        got.extend(numbers(grid.send_and_receive(messages(grid))))
        assert context.run_config["key"] == "value"
        raise KeyError("from the server")

    with pytest.raises(KeyError, match="from the server"):
        run_in_process(server, echo_app(), SITES, {"key": "value"}, 2)
    assert got == list(range(6))
