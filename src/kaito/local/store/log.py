"""The append-only log on disk: one SQLite table, a row per revision (the shape that kine gives etcd).

WAL with synchronous=NORMAL: a committed batch is in the kernel's page cache, so it survives the death of the process
at any instruction. A power cut may lose the last batches, never the file's consistency.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    created INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Row(NamedTuple):
    revision: int
    key: str
    deleted: int
    created: int
    """Revision that created this life of the object."""
    previous: int
    """Revision of the row that this one supersedes, 0 for a create."""
    value: bytes


class RevisionLog:
    """Used by one thread at a time. Raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)

    def rows(self) -> Iterator[Row]:
        """Every row kept, oldest first."""
        cursor = self._database.execute(
            "SELECT revision, key, deleted, created, previous, value FROM log ORDER BY revision"
        )
        return map(Row._make, cursor)

    def meta(self, name: str) -> int:
        found = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def append(self, rows: Sequence[Row]) -> None:
        """All of the rows or none of them."""
        self._transaction([("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)])

    def compact(self, revision: int) -> None:
        """Drops what was superseded or deleted at or before the revision, which watches can no longer start from.

        The revision counter must outlive its rows (the last one may be a deletion), so it is kept beside them.
        """
        start = self.meta("compacted")
        newest = self._database.execute("SELECT max(revision) FROM log").fetchone()[0] or 0
        superseded = (
            "DELETE FROM log WHERE revision IN "
            "(SELECT previous FROM log WHERE revision > ? AND revision <= ? AND previous != 0)"
        )
        keep = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
        self._transaction(
            [
                (superseded, [(start, revision)]),
                ("DELETE FROM log WHERE revision > ? AND revision <= ? AND deleted = 1", [(start, revision)]),
                (keep, [("compacted", revision), ("revision", max(newest, self.meta("revision")))]),
            ]
        )

    def close(self) -> None:
        self._database.close()

    def _transaction(self, statements: Sequence[tuple[str, Sequence[tuple[object, ...]]]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for statement, parameters in statements:
                self._database.executemany(statement, parameters)
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
