"""SuperLink's database: patient with locks, and small again after each run.

SuperLink deletes nothing when a run ends, and SQLite's file never shrinks by itself.
"""

import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from flwr.supercore import sql_mixin
from flwr.supercore.utils import int64_to_uint64
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

BUSY_SECONDS = 25  # of waiting for a lock, instead of Flower's 5; a site waits 30 s for an answer
CLEANING_SECONDS = 5.0
_PAGES = 2_000  # of 4 KiB that are given back in one step: others wait a few milliseconds
_INCREMENTAL = 2  # SQLite's number of the mode in which pages can be given back
_WAL_BYTES = 2**24

_FINISHED = """
SELECT DISTINCT run_objects.run_id FROM run_objects
JOIN run ON run.run_id = run_objects.run_id JOIN task ON task.task_id = run.primary_task_id
WHERE task.finished_at IS NOT NULL
"""


class Locks:
    """Remembers when the database was locked for longer than anybody waits."""

    def __init__(self) -> None:
        self._last = -float("inf")
        event.listen(Engine, "handle_error", self._note)

    def _note(self, context: Any) -> None:
        if isinstance(context.sqlalchemy_exception, OperationalError):
            self._last = time.monotonic()

    @property
    def lately(self) -> bool:
        """Whether it was in the last seconds, so that a failure will pass."""
        return time.monotonic() - self._last < CLEANING_SECONDS


def prepare(path: Path) -> None:
    """Make the database able to shrink, and patient, before SuperLink opens it.

    Raises:
        sqlite3.Error: it is damaged, or cannot be written.
    """
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as database:
        if database.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
            database.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
            database.execute("VACUUM")
    patience = ("busy_timeout", str(1000 * BUSY_SECONDS)), ("journal_size_limit", str(_WAL_BYTES))
    vars(sql_mixin)["SQLITE_PRAGMAS"] += patience


def clean_in_background(state: Any, path: Path) -> None:
    """Clean the database after each run, for as long as the process lives."""

    def clean() -> None:
        while True:
            time.sleep(CLEANING_SECONDS)
            with suppress(Exception):  # locked, or a full disk: the next time will do
                clean_once(state, path)

    threading.Thread(target=clean, name="database", daemon=True).start()


def clean_once(state: Any, path: Path) -> None:
    """Delete messages and objects of ended runs, and give their pages back to the disk."""
    runs = [int64_to_uint64(row["run_id"]) for row in state.query(_FINISHED)]
    for run_id in runs:
        state.cleanup_run(run_id)
    if runs:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as database:
            free, before = _free_pages(database), 0
            while free and free != before:
                database.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
                free, before = _free_pages(database), free
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _free_pages(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA freelist_count").fetchone()[0])
