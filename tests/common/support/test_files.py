"""Files are whole, and ledgers lose no line, whatever happens to their writers."""

import errno
import json
import os
import stat
import time
from pathlib import Path

import forked
import pytest
from waiting import wait_until

from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import (
    append_line,
    read_lines,
    rename_ledger,
    replacement,
    replacements,
    write_whole,
)


def rows(path: Path) -> list[dict | None]:
    return [line.row for line in read_lines(path)]


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("content", ["größer\n", b"\0\xff", memoryview(b"view"), ""])
def test_what_is_written_is_read(tmp_path: Path, content: str | bytes | memoryview) -> None:
    path = tmp_path / "file"
    for _ in range(2):
        write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else bytes(content))
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, fsync, replace = [], os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def note_replace(old: Path, new: Path) -> None:
        steps.append(f"replace {new.name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_whole(tmp_path / "one", "")
    assert steps == ["sync file", "replace one", "sync folder"]
    steps.clear()
    with replacements({tmp_path / "key": 0o600, tmp_path / "certificate": 0o644}):
        pass
    assert steps == ["sync file", "sync file", "replace key", "replace certificate", "sync folder"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, moment, full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_are_replaced_together_or_not_at_all(tmp_path: Path) -> None:
    modes = {tmp_path / "key": 0o600, tmp_path / "missing" / "certificate": 0o644}
    write_whole(tmp_path / "key", "old")
    with pytest.raises(FileNotFoundError), replacements(modes):
        pass
    assert (tmp_path / "key").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


def test_a_secret_is_its_owners_alone_from_its_first_byte_on(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        with replacement(tmp_path / "key", mode=0o600, suffix=".keras") as temporary:
            assert temporary.suffix == ".keras"
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        write_whole(tmp_path / "plain", "")
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("key", "plain")] == [0o600, 0o666]


def test_a_body_that_raises_changes_nothing(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    with pytest.raises(FileNotFoundError), replacement(tmp_path / "file") as temporary:
        (temporary.write_text("half of the n"), (tmp_path / "missing").read_bytes())
    assert (tmp_path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_files_of_killed_writers_are_removed_after_an_hour(tmp_path: Path) -> None:
    old, young = tmp_path / ".writing-old.tmp", tmp_path / ".writing-young.tmp"
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 4000,) * 2)
    write_whole(tmp_path / "file", "")
    assert sorted(tmp_path.iterdir()) == [young, tmp_path / "file"]


READ_ONLY = """
import os, sys
from pathlib import Path
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import append_line, read_lines, rename_ledger, write_whole

os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
ledger = Path("ledger")
for write in (
    lambda: write_whole(Path("file"), ""),
    lambda: append_line(ledger, {"n": 2}),
    lambda: rename_ledger(ledger, Path("new")),
):
    try:
        write()
    except (PermissionError, UserError):
        print("refused")
print(*(line.row for line in read_lines(ledger)))
"""


@pytest.mark.process
def test_a_folder_that_is_read_only_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    append_line(folder / "ledger", {"n": 1})
    folder.chmod(0o555)
    try:
        done = forked.run("-c", READ_ONLY, str(folder), modules=forked.COMMAND_LINE, check=True)
    finally:
        folder.chmod(0o755)
    assert done.stdout.splitlines() == ["refused", "refused", "refused", "{'n': 1}"]
    assert {path.name for path in folder.iterdir()} == {"ledger", ".ledger.lock"}


WRITER = """
import sys
from pathlib import Path
from fedtransfer.common.support.files import write_whole

for number in range(1_000_000):
    write_whole(Path(sys.argv[1]), f"{number}\\n" * 20_000)
    print(number, flush=True)
"""


@pytest.mark.process
def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path, output = tmp_path / "folder" / "file", tmp_path / "output"
    path.parent.mkdir()
    for _ in range(4):
        process = forked.start("-c", WRITER, str(path), output=output, modules=forked.COMMAND_LINE)
        wait_until(lambda: output.read_text().count("\n") >= 3, "three files are written", process.died)
        process.kill()
        process.wait()
        lines = path.read_text().splitlines()
        assert len(lines) == 20_000
        assert len(set(lines)) == 1
        output.write_text("")


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert rows(path) == []
    append_line(path, {"name": "größte"})
    append_line(path, {"n": [1, 2]}, durable=False)
    assert rows(path) == [{"name": "größte"}, {"n": [1, 2]}]
    assert path.read_bytes() == b'{"name": "gr\\u00f6\\u00dfte"}\n{"n": [1, 2]}\n'


def test_a_line_is_on_the_disk_and_so_is_the_name_of_a_new_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, path = [], tmp_path / "ledger.jsonl"
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)))
    append_line(path, {"n": 1})
    assert [stat.S_ISDIR(status.st_mode) for status in synced] == [False, True]
    append_line(path, {"n": 2})
    assert synced[-1].st_size == path.stat().st_size
    synced.clear()
    append_line(path, {"n": 3}, durable=False)
    assert synced == []


