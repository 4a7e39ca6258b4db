"""Weights from the Hugging Face hub, with its own client: one commit, resumable, checked, by the access secret's token.

`main` moves: it is resolved to a commit first, so that all files are of one version, and the same if the step goes on
after a break. Which files there are is asked before any is fetched, so that a model without safetensors costs nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.runtime.errors import InputError, RuntimeFailure, StepError
from kaito.runtime.model.files import sha256_of, wanted_files
from kaito.runtime.step import Step

POLL_INTERVAL = 1.0  # seconds between two looks at how much has come
AT_ONCE = 4  # files
CACHE = ".cache"  # where the client keeps what it needs to go on after a break
PATIENCE = 20  # seconds for an answer
READ_TIMEOUT = 60  # seconds without a byte; the client's own ten are few on a busy node
NO_TOKEN = "give modelAccessSecret with HF_TOKEN"  # noqa: S105 - what to do, not a password


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository: the files to fetch, their sizes, and the SHA-256 of the large ones."""

    commit: str
    sizes: Mapping[str, int]
    digests: Mapping[str, str]


def download(step: Step, repository: str, revision: str, target: Path) -> str:
    """The files of `repository` at `revision` into `target`; returns the commit. Raises InputError or StepError."""
    if not os.access(step.environ.get("HOME", "/"), os.W_OK):
        # A pod may have no home; the client reads this when it is imported.
        os.environ.setdefault("HF_HOME", str(target / CACHE))
    from huggingface_hub import HfApi, constants

    constants.HF_HUB_DISABLE_PROGRESS_BARS = True
    constants.HF_HUB_DOWNLOAD_TIMEOUT = READ_TIMEOUT
    token = step.environ.get("HF_TOKEN") or None
    api = HfApi(endpoint=step.environ.get("HF_ENDPOINT") or None, token=token or False)
    with _in_words(f"{repository} at revision {revision}", repository, has_token=token is not None):
        snapshot = _look(api, repository, revision)
        step.say("fetching", repository=repository, commit=snapshot.commit, bytes=sum(snapshot.sizes.values()))
        with _counted(step, target, sum(snapshot.sizes.values())):
            _fetch(api, repository, snapshot, target)
    _check(step, snapshot, target)
    return snapshot.commit


def _look(api: Any, repository: str, revision: str) -> Snapshot:
    info = api.model_info(repository, revision=revision, files_metadata=True, timeout=PATIENCE)
    there = {one.rfilename: one for one in info.siblings or ()}
    names = wanted_files(there, repository)
    digests = {name: str(there[name].lfs.sha256) for name in names if there[name].lfs is not None}
    return Snapshot(str(info.sha), {name: int(there[name].size or 0) for name in names}, digests)


def _fetch(api: Any, repository: str, snapshot: Snapshot, target: Path) -> None:
    """File by file, some at once. The client's own `snapshot_download` calls it done when the hub goes away."""

    def fetch(name: str) -> None:
        api.hf_hub_download(repository, name, revision=snapshot.commit, local_dir=target, etag_timeout=PATIENCE)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        tasks = [pool.submit(fetch, name) for name in snapshot.sizes]
        try:
            for task in as_completed(tasks):
                task.result()
        finally:
            for task in tasks:
                task.cancel()


def _check(step: Step, snapshot: Snapshot, target: Path) -> None:
    """Against the hub's own SHA-256. A file that differs is dropped, so that a retry fetches it again."""
    step.progress.running("checking the weights")
    for name, size in snapshot.sizes.items():
        if (target / name).stat().st_size != size:
            (target / name).unlink()
            raise StepError("ModelDamaged", f"{name} came with another size than the hub says", "it tries again")
    for name, digest in snapshot.digests.items():
        if sha256_of(target / name) != digest:
            (target / name).unlink()
            raise StepError("ModelDamaged", f"{name} came damaged: its SHA-256 is not the hub's", "it tries again")


@contextlib.contextmanager
def _counted(step: Step, target: Path, total: int) -> Iterator[None]:
    """Tell what has come so far while the client fetches: it has no word for it outside a terminal."""
    done = threading.Event()

    def count() -> None:
        while not done.wait(POLL_INTERVAL):
            step.progress.update(bytesDone=min(total, _bytes_in(target)), bytesTotal=total)

    watcher = threading.Thread(target=count, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _bytes_in(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # files are renamed while this looks
            size += path.lstat().st_size
    return size


@contextlib.contextmanager
def _in_words(shown: str, repository: str, *, has_token: bool) -> Iterator[None]:
    """The client's errors as the step's."""
    from huggingface_hub import errors

    unreachable: tuple[type[Exception], ...] = (
        ConnectionError,
        TimeoutError,
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        *_transport_errors(),
    )
    try:
        yield
    except RuntimeFailure:
        raise
    except errors.GatedRepoError as error:
        hint = "accept the model's licence with the token's account" if has_token else NO_TOKEN
        raise InputError("ModelForbidden", f"the hub does not give {shown}: the model is gated", hint) from error
    except errors.RevisionNotFoundError as error:
        raise InputError("ModelNotFound", f"the hub has no {shown}", "correct the revision") from error
    except errors.RepositoryNotFoundError as error:
        hint = "correct its name, or its token" if has_token else f"correct its name, or {NO_TOKEN} if it is private"
        raise InputError("ModelNotFound", f"the hub has no model {repository}", hint) from error
    except errors.HFValidationError as error:
        raise InputError(
            "ModelNotFound", f"{repository!r} is not a model's name on the hub", "use owner/name"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(shown, getattr(error.response, "status_code", 0), has_token=has_token) from error
    except unreachable as error:
        hint = "check the network, or use weights from an image, a volume or a built-in model; the step tries again"
        raise StepError("HubUnreachable", f"{shown} cannot be fetched: the hub does not answer", hint) from error


def _refused(shown: str, status: int, *, has_token: bool) -> RuntimeFailure:
    if status in (401, 403):
        hint = "the token is wrong, or may not read it" if has_token else NO_TOKEN
        return InputError("ModelForbidden", f"the hub does not give {shown} (status {status})", hint)
    what = f"the hub answers {status or 'with an error'}"
    return StepError("HubRefused", f"{shown} cannot be fetched: {what}", "it tries again")


def _transport_errors() -> list[type[Exception]]:
    """What the hub's client lets through of its own HTTP library, whichever it has, when nothing answers."""
    found: list[type[Exception]] = []
    for name in ("httpx2", "httpx"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name).TransportError)
    return found
