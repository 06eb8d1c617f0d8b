import json
from pathlib import Path

import pytest

from fedtransfer.common.config.config import RunConfig
from fedtransfer.common.errors import UserError
from fedtransfer.common.support.files import replacement
from fedtransfer.server.run_folder.folder import check_folder, clear_folder, open_folder, write_summary


def test_a_run_is_never_overwritten_without_force(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    check_folder(folder, force=False)
    with open_folder(folder, RunConfig()):
        (folder / "history.csv").touch()
        with pytest.raises(UserError, match="another process is working on this run"):
            open_folder(folder, RunConfig(resume=True))
    with pytest.raises(UserError, match=r"run already exists; .*--out, .*--resume"):
        check_folder(folder, force=False)
    with pytest.raises(UserError, match="already holds a run"):
        open_folder(folder, RunConfig())
    check_folder(folder, force=True)
    assert (folder / "history.csv").exists(), "removed only when the new run starts"
    clear_folder(folder)
    assert not folder.exists()


def test_a_run_that_was_killed_before_its_first_file_is_begun_again(tmp_path: Path) -> None:
    writer = replacement(tmp_path / "config.toml")
    writer.__enter__()  # it never ends, as one that was killed
    assert len(list(tmp_path.iterdir())) == 1
    check_folder(tmp_path, force=False)


def test_force_removes_runs_only(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("dear")
    with pytest.raises(UserError, match="not a run folder"):
        check_folder(tmp_path, force=True)
    assert (tmp_path / "holiday.jpg").exists()


def test_summary_has_null_where_there_is_no_score(tmp_path: Path) -> None:
    write_summary(tmp_path, {"accuracy": float("nan"), "deep": {"loss": float("nan"), "rounds": 3}})
    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "accuracy": None,
        "deep": {"loss": None, "rounds": 3},
    }
