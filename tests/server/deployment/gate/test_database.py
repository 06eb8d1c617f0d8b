"""SuperLink's database: patient with locks, and small again after a run."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from deployment.parcel import part
from flwr.common.constant import NOOP_FLWR_AID, SubStatus
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore import sql_mixin
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.superlink.config_loader import get_federation_manager, get_objectstore_linkstate_factories
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from fedtransfer.server.deployment.gate.database import BUSY_SECONDS, Locks, clean_once, prepare

MEGABYTE = 10**6


@pytest.mark.run  # Flower's migrations take a second
@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")
def test_the_database_is_patient_and_small_again_after_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_mixin, "SQLITE_PRAGMAS", sql_mixin.SQLITE_PRAGMAS)
    path = tmp_path / "superlink.db"
    prepare(path)
    state = get_objectstore_linkstate_factories(str(path), get_federation_manager())[1].state()
    assert isinstance(state, SqlLinkState)
    assert state.query("PRAGMA busy_timeout")[0]["timeout"] == 1000 * BUSY_SECONDS
    run = state.create_run(
        "app", "1", "hash", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    for number in range(10):
        name, content = part("ConfigRecord", [], bytes([number]) * MEGABYTE)
        state.object_store.preregister(run, ObjectTree(object_id=name))
        state.object_store.put(name, content)
    clean_once(state, path)
    assert state.object_store.get(name) == content, "the run goes on"
    [info] = state.get_run_info(run_ids=[run])
    assert info.primary_task_id
    state.claim_task(info.primary_task_id)
    state.activate_task(info.primary_task_id)
    assert state.finish_task(info.primary_task_id, SubStatus.COMPLETED, "")
    before = path.stat().st_size
    clean_once(state, path)
    assert state.object_store.get(name) is None
    assert path.stat().st_size < before - 9 * MEGABYTE
    assert (tmp_path / "superlink.db-wal").stat().st_size == 0


def test_an_older_database_is_made_able_to_shrink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_mixin, "SQLITE_PRAGMAS", ())
    path = tmp_path / "superlink.db"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE run (run_id)")
        old.execute("INSERT INTO run VALUES (7)")
        old.commit()
    prepare(path)
    with closing(sqlite3.connect(path)) as new:
        assert new.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert new.execute("SELECT run_id FROM run").fetchall() == [(7,)]


def test_a_lock_is_remembered_for_a_moment(tmp_path: Path) -> None:
    locks, path = Locks(), tmp_path / "superlink.db"
    with closing(sqlite3.connect(path)) as backup:
        backup.execute("CREATE TABLE run (run_id)")
        backup.execute("BEGIN EXCLUSIVE")
        assert not locks.lately
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
        with pytest.raises(OperationalError, match="locked"), engine.begin() as connection:
            connection.execute(text("INSERT INTO run VALUES (7)"))
        assert locks.lately
