"""Processes that are forked from a template behave as those that Python starts do."""

import json
import os
import signal
import subprocess
from pathlib import Path

import forked
import pytest
from waiting import wait_until

pytestmark = pytest.mark.process
LIVE_ON = "import signal, sys; print(*sys.argv[1:], flush=True); signal.pause()"


def run(code: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return forked.run("-c", code, *arguments, modules=(), **options)


def start(code: str, output: Path, *arguments: str, **options) -> forked.Process:
    """Start a child and wait for its first line."""
    process = forked.start("-c", code, *arguments, output=output, modules=(), **options)
    wait_until(lambda: output.read_bytes().endswith(b"\n"), "the child has begun", process.died)
    return process


def test_output_errors_arguments_and_exit_status_are_its_own() -> None:
    done = run("import sys; print(sys.argv); print('oh', file=sys.stderr); sys.exit(7)", "a b", "")
    assert (done.returncode, done.stdout, done.stderr) == (7, "['-c', 'a b', '']\n", "oh\n")
    assert run("pass").returncode == 0
    assert run("import sys; print(sys.stdin.read())").stdout == "\n", "nothing comes from a keyboard"


def test_an_exception_is_a_traceback_and_exit_status_1() -> None:
    done = run("def divide(): return 1 / 0\ndivide()")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert "in divide" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    with pytest.raises(subprocess.CalledProcessError):
        run("1 / 0", check=True)


def test_a_module_is_run_as_main(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("import sys; print(__name__, __file__, sys.argv)")
    done = forked.run("-m", "job", "x", cwd=tmp_path, modules=())
    assert done.stdout.split() == ["__main__", f"{tmp_path}/job.py", f"['{tmp_path}/job.py',", "'x']"], (
        done.stderr
    )


def test_folder_and_environment_are_those_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    given = {"COLOUR": "red", "PYTHONPATH": str(tmp_path / "more")}
    assert json.loads(run(code, cwd=tmp_path, env=given).stdout) == [str(tmp_path), given]
    monkeypatch.setenv("COLOUR", "green")
    folder, environment = json.loads(run(code).stdout)
    assert (folder, environment["COLOUR"]) == (str(forked.ROOT), "green")
    code = "import sys, tempfile; print(sys.path[:2], tempfile.gettempdir())"
    seen = run(code, cwd=tmp_path, env={**given, "TMPDIR": str(tmp_path)}).stdout
    assert seen == f"{[str(tmp_path), given['PYTHONPATH']]} {tmp_path}\n"


def test_children_share_nothing() -> None:
    changes = "json.mark = 1; os.environ['MARK'] = '1'; os.chdir('/')"
    code = f"import json, os; print(hasattr(json, 'mark')); {changes}"
    assert [run(code).stdout for _ in range(2)] == ["False\n"] * 2
    assert run("import os; print('MARK' in os.environ, os.getcwd())").stdout == f"False {forked.ROOT}\n"


def test_it_can_be_waited_for_and_asked_to_end(tmp_path: Path) -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))"
    code = f"import signal, sys\n{handler}\nprint('on', flush=True)\nsignal.pause()"
    process = start(code, tmp_path / "log")
    assert (process.poll(), process.died()) == (None, "")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.terminate()
    assert process.wait(60) == process.returncode == process.poll() == 3
    assert process.died() == "exit status 3: on\n"
    process.kill()  # it has ended, and nobody else has its number now


def test_a_kill_is_reported(tmp_path: Path) -> None:
    process = start(LIVE_ON, tmp_path / "log", "on")
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    own = run("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert own.returncode == -signal.SIGTERM


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    code = f"import os, signal; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); signal.pause()"
    with pytest.raises(subprocess.TimeoutExpired):
        run(code, seconds=0.5)
    if (tmp_path / "pid").exists():  # on a busy machine it may not have begun
        stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
        wait_until(lambda: not stat.exists() or ") Z " in stat.read_text(), "it has ended")


def test_several_run_at_a_time_and_end_in_any_order(tmp_path: Path) -> None:
    first, second = (start(LIVE_ON, tmp_path / name, name) for name in ("first", "second"))
    second.kill()
    assert second.wait(60) == -signal.SIGKILL
    assert first.poll() is None
    first.kill()
    assert first.wait(60) == -signal.SIGKILL
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == ["first\n", "second\n"]


def test_a_session_of_its_own_is_ended_as_a_group(tmp_path: Path) -> None:
    code = "import os, signal; os.fork(); print(os.getpgrp(), flush=True); signal.pause()"
    process = start(code, tmp_path / "log", new_session=True)
    wait_until(
        lambda: (tmp_path / "log").read_text().split() == [str(process.pid)] * 2,
        "both are in it",
        process.died,
    )
    assert os.getpgid(process.pid) == process.pid != os.getpgrp()
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert run("import os; print(os.getpgrp())").stdout != f"{process.pid}\n"


def test_a_template_has_what_it_was_asked_for_and_no_more() -> None:
    code = "import sys; print('fedtransfer' in sys.modules, 'tensorflow' in sys.modules)"
    assert run(code).stdout == "False False\n"
    assert forked.run("-c", code, modules=forked.COMMAND_LINE).stdout == "True False\n"


def test_a_template_that_has_ended_is_an_error() -> None:
    alone = ("json",)  # no other test's template
    assert forked.run("-c", "pass", modules=alone).returncode == 0
    forked.template(alone)._process.kill()
    forked.template(alone)._process.wait()
    with pytest.raises((AssertionError, OSError, RuntimeError)):
        forked.run("-c", "pass", modules=alone)
