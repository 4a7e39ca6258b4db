"""Several GPUs of one node: a process for each, started and watched from here.

Each process runs the same step with the variables that torch and accelerate read (RANK, LOCAL_RANK, WORLD_SIZE,
MASTER_ADDR, MASTER_PORT). The first one speaks for all: it has the HTTP server, writes the files and the log. This
parent loads no torch; it hands signals on, ends the others when one has failed, starts all again with half the batch
when one ran out of memory, and ends with the words and the exit code of the one that knows why.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from kaito.runtime.errors import InputError, StepError
from kaito.runtime.limits import usable_cores
from kaito.runtime.ports import free_port
from kaito.runtime.step import DEFAULT_TERMINATION_LOG, end_with

OUT_OF_MEMORY = 75  # exit code of a process that asks for a smaller batch
TOLD_TO_STOP = 60.0  # seconds that processes have to save and end once one of them has ended
FAILED = 10.0  # seconds that the others have when one has failed: they may wait for it for ever
LAST_WORDS = (2, 1)  # whose words are shown first: wrong input explains more than a torn connection


def wanted_processes(environ: Mapping[str, str]) -> int:
    """KAITO_PROCESSES, else the number of CUDA devices that torch can use. Raises InputError."""
    given = environ.get("KAITO_PROCESSES", "")
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise InputError("EnvironmentInvalid", f"KAITO_PROCESSES is {given!r}, which is no number of processes")
        return int(given)
    if len(list(Path("/dev").glob("nvidia[0-9]*"))) < 2:
        return 1  # most pods: torch need not be loaded to know it
    code = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = done.stdout.split()
    return max(1, int(lines[-1])) if done.returncode == 0 and lines and lines[-1].isdecimal() else 1


def supervise(processes: int, environ: Mapping[str, str], failed: float = FAILED) -> int:
    """Run the step in that many processes until they end; returns the step's exit code.

    `failed`: seconds that the others have to end when one has failed.
    """
    batch: str | None = None
    while True:
        with tempfile.TemporaryDirectory(prefix="tune-") as folder, _Group(processes, environ, batch, folder) as group:
            group.wait(failed)
            codes, words, is_stopped = group.codes, group.words(), group.is_stopped
        smaller = next((one for one in words.values() if OUT_OF_MEMORY in codes and "batch" in one), None)
        if smaller is None or is_stopped:
            return _end(codes, words, environ)
        found = {name: smaller[name] for name in ("batch", "accumulate")}
        batch = json.dumps(found)
        print(json.dumps({"step": "tune", "event": "out of memory; starting all processes again", **found}), flush=True)


class _Group:
    """The processes of one attempt; a context manager that leaves none behind."""

    def __init__(self, count: int, environ: Mapping[str, str], batch: str | None, folder: str) -> None:
        self._count = count
        self._folder = Path(folder)
        port = environ.get("MASTER_PORT") or str(free_port())
        shared = {**environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
        if batch is not None:
            shared["KAITO_TRAIN_BATCH"] = batch
        self._environ = shared
        self._workers: list[subprocess.Popen[bytes]] = []
        self.is_stopped = False

    @property
    def codes(self) -> list[int]:
        return [worker.returncode for worker in self._workers]

    def words(self) -> dict[int, dict[str, object]]:
        """The last words of each process that has any."""
        found = {}
        for rank in range(self._count):
            with contextlib.suppress(OSError, ValueError):
                read = json.loads((self._folder / str(rank)).read_bytes())
                if isinstance(read, dict):
                    found[rank] = read
        return found

    def wait(self, failed: float) -> None:
        """Until all have ended; once one has, the others get some time and are then killed."""
        ended_at: float | None = None
        while None in (codes := [worker.poll() for worker in self._workers]):
            if ended_at is None and any(codes):
                ended_at = time.monotonic()
            patience = TOLD_TO_STOP if self.is_stopped else failed
            if ended_at is not None and time.monotonic() - ended_at > patience:
                self._signal(signal.SIGKILL)
            time.sleep(0.1)

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_stopped = True
        self._signal(signal.SIGTERM)

    def __enter__(self) -> _Group:
        self._previous = signal.signal(signal.SIGTERM, self._stop)
        command = [sys.executable, "-m", "kaito.runtime.main", "tune"]
        for rank in range(self._count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "KAITO_TERMINATION_LOG": str(self._folder / str(rank))}
            self._workers.append(subprocess.Popen(command, env={**self._environ, **own}))
        return self

    def __exit__(self, *exc: object) -> None:
        self._signal(signal.SIGKILL)
        for worker in self._workers:
            worker.wait()
        signal.signal(signal.SIGTERM, self._previous)


def _end(codes: list[int], words: Mapping[int, dict[str, object]], environ: Mapping[str, str]) -> int:
    log = environ.get("KAITO_TERMINATION_LOG", DEFAULT_TERMINATION_LOG)
    if not any(codes):
        return end_with(log, 0, words.get(0, {}))
    for code in LAST_WORDS:
        for rank in _by_importance(codes, code, words):
            return end_with(log, code, words[rank])
    killed = next((-code for code in codes if code < 0), 0)
    why = f"by signal {killed}" if killed else "without a word"
    failure = StepError(
        "TrainerKilled", f"a training process was ended {why}", "give the pod more memory; it resumes by itself"
    )
    return end_with(log, failure.exit_code, failure.as_dict())


def _by_importance(codes: list[int], code: int, words: Mapping[int, dict[str, object]]) -> Iterator[int]:
    """The processes that ended with `code` and said why; those that only stopped because of others come last."""
    said = [rank for rank in words if codes[rank] == code and words[rank].get("reason")]
    yield from sorted(said, key=lambda rank: (words[rank]["reason"] in ("Terminated", "InternalError"), rank))
