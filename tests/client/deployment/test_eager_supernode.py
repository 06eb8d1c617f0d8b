"""SuperNode's pauses and retries: what Flower's loop does, and what is made of it."""

import ast
import inspect
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import fleet_http_connection, start_client_internal

from fedtransfer.client.deployment import eager_supernode
from fedtransfer.client.deployment.causes import clock_offset
from fedtransfer.client.deployment.eager_supernode import (
    IDLE_SECONDS,
    Pace,
    SteadyHeartbeat,
    facts_of,
    is_final,
    persistent_invoker,
)
from fedtransfer.common.support.condition import Condition, ConditionFile, read_condition
from fedtransfer.common.wire.bundle import SOURCES_HEADER


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


@pytest.mark.parametrize(
    "use",
    [
        "make_simple_http_retry_invoker()",
        "HeartbeatSender(send_node_heartbeat)",
        "FleetHttpClient.from_server_address",
    ],
)
def test_flowers_connection_uses_what_we_replace(use: str) -> None:
    tree = ast.parse(inspect.getsource(fleet_http_connection))
    assert use in {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.expr)}


def test_pauses_are_short_after_a_message_and_grow_to_flowers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    beats: list[None] = []
    pace = Pace(lambda: beats.append(None))
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
    assert len(beats) == 13, "each turn of the loop is a sign of life"


def answer(status: int, path: str = "pull-messages", json: bool = True) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", f"https://hub:9443/v1/fleet/{path}")
    response = httpx.Response(
        status, headers={"content-type": "application/json" if json else "text/html"}, request=request
    )
    return httpx.HTTPStatusError("", request=request, response=response)


PASSING = [
    httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"),
    httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING]"),
    httpx.ConnectError("[Errno 111] Connection refused"),
    httpx.ReadTimeout("The read operation timed out"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    ValueError("Invalid protobuf response payload"),
    *(answer(status, path) for status in (500, 502, 503, 429) for path in ("pull-messages", "push-object")),
    *(answer(status, json=False) for status in (403, 404, 407)),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception, tmp_path: Path) -> None:
    errors = [error] * 5

    def request() -> str:
        if errors:
            raise errors.pop()
        return "done"

    file = ConditionFile(tmp_path / "connection.json")
    invoker = persistent_invoker(file, "hub:9443", {"clock": 0})
    pauses: list[float] = []
    invoker.jitter, invoker.wait_function = None, pauses.append
    assert invoker.invoke(request) == "done"
    assert pauses == [1, 2, 4, 8, 16]
    condition = read_condition(tmp_path / "connection.json")
    assert condition
    assert (condition.up, condition.why, condition.facts) == (True, "", {"clock": 0})


def test_why_and_since_when_is_in_the_file_while_it_tries(tmp_path: Path) -> None:
    path = tmp_path / "connection.json"
    conditions: list[Condition | None] = []
    invoker = persistent_invoker(ConditionFile(path), "hub:9443", {})
    invoker.wait_function = lambda _: conditions.append(read_condition(path))
    errors = [answer(500), httpx.ReadTimeout("")]

    def request() -> None:
        if errors:
            raise errors.pop()

    invoker.invoke(lambda: None)
    invoker.invoke(request)
    first, second = conditions
    assert first
    assert second
    assert (first.up, first.why[:41]) == (False, "hub:9443 does not answer in time; is the ")
    assert "SuperLink at hub:9443 answers HTTP 500" in second.why
    assert first.since == second.since


def test_one_connection_that_superlink_closes_is_no_outage(tmp_path: Path) -> None:
    path = tmp_path / "connection.json"
    file = ConditionFile(path)
    file.up({})
    invoker = persistent_invoker(file, "hub:9443", {})
    invoker.wait_function = lambda _: None
    before, errors = read_condition(path), [httpx.RemoteProtocolError("Server disconnected")]

    def request() -> None:
        if errors:
            raise errors.pop()

    invoker.invoke(request)
    assert read_condition(path) == before


@pytest.mark.parametrize("error", [answer(401), answer(412, "activate-node"), answer(413, "push-object")])
def test_a_refusal_is_final(error: httpx.HTTPStatusError) -> None:
    assert is_final(error)


def test_a_message_of_a_run_that_ended_is_dropped() -> None:
    with pytest.raises(RunNotRunningException):
        is_final(answer(403, "push-messages"))


def test_heartbeats_go_on_after_an_error_that_flower_does_not_expect() -> None:
    def send() -> bool:
        raise answer(500, "send-node-heartbeat")

    assert SteadyHeartbeat(send).heartbeat_fn() is False


def test_what_a_response_tells_of_the_coordinator() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=70), usegmt=True)
    response = httpx.Response(200, headers={"date": date, SOURCES_HEADER: "abc"})
    facts = facts_of(response)
    assert facts["sources"] == "abc"
    assert facts["clock"] == pytest.approx(-70, abs=2)
    assert facts_of(httpx.Response(200)) == {}


@pytest.mark.parametrize(("ahead", "clock"), [(-20, 0), (-35, 5), (10, -10)])
def test_a_slow_response_is_no_wrong_clock(ahead: float, clock: float) -> None:
    """It took 30 s, so its date was right at some time between the request and its end."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    response = httpx.Response(200, headers={"date": date})
    response.elapsed = timedelta(seconds=30)
    assert facts_of(response)["clock"] == pytest.approx(clock, abs=2)


def test_a_full_disk_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ConditionFile(tmp_path / "gone" / "connection.json")  # where nothing can be written
    file.up({})
    file.down("refused")
    assert read_condition(tmp_path / "gone" / "connection.json") is None
    (tmp_path / "gone").mkdir()
    file.beat()
    condition = read_condition(tmp_path / "gone" / "connection.json")
    assert condition
    assert condition.why == "refused", "it is written once there is room"
    assert eager_supernode.PULSE_SECONDS < 60


@pytest.mark.parametrize(
    ("date", "ahead"),
    [("Tue, 01 Dec 2020 10:00:00 -0000", True), ("Tue, 01 Dec 2020 10:00:00", True), ("yesterday", False)],
)
def test_a_date_of_any_form_is_a_time_or_none(date: str, ahead: bool) -> None:
    offset = clock_offset(httpx.Response(500, headers={"date": date}))
    assert (offset is not None and offset > 0) == ahead