@pytest.mark.parametrize("torn", [b'{"time": 1', b'{"a": "\xc3', b"\0" * 30_000, b"{", b"12", b"[]"])
def test_a_line_that_a_power_cut_tore_is_ended_and_marked(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    append_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(torn)
    assert rows(path) == [{"n": 1}, None]
    append_line(path, {"n": 2})
    append_line(path, {"n": 3})
    assert rows(path) == [{"n": 1}, None, {"n": 2}, {"n": 3}]
    assert [line.is_torn for line in read_lines(path)] == [False, True, False, False]
    assert path.read_bytes().splitlines()[1] == torn + b" torn", "what is written stays"


def test_a_last_line_that_lacks_its_newline_only_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"n": 1}')
    assert [(line.row, line.is_torn) for line in read_lines(path)] == [({"n": 1}, False)]
    append_line(path, {"n": 2})
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n'


@pytest.mark.parametrize("damaged", [b"\n", b"no JSON\n", b"[1]\n", b'{"time": 1\n', b"\xff\n"])
def test_a_damaged_line_is_not_a_torn_one(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(damaged + b'{"n": 2}\n')
    assert [(line.row, line.is_torn) for line in read_lines(path)] == [(None, False), ({"n": 2}, False)]


@pytest.mark.parametrize("length", [0, 1, 4094, 4095, 4096, 4097, 40_000, 3_000_000])
def test_a_row_may_be_made_of_the_last_line_however_long(tmp_path: Path, length: int) -> None:
    path, seen = tmp_path / "ledger.jsonl", []

    def row(last: bytes) -> dict:
        seen.append(last)
        return {"name": "n" * length}

    for _ in range(3):
        append_line(path, row, durable=False)
    line = json.dumps({"name": "n" * length}).encode() + b"\n"
    assert seen == [b"", line, line]


def test_the_last_line_of_a_long_ledger_is_found_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"n": 1}\n' * 2_000_000)
    began = time.process_time()
    for _ in range(20):
        append_line(path, {"n": 2}, durable=False)
    assert time.process_time() - began < 0.1


def test_a_full_disk_loses_no_line_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.jsonl"
    append_line(path, {"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            append_line(path, {"n": 2})
    append_line(path, {"n": 3})
    assert rows(path)[0] == {"n": 1}
    assert rows(path)[-1] == {"n": 3}


@pytest.mark.process
def test_a_disk_with_room_for_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append_line(path, {"n": 1})
    size = path.stat().st_size
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from fedtransfer.common.support.files import append_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 4}, resource.RLIM_INFINITY))\n"
        "try:\n    append_line(Path(sys.argv[1]), {'n': 2})\n"
        "except OSError:\n    print('refused')\n"
    )
    done = forked.run("-c", code, str(path), modules=forked.COMMAND_LINE, check=True)
    assert done.stdout.strip() == "refused"
    assert path.read_bytes()[size:] == b'{"n"', "as much as there was room for"
    append_line(path, {"n": 3})
    assert rows(path) == [{"n": 1}, None, {"n": 3}]


APPENDER = """
import sys
from pathlib import Path
from fedtransfer.common.support.files import append_line

path, writer = Path(sys.argv[1]), sys.argv[2]
for number in range(150):
    append_line(path, lambda last: {"writer": writer, "number": number, "before": len(last)}, durable=False)
"""


@pytest.mark.process
def test_two_writers_at_once_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    writers = [
        forked.start("-c", APPENDER, str(path), name, output=tmp_path / name, modules=forked.COMMAND_LINE)
        for name in ("anna", "bert")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = list(read_lines(path))
    for name in ("anna", "bert"):
        assert [line.row["number"] for line in lines if line.row["writer"] == name] == list(range(150))
    assert [line.row["before"] for line in lines] == [0, *(len(line.content) for line in lines[:-1])]


def test_a_ledger_is_renamed_once(tmp_path: Path) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    rename_ledger(old, new)
    assert not new.exists()
    append_line(old, {"n": 1})
    rename_ledger(old, new)
    rename_ledger(old, new)
    assert (old.exists(), rows(new)) == (False, [{"n": 1}])
    append_line(old, {"n": 2})
    with pytest.raises(
        UserError, match=r"got old\.jsonl and new\.jsonl; .*Append the lines of old\.jsonl .* remove"
    ):
        rename_ledger(old, new)
    assert (rows(old), rows(new)) == ([{"n": 2}], [{"n": 1}])
