"""SuperNode's pauses: what Flower's loop does, and what is made of it."""

import ast
import inspect
import time

import pytest
from flwr.supernode import start_client_internal

from fedtransfer.client.deployment.eager_supernode import IDLE_SECONDS, Pace


def test_flowers_loop_uses_time_as_we_take_it_to() -> None:
    """A newer Flower may wait otherwise; then this module is to be looked at again."""
    tree = ast.parse(inspect.getsource(start_client_internal))
    uses = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time"
    ]
    assert {use.attr for use in uses} == {"sleep"}
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    ]
    assert sorted(ast.literal_eval(call.args[0]) for call in calls) == [0.5, 0.5, IDLE_SECONDS]


def test_pauses_are_short_after_a_message_and_grow_to_flowers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = Pace()
    for _ in range(3):  # no message yet
        pace.sleep(3)
    assert slept == [3, 3, 3]
    slept.clear()
    pace.sleep(0.5)  # a message is worked on
    for _ in range(9):
        pace.sleep(3)
    assert slept[:4] == [0.1, 0.2, pytest.approx(0.3), pytest.approx(0.45)]
    assert slept == sorted(slept)
    assert slept[-1] == 3
