"""Errors of the store.

StoreError
├── Locked        another process has this data folder
├── Stale         the record is no longer at the revision that the write was computed from
├── Compacted     the revision asked for is older than the history kept
└── WriteFailed   SQLite refused the batch (disk full, file gone); nothing of it is visible
"""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """Anything that the store refuses."""


class Locked(StoreError):
    def __init__(self, path: Path, pid: str) -> None:
        super().__init__(
            f"{path.parent} is in use by another control plane (pid {pid}); stop that one first, "
            "or give this one another data folder with KAITO_HOME"
        )
        self.pid = pid


class Stale(StoreError):
    def __init__(self, revision: int, current: int | None) -> None:
        super().__init__(f"computed from revision {revision}, but the record is at {current}")
        self.current = current


class Compacted(StoreError):
    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {revision} ({oldest})")


class WriteFailed(StoreError):
    pass
