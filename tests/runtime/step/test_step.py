"""The frame of a step: exit codes, last words, HTTP, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from kaito.runtime.errors import InputError, StepError
from kaito.runtime.main import main
from kaito.runtime.progress import Progress, ProgressServer
from kaito.runtime.step import Step, run_step


def environ(tmp_path: Path) -> dict[str, str]:
    return {"KAITO_HOST": "127.0.0.1", "KAITO_PORT": "0", "KAITO_TERMINATION_LOG": str(tmp_path / "last")}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("DataUnusable", "no row", "give one"), 2),
        (StepError("RegistryUnreachable", "no answer", ""), 1),
        (OSError(28, "No space left on device", "/x"), 1),
        (ValueError("boom"), 1),
    ],
    ids=["input", "step", "disk", "defect"],
)
def test_failure_becomes_code_and_last_words(
    error: Exception, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(step: Step) -> None:
        raise error

    assert run_step("data", fail, environ=environ(tmp_path)) == code
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert json.loads(last) == json.loads((tmp_path / "last").read_text())
    assert set(json.loads(last)) == {"reason", "message", "hint"}


def test_long_message_stays_json(tmp_path: Path) -> None:
    def fail(step: Step) -> None:
        raise InputError("DataUnusable", "ü" * 9000, "h")

    assert run_step("data", fail, environ=environ(tmp_path)) == 2
    words = (tmp_path / "last").read_bytes()
    assert len(words) <= 4096
    assert json.loads(words)["reason"] == "DataUnusable"


def test_success_writes_what_the_step_returns(tmp_path: Path) -> None:
    assert run_step("publish", lambda step: {"digest": "sha256:1"}, environ=environ(tmp_path)) == 0
    assert json.loads((tmp_path / "last").read_text()) == {"digest": "sha256:1"}


def test_missing_variable_is_wrong_input(tmp_path: Path) -> None:
    assert run_step("data", lambda step: {"x": step.require("KAITO_DATA_DIR")}, environ=environ(tmp_path)) == 2
    assert "KAITO_DATA_DIR" in json.loads((tmp_path / "last").read_text())["message"]


def test_bad_port_is_wrong_input(tmp_path: Path) -> None:
    assert run_step("data", lambda step: None, environ={**environ(tmp_path), "KAITO_PORT": "http"}) == 2


def test_port_in_use_is_said(tmp_path: Path) -> None:
    with ProgressServer(Progress("data"), "127.0.0.1", 0) as server:
        assert run_step("tune", lambda step: None, environ={**environ(tmp_path), "KAITO_PORT": str(server.port)}) == 1
    assert json.loads((tmp_path / "last").read_text())["reason"] == "PortUnavailable"


def get(port: int, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
        return response.status, response.read().decode()


def test_progress_health_and_metrics_answer_while_the_main_thread_works() -> None:
    progress = Progress("tune")
    with ProgressServer(progress, "127.0.0.1", 0) as server:
        progress.update(trainStep=3, loss=float("nan"), evalLoss=1.5)
        answers: dict[str, tuple[int, str]] = {}
        poller = threading.Thread(
            target=lambda: answers.update({p: get(server.port, p) for p in ("/progress", "/healthz", "/metrics")})
        )
        poller.start()
        while poller.is_alive():
            sum(range(1000))
        status, body = answers["/progress"]
        record = json.loads(body)
        assert status == 200
        assert record["step"] == "tune"
        assert record["state"] == "Running"
        assert record["trainStep"] == 3
        assert record["loss"] is None
        assert "kaito_tuning_eval_loss 1.5" in answers["/metrics"][1]
        assert answers["/healthz"] == (200, "ok\n")


def test_waiting_and_running_again() -> None:
    progress = Progress("publish")
    progress.waiting(StepError("PushUnauthorized", "refused", "mend the secret"))
    assert progress.snapshot()["state"] == "Waiting"
    assert progress.snapshot()["reason"] == "PushUnauthorized"
    progress.running("pushing")
    assert progress.snapshot()["reason"] == ""


SLEEPER = """
import sys, time
from kaito.runtime.step import run_step
def work(step):
    {body}
sys.exit(run_step("tune", work))
"""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("print('up', flush=True); time.sleep(60)", 1),
        ("exec('with step.saves_on_stop():\\n    print(\"up\", flush=True); step.stop.wait(60)')", 0),
    ],
    ids=["at once", "saves first"],
)
def test_sigterm(body: str, code: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER.format(body=body)],
        env={**os.environ, **environ(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    if code:
        assert json.loads(stderr.strip().splitlines()[-1])["reason"] == "Terminated"


def test_unknown_step_prints_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "publish" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["kaito.runtime.data.main", "kaito.runtime.publish.main", "kaito.runtime.adapter"])
def test_light_steps_never_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
