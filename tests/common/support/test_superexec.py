"""SuperExec's tokens: no other user of the machine can read them off a command line."""

import ast
import inspect
import json
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

import httpx
import pytest
from flwr.common.args import add_args_flwr_app_common, try_obtain_flwr_app_token
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import ExecutionSpec, subprocess_executor
from waiting import wait_until

from fedtransfer.common.support.processes import only_command
from fedtransfer.common.support.superexec import Quiet, is_refused, persistent_invoker

TOKEN = "c0ffee" * 40
APP = """\
import json, sys
from pathlib import Path

seen = {"line": Path("/proc/self/cmdline").read_text(), "words": sys.argv[2:]}
seen["token"] = Path(sys.argv[sys.argv.index("--token-file") + 1]).read_text()
Path(sys.argv[1]).write_text(json.dumps(seen))
"""


def test_flowers_executor_uses_subprocess_as_we_take_it_to() -> None:
    """A newer Flower may start tasks otherwise; then this module is to be looked at again."""
    tree = ast.parse(inspect.getsource(subprocess_executor))
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert {use.attr for use in uses if ast.unparse(use.value) == "subprocess"} == {"Popen", "DEVNULL"}


def test_flowers_loop_uses_what_we_replace() -> None:
    tree = ast.parse(inspect.getsource(run_superexec))
    assert "make_simple_http_retry_invoker()" in {
        ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Call)
    }


def failure(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://127.0.0.1:9092/v1/runtime/acquire-task")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    "error",
    [
        failure(500),
        failure(503),
        failure(403),
        httpx.ConnectError("[SSL] certificate has expired"),
        ValueError(""),
    ],
    ids=repr,
)
def test_an_error_does_not_end_it(error: Exception) -> None:
    errors = [error] * 3

    def acquire() -> str:
        if errors:
            raise errors.pop()
        return "a task"

    invoker = persistent_invoker()
    invoker.wait_function = lambda _: None
    assert invoker.invoke(acquire) == "a task"
    assert is_refused(failure(401))


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="command lines are read from /proc")
def test_a_task_gets_its_token_and_nobody_else_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = tmp_path / "answer.json"
    words = [sys.executable, "-I", "-S", "-c", APP, str(answer)]
    monkeypatch.setenv("PATH", f"{only_command(tmp_path / 'bin', 'flwr-serverapp', words)}:/usr/bin:/bin")
    monkeypatch.setattr(subprocess_executor, "subprocess", Quiet)
    spec = ExecutionSpec(
        task_type=TaskType.SERVER_APP, runtime_api_address="127.0.0.1:9", token=TOKEN, insecure=True,
        root_certificates_path=None, runtime_dependency_install=False, parent_pid=os.getpid(),
        suppress_output=False, task_id=1,
    )  # fmt: skip
    subprocess_executor.SubprocessExecutor().launch(spec)
    wait_until(lambda: answer.exists() and answer.read_text().endswith("}"), "the task has run")
    seen = json.loads(answer.read_text())
    assert seen["token"] == TOKEN
    assert "--token-file" in seen["line"]
    assert TOKEN not in seen["line"]
    assert seen["words"][1] == "127.0.0.1:9"


def test_flowers_apps_read_the_token_from_such_a_file(tmp_path: Path) -> None:
    parser = ArgumentParser()
    add_args_flwr_app_common(parser)
    (tmp_path / "token").write_text(TOKEN)
    assert try_obtain_flwr_app_token(parser.parse_args(["--token-file", str(tmp_path / "token")])) == TOKEN
