"""The frame around every step: its environment, its HTTP server, its signals, its exit code and its last words.

A step is a function `step(Step) -> last words or None`. It raises `InputError` when the user's input is wrong (exit 2)
and `StepError` for what a retry may mend (exit 1). The controller reads the termination message; people read the last
line of stderr; both are the same JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from kaito.runtime.errors import InputError, RuntimeFailure, StepError
from kaito.runtime.progress import Progress, ProgressServer, finite

DEFAULT_TERMINATION_LOG = "/dev/termination-log"
MAX_TERMINATION_MESSAGE = 4096  # bytes; the kubelet cuts what is longer, which would break the JSON

__all__ = ["InputError", "Progress", "Step", "StepError", "Terminated", "run_step"]


class Terminated(BaseException):
    """SIGTERM came while nothing needed to be saved. Not an Exception, so that no retry loop swallows it."""


@dataclass
class Step:
    """What a step works with. `environ` is the whole of its input; nothing below reads `os.environ`."""

    name: str
    environ: Mapping[str, str]
    progress: Progress
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    is_quiet: bool = False
    """Another process of the same step writes the log."""
    _saving: bool = False

    def require(self, variable: str) -> str:
        value = self.environ.get(variable, "")
        if not value:
            raise InputError(
                "EnvironmentMissing",
                f"{variable} is not set, and the step {self.name!r} needs it",
                "see the table of variables in docs/architecture.md",
            )
        return value

    def path(self, variable: str) -> Path:
        return Path(self.require(variable))

    def optional_path(self, variable: str) -> Path | None:
        value = self.environ.get(variable, "")
        return Path(value) if value else None

    def number(self, variable: str, default: float) -> float:
        value = self.environ.get(variable, "")
        try:
            return float(value) if value else default
        except ValueError:
            raise InputError("EnvironmentInvalid", f"{variable} is {value!r}, which is not a number") from None

    def say(self, event: str, **fields: Any) -> None:
        """One event, one JSON line on stdout. Never give it a secret."""
        if self.is_quiet:
            return
        record = {"time": _now(), "step": self.name, "event": event, **finite(fields)}
        print(json.dumps(record, ensure_ascii=False, default=str), flush=True)

    @contextlib.contextmanager
    def saves_on_stop(self) -> Iterator[None]:
        """Within, SIGTERM only sets `stop`: the body looks at it, saves its work and returns."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False

    def on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        self.stop.set()
        if not self._saving:
            raise Terminated


StepFunction = Callable[[Step], Mapping[str, Any] | None]


def run_step(name: str, func: StepFunction, *, environ: Mapping[str, str] | None = None, listen: bool = True) -> int:
    """Run `func` as the step `name` and return its exit code: 0 done, 2 wrong input, 1 anything else.

    With `listen`, /progress, /healthz and /metrics answer on KAITO_HOST:KAITO_PORT until it ends; a step with an HTTP
    server of its own says `listen=False`. What `func` returns becomes the termination message.
    """
    step = Step(name, os.environ if environ is None else environ, Progress(name))
    log = step.environ.get("KAITO_TERMINATION_LOG", DEFAULT_TERMINATION_LOG)
    try:
        with _sigterm(step), _server(step) if listen else contextlib.nullcontext():
            words = func(step)
    except Terminated:
        return _end(
            step, log, StepError("Terminated", f"the step {name!r} was told to stop", "it starts again by itself")
        )
    except RuntimeFailure as failure:
        return _end(step, log, failure)
    except OSError as error:
        return _end(step, log, _from_os_error(name, error))
    except Exception as error:  # noqa: BLE001 - the edge of the process: a defect too must end in words and an exit code
        traceback.print_exc()
        first_line = (str(error).strip() or "no text").splitlines()[0]
        text = f"the step {name!r} failed: {type(error).__name__}: {first_line}"
        return _end(step, log, StepError("InternalError", text, "this is a defect; the log above has its trace"))
    return end_with(log, 0, words or {})


def end_with(log: str, code: int, words: Mapping[str, Any]) -> int:
    """Leave the last words in the file `log`, and on stderr unless all went well. Returns `code`."""
    text = _fit(finite(words))
    if code or words:
        _write_termination(log, text)
    if code:
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)
    return code


def _end(step: Step, log: str, failure: RuntimeFailure) -> int:
    step.progress.failed(failure)
    return end_with(log, failure.exit_code, failure.as_dict())


def _fit(words: Mapping[str, Any]) -> str:
    """The JSON of `words` within MAX_TERMINATION_MESSAGE bytes; only the message is ever cut."""
    text = json.dumps(words, ensure_ascii=False)
    message = str(words.get("message", ""))
    while len(text.encode()) > MAX_TERMINATION_MESSAGE and message:
        message = message[: len(message) * 3 // 4]
        text = json.dumps({**words, "message": message + " ..."}, ensure_ascii=False)
    return text


def _from_os_error(name: str, error: OSError) -> StepError:
    import errno

    where = f" on {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return StepError("DiskFull", f"no space left{where} in the step {name!r}", "give the volume more room")
    return StepError("InputOutputError", f"the step {name!r} failed{where}: {error.strerror or error}")


def _write_termination(log: str, words: str) -> None:
    """Outside a container the default file does not exist, and is not made: /dev is not ours."""
    path = Path(log)
    if log == DEFAULT_TERMINATION_LOG and not path.exists():
        return
    try:
        path.write_text(words, encoding="utf-8")
    except OSError as error:
        print(f"cannot write the termination message to {log}: {error}", file=sys.stderr)


def _server(step: Step) -> ProgressServer:
    host = step.environ.get("KAITO_HOST") or "0.0.0.0"  # noqa: S104 - a pod listens on its own address; the contract's default
    port = step.environ.get("KAITO_PORT") or "5000"
    if not port.isdecimal() or int(port) > 65535:
        raise InputError(
            "EnvironmentInvalid", f"KAITO_PORT is {port!r}, which is not a port", "use a number from 0 to 65535"
        )
    return ProgressServer(step.progress, host, int(port))


@contextlib.contextmanager
def _sigterm(step: Step) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows signal handlers in the main thread only; tests run steps in others
        return
    previous = signal.signal(signal.SIGTERM, step.on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
