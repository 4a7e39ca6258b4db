"""One control plane per data folder: an advisory lock on a file that names its holder.

The kernel drops the lock when the process dies, however it dies, so a crash never leaves a folder that cannot be used.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from kaito.local.store.errors import Locked


class FolderLock:
    """Held from `acquire` to `release`. Raises Locked, which names the other's pid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise Locked(self.path, holder or "unknown") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
