"""One fetch for many pods: a folder is completed under a lock, and says from what, so that others take it as it is.

The lock is the kernel's (flock): it goes with the process that held it, so that a pod that is killed in the middle
leaves nobody waiting, and the next one goes on with what is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kaito.runtime.model.files import is_whole, sizes_of
from kaito.runtime.step import Step

DONE = ".kaito-model.json"  # says which source the folder was completed from, and what is in it
LOCK = ".kaito-model.lock"
WAIT = 1.0  # seconds between two tries for the lock


def entry_of(cache: Path, source: Mapping[str, Any]) -> Path:
    """The folder of this source in a cache."""
    kind, name = next((kind, str(source[kind])) for kind in ("huggingface", "image") if source.get(kind))
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:12]
    readable = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)[-80:].strip(".-")
    return cache / f"{kind}-{readable}-{digest}"


def is_complete(folder: Path, source: Mapping[str, Any]) -> bool:
    """Whether the folder was completed from this source, and all of it is still there."""
    try:
        done = json.loads((folder / DONE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(done, dict) and done.get("source") == dict(source) and is_whole(folder, done.get("files") or {})


def mark_complete(folder: Path, source: Mapping[str, Any], version: str) -> None:
    """`version` is the commit or digest that was fetched. Written beside and renamed: half a mark is no mark."""
    beside = folder / f"{DONE}.new"
    record = {"source": dict(source), "version": version, "files": sizes_of(folder, DONE)}
    beside.write_text(json.dumps(record, indent=1), encoding="utf-8")
    beside.replace(folder / DONE)


@contextlib.contextmanager
def locked(step: Step, folder: Path) -> Iterator[None]:
    """Alone with `folder`, among all who ask so, on this node or on a shared volume."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not is_told:
                    step.progress.running("waiting: another pod is fetching the same weights")
                    step.say("waiting for another pod that fetches the same weights", folder=str(folder))
                    is_told = True
                time.sleep(WAIT)
        yield
    finally:
        os.close(handle)
