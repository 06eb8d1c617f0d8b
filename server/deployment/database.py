"""SuperLink's database: a damaged one is set aside, since all in it is made again.

Sites are enrolled from ``sites/``, and a run goes on from its checkpoint.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path


def set_aside_damaged(path: Path) -> Iterator[str]:
    """Rename a damaged database, and yield a sentence about it; SuperLink must not run.

    Raises:
        OSError: it cannot be renamed.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            [(answer,)] = database.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError:
        return  # it is locked, or the disk is full: it may be sound
    except sqlite3.DatabaseError as error:
        answer = str(error)
    if answer == "ok":
        return
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.rename(aside)
    yield f"{path}: damaged ({answer}); it is now {aside.name}, and SuperLink begins a new one"
