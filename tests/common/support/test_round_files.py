"""Files of a round: whole ones alone are ever read, whenever the process that writes them dies."""

from pathlib import Path

import numpy as np
import pytest

from fedtransfer.common.support.files import read_round, round_files, write_round

HEAD = {"array 0": np.arange(12.0).reshape(3, 4), "array 1": np.zeros(4, np.float32)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_round(tmp_path, 7, HEAD)
    [(number, path)] = round_files(tmp_path)
    assert number == 7
    found = read_round(path)
    assert found is not None
    assert set(found) == set(HEAD)
    for name, array in HEAD.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_process_that_dies_while_it_writes_leaves_the_files_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        """What no handler of errors catches, as none catches kill -9."""

    def die(*_: object) -> None:
        raise Killed

    write_round(tmp_path, 1, HEAD)
    before = round_files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(f"fedtransfer.common.support.files.os.{moment}", die)
        with pytest.raises(Killed):
            write_round(tmp_path, 2, HEAD)
    assert round_files(tmp_path) == before, "no name of a round before its content is on the disk"
    write_round(tmp_path, 2, HEAD)
    assert [number for number, path in round_files(tmp_path) if read_round(path)] == [1, 2]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:100] + b"\0" + b[101:]])
def test_a_damaged_file_is_none(tmp_path: Path, damage) -> None:
    write_round(tmp_path, 1, HEAD)
    [(_, path)] = round_files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert read_round(path) is None
