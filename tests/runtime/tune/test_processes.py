"""Several processes train as one, as the GPUs of a node do: here two on the processor, which talk by gloo."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest

from kaito.runtime.errors import InputError
from kaito.runtime.tune.launch import supervise, wanted_processes
from tests.runtime.tiny import chats
from tests.runtime.tune.runs import (
    adapter,
    environment,
    events,
    finish,
    largest_difference,
    start,
    write_config,
    write_data,
)

pytestmark = pytest.mark.slow


def setting(root: Path, model: Path, processes: int, batch: int, **more: str) -> dict[str, str]:
    root.mkdir()
    data = write_data(root / "data", chats(32), chats(4))
    training = {"num_train_epochs": 3, "per_device_train_batch_size": batch, "learning_rate": 1e-2, "max_grad_norm": 1}
    config = write_config(root / "config.yaml", TrainingArguments=training, LoraConfig={"r": 4, "lora_alpha": 8})
    return environment(root, model, data, config, KAITO_PROCESSES=str(processes), **more)


def test_two_processes_learn_what_one_does_with_batches_twice_as_large(model: Path, tmp_path: Path) -> None:
    finish(setting(tmp_path / "one", model, 1, 4))
    log = finish(setting(tmp_path / "two", model, 2, 2))
    assert [event["event"] for event in log].count("tuning is done") == 1, "only the first process speaks"
    one, two = (json.loads((tmp_path / name / "out" / "report.json").read_bytes()) for name in ("one", "two"))
    assert (one["steps"], two["steps"], two["processes"]) == (24, 24, 2)
    assert two["evalLoss"] == pytest.approx(one["evalLoss"], abs=1e-3)
    assert largest_difference(adapter(tmp_path / "one"), adapter(tmp_path / "two")) < 1e-2
    assert json.loads((tmp_path / "two" / "last-words").read_bytes())["evalLoss"] == two["evalLoss"]


def test_told_to_stop_all_save_together_and_resume(model: Path, tmp_path: Path) -> None:
    environ = setting(tmp_path / "run", model, 2, 1, KAITO_CHECKPOINT_SECONDS="3600")
    process = start(environ)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stdout is not None
    for line in process.stdout:
        if '"event": "train"' in line:
            process.send_signal(signal.SIGTERM)
            break
    _, stderr = process.communicate(timeout=120)
    watchdog.cancel()
    assert process.returncode == 1
    assert json.loads(stderr.strip().splitlines()[-1])["reason"] == "Terminated"
    (checkpoint,) = (tmp_path / "run" / "out" / "checkpoints").glob("checkpoint-*")
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert any(event["event"] == "resuming" for event in finish(environ))


@pytest.mark.soak
def test_wrong_input_is_said_by_the_one_that_found_it(model: Path, tmp_path: Path) -> None:
    environ = setting(tmp_path / "run", model, 2, 1)
    write_config(Path(environ["KAITO_CONFIG"]), LoraConfig={"target_modules": ["absent"]})
    process = start(environ)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    words = json.loads(stderr.strip().splitlines()[-1])
    assert words["reason"] == "ConfigInvalid"
    assert "no module 'absent'" in words["message"]
    assert json.loads((tmp_path / "run" / "last-words").read_bytes()) == words
    assert not any(event["event"] == "tuning is done" for event in events(stdout))


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_a_wrong_number_of_processes(text: str) -> None:
    with pytest.raises(InputError, match="KAITO_PROCESSES"):
        wanted_processes({"KAITO_PROCESSES": text})


def test_memory_that_runs_out_starts_all_again_with_half_the_batch(tmp_path: Path) -> None:
    """The processes are small programs in the place of training: one has no room for more than two rows."""
    program = tmp_path / "kaito" / "runtime" / "main.py"
    program.parent.mkdir(parents=True)
    for package in (program.parent, program.parent.parent):
        (package / "__init__.py").touch()
    program.write_text(
        "import json, os, pathlib, sys, time\n"
        "given = json.loads(os.environ.get('KAITO_TRAIN_BATCH') or '{\"batch\": 8, \"accumulate\": 1}')\n"
        "log = pathlib.Path(os.environ['KAITO_TERMINATION_LOG'])\n"
        "if given['batch'] > 2 and os.environ['RANK'] == '1':\n"
        "    half = {'batch': given['batch'] // 2, 'accumulate': given['accumulate'] * 2}\n"
        "    log.write_text(json.dumps({'reason': 'OutOfMemory', 'message': '', 'hint': '', **half}))\n"
        "    sys.exit(75)\n"
        "if given['batch'] > 2:\n"
        "    time.sleep(600)\n"  # waits for the other, as in a collective; it is killed
        "log.write_text(json.dumps(given))\n"
    )
    log = tmp_path / "last-words"
    environ = {"PYTHONPATH": str(tmp_path), "KAITO_TERMINATION_LOG": str(log), "PATH": "/usr/bin:/bin"}
    assert supervise(2, environ, failed=0.5) == 0
    assert json.loads(log.read_bytes()) == {"batch": 2, "accumulate": 4}
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert supervise(2, environ) == 1
    assert json.loads(log.read_bytes())["reason"] == "TrainerKilled"
