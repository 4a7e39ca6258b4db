"""Checkpoints in a registry (KAITO_CHECKPOINT_IMAGE), so that another node can take the training up.

They are pushed from a thread of their own, one at a time and the newest only: training never waits for the registry and
never ends because of it. Each push moves the tag and removes what it pointed to before, where the registry allows that.
A tag that holds anything else than checkpoints is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kaito.oci.client import RegistryClient
from kaito.oci.errors import NotFound, OciError
from kaito.oci.image import ImageMetadata, pull_image, pull_manifest, push_image
from kaito.oci.layer import Limits
from kaito.oci.reference import Reference
from kaito.oci.session import RetryPolicy
from kaito.runtime.registry import image_reference, open_session
from kaito.runtime.step import Step
from kaito.runtime.tune.saved import MARK, find_checkpoint, step_of

VARIABLE = "KAITO_CHECKPOINT_IMAGE"
IDENTITY, STEP = "sh.kaito.checkpoint.identity", "sh.kaito.checkpoint.step"
FOLDER = "checkpoint"  # inside the image
AGAIN = 30.0  # seconds after a push that failed, unless a newer checkpoint comes first
LEAVE = 5.0  # seconds that a push in flight has when the training is over
PATIENT = RetryPolicy(tries=6, first=1.0, most=16.0)  # at the start there is something to gain from waiting a little
BRIEF = RetryPolicy()  # a push that fails is tried again anyway
HINT = "training goes on; mend the registry or the push secret: it is tried again"


class _Request(Protocol):
    """What of a TuneRequest is needed here."""

    @property
    def identity(self) -> str: ...

    @property
    def checkpoints(self) -> Path: ...


@dataclass(frozen=True)
class Remote:
    """What the tag holds: `identity` is empty when that is no checkpoint."""

    digest: str
    identity: str
    step: int


def bring_checkpoint(step: Step, request: _Request) -> None:
    """Pull the registry's checkpoint of this very run when it is further than what lies here.

    A registry that cannot be read is said, and training starts with what there is.
    """
    if not step.environ.get(VARIABLE):
        return
    reference = image_reference(step, VARIABLE)
    step.progress.running(f"looking for a checkpoint in {reference}")
    local = find_checkpoint(request.checkpoints, request.identity)
    try:
        found = _run(step, PATIENT, lambda client: find_remote(client, reference))
        if found is None:
            return
        if found.identity != request.identity:
            step.say("the checkpoint image is of another run", image=str(reference))
        elif local is None or found.step > step_of(local):
            _pull(step, reference.at(found.digest), request, found.step)
            step.say("checkpoint is pulled", image=str(reference), checkpointStep=found.step)
    except OciError as error:
        step.say("the checkpoint image cannot be read", why=str(error), hint=HINT)


def drop_checkpoint(step: Step) -> None:
    """The result is published: remove the checkpoint from the registry, where that is allowed."""
    if not step.environ.get(VARIABLE):
        return
    reference = image_reference(step, VARIABLE)

    async def drop(client: RegistryClient) -> bool:
        found = await find_remote(client, reference)
        return bool(found and found.identity and await client.delete_manifest(reference, found.digest))

    try:
        if _run(step, RetryPolicy(tries=2), drop):
            step.say("checkpoint is removed from the registry", image=str(reference))
    except OciError as error:
        step.say("the checkpoint stays in the registry", image=str(reference), why=str(error))


async def find_remote(client: RegistryClient, reference: Reference) -> Remote | None:
    try:
        digest, manifest = await pull_manifest(client, reference)
    except NotFound:
        return None
    annotations = manifest.get("annotations") or {}
    at = str(annotations.get(STEP, ""))
    return Remote(digest, str(annotations.get(IDENTITY, "")), int(at) if at.isdecimal() else 0)


class CheckpointPusher:
    """Pushes what it is offered, from a thread; a context manager. `offer` returns at once."""

    def __init__(self, step: Step, request: _Request) -> None:
        self._step = step
        self._identity = request.identity
        self._scratch = request.checkpoints.parent
        self._reference = image_reference(step, VARIABLE)
        self._changed = threading.Condition()
        self._next: Path | None = None
        self._is_busy = False
        self._is_ending = False
        self._is_urgent = False
        self._known: Remote | None = None
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)

    def __enter__(self) -> CheckpointPusher:
        self._clear()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join(LEAVE)
        self._clear()

    def _clear(self) -> None:
        for left in self._scratch.glob(".push-*"):
            shutil.rmtree(left, ignore_errors=True)

    def offer(self, checkpoint: Path) -> None:
        """Take over a whole checkpoint; an earlier one that still waits is dropped.

        The files are linked, not copied: the trainer removes its old checkpoints while they may still be on their way.
        """
        staged = self._scratch / f".push-{step_of(checkpoint)}"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(checkpoint, staged, copy_function=_link)
        with self._changed:
            if self._next is not None:
                shutil.rmtree(self._next, ignore_errors=True)
            self._next = staged
            self._changed.notify_all()
        self._step.progress.update(checkpointStep=step_of(checkpoint))

    def finish(self, timeout: float) -> bool:
        """Wait until all that was offered is pushed, at most `timeout` seconds; whether it is."""
        with self._changed:
            self._is_urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._next is None and not self._is_busy, timeout)

    def _work(self) -> None:
        while (staged := self._take()) is not None:
            if self._push(staged):
                self._put_away(staged)
            else:
                self._put_back(staged)

    def _put_away(self, staged: Path) -> None:
        shutil.rmtree(staged, ignore_errors=True)
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()

    def _put_back(self, staged: Path) -> None:
        """To be tried again after a while, unless a newer one waits already."""
        with self._changed:
            if self._next is None:
                self._next = staged
                self._changed.wait_for(lambda: self._is_ending or self._is_urgent or self._next is not staged, AGAIN)
        if self._next is not staged:
            shutil.rmtree(staged, ignore_errors=True)
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()

    def _take(self) -> Path | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_ending or self._next is not None)
            if self._is_ending:
                return None
            staged, self._next = self._next, None
            self._is_busy = True
            return staged

    def _push(self, staged: Path) -> bool:
        at = step_of(staged)
        try:
            pushed = _run(self._step, BRIEF, lambda client: self._send(client, staged, at))
        except (OciError, OSError) as error:
            self._step.say("checkpoint is not pushed", checkpointStep=at, why=str(error), hint=HINT)
            return False
        if pushed:
            self._step.progress.update(checkpointPushedStep=at)
            self._step.say("checkpoint is pushed", checkpointStep=at, image=str(self._reference))
        return True

    async def _send(self, client: RegistryClient, staged: Path, at: int) -> bool:
        """False when the tag is not ours to write, or holds something further of this run."""
        before = self._known or await find_remote(client, self._reference)
        if before is not None and not before.identity:
            self._say_left_alone("the tag holds something else than a checkpoint", at)
            return False
        if before is not None and before.identity == self._identity and before.step > at:
            self._say_left_alone(f"the registry has step {before.step} of this run", at)
            return False
        files = {f"{FOLDER}/{path.relative_to(staged)}": path for path in staged.rglob("*") if path.is_file()}
        metadata = ImageMetadata({IDENTITY: self._identity, STEP: str(at)})
        pushed = await push_image(
            client, self._reference, files, metadata, scratch=self._scratch, compression=0
        )  # numbers hardly compress, and the processor has other work
        self._known = Remote(pushed.digest, self._identity, at)
        if before is not None and before.digest != pushed.digest:
            with contextlib.suppress(OciError):  # many registries do not let clients delete
                await client.delete_manifest(self._reference, before.digest)
        return True

    def _say_left_alone(self, why: str, at: int) -> None:
        self._step.say("checkpoint is not pushed", checkpointStep=at, why=f"{self._reference}: {why}")


def _pull(step: Step, reference: Reference, request: _Request, at: int) -> None:
    beside = request.checkpoints.parent / ".pull"
    target = request.checkpoints / f"checkpoint-{at}"
    shutil.rmtree(beside, ignore_errors=True)
    limits = Limits(size=int(step.number("KAITO_UNPACK_LIMIT_BYTES", Limits().size)))
    _run(step, PATIENT, lambda client: pull_image(client, reference, beside, limits=limits))
    if (beside / FOLDER / MARK).is_file():
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (beside / FOLDER).replace(target)
    shutil.rmtree(beside, ignore_errors=True)


def _run(step: Step, retry: RetryPolicy, work: Callable[[RegistryClient], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with open_session(step, retry) as session:
            return await work(RegistryClient(session))

    return asyncio.run(run())


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # volumes that know no links
        shutil.copyfile(source, target)
