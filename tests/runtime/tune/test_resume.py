"""A killed trainer comes back: the same adapter as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.runtime.tiny import chats
from tests.runtime.tune.runs import (
    adapter,
    environment,
    finish,
    largest_difference,
    start,
    write_config,
    write_data,
)

pytestmark = pytest.mark.slow
STEPS = 60


def setting(root: Path, model: Path, method: str) -> dict[str, str]:
    root.mkdir()
    data = write_data(root / "data", chats(40), chats(4))
    training = {"num_train_epochs": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "seed": 7}
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}  # dropout: the random state must come back too
    config = write_config(root / "config.yaml", TrainingArguments=training, LoraConfig=lora)
    return environment(root, model, data, config, KAITO_METHOD=method, KAITO_CHECKPOINT_SECONDS="0")


def kill_at(environ: dict[str, str], step: int) -> bool:
    """Start, and `kill -9` once the trainer says that it is at `step` or later. False when it ended before."""
    process = start(environ)
    assert process.stdout is not None
    killed = False
    for line in process.stdout:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "train" and event["trainStep"] >= step:
            process.kill()
            killed = True
            break
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    process.wait(30)
    return killed and process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_killed_runs_end_with_the_same_adapter(method: str, model: Path, tmp_path: Path) -> None:
    whole = setting(tmp_path / "whole", model, method)
    finish(whole)
    broken = setting(tmp_path / "broken", model, method)
    rng = random.Random(method)
    kills = sum(kill_at(broken, rng.randrange(low, low + 12)) for low in (1, 15, 35))
    assert kills >= 2, "the trainer was not killed often enough to prove anything"
    log = finish(broken)
    assert any(event["event"] == "resuming" for event in log)
    assert largest_difference(adapter(tmp_path / "whole"), adapter(tmp_path / "broken")) < 1e-4
    one, other = (json.loads((tmp_path / name / "out" / "report.json").read_bytes()) for name in ("whole", "broken"))
    assert [step for step, _ in other["curve"]["train"]] == list(range(1, STEPS + 1))
    assert other["evalLoss"] == pytest.approx(one["evalLoss"], abs=1e-4)
    for (_, a), (_, b) in zip(one["curve"]["train"], other["curve"]["train"], strict=True):
        assert a == pytest.approx(b, abs=1e-3)


@pytest.mark.soak
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_twenty_kills_at_any_moment_change_nothing(method: str, model: Path, tmp_path: Path) -> None:
    """Not at the end of a step but whenever it comes, in the middle of saving too."""
    whole = long_setting(tmp_path / "whole", model, method)
    finish(whole, timeout=900)
    broken = long_setting(tmp_path / "broken", model, method)
    rng = random.Random(method)
    assert sum(kill_after(broken, rng.uniform(0.0, 1.0)) for _ in range(20)) == 20, "the training was too short"
    log = finish(broken, timeout=900)
    assert any(event["event"] == "resuming" for event in log)
    assert largest_difference(adapter(tmp_path / "whole"), adapter(tmp_path / "broken")) < 1e-4


def long_setting(root: Path, model: Path, method: str) -> dict[str, str]:
    environ = setting(root, model, method)
    training = {"num_train_epochs": 60, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "seed": 7}
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
    write_config(Path(environ["KAITO_CONFIG"]), TrainingArguments=training, LoraConfig=lora)
    return {**environ, "KAITO_CHECKPOINT_SECONDS": "0.1"}


def kill_after(environ: dict[str, str], seconds: float) -> bool:
    """`kill -9` some time after training has begun. False when it ended before."""
    process = start(environ)
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    assert process.stdout is not None
    for line in process.stdout:
        if '"event": "training"' in line:
            time.sleep(seconds)
            process.kill()
            break
    process.communicate()
    watchdog.cancel()
    return process.returncode == -signal.SIGKILL


def test_sigterm_saves_and_loses_at_most_one_step(model: Path, tmp_path: Path) -> None:
    environ = {**setting(tmp_path / "run", model, "lora"), "KAITO_CHECKPOINT_SECONDS": "3600"}
    process = start(environ)
    assert process.stdout is not None
    seen = 0
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    for line in process.stdout:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "train" and event["trainStep"] < STEPS:
            seen = event["trainStep"]
            process.send_signal(signal.SIGTERM)
            break
    _, stderr = process.communicate(timeout=60)
    watchdog.cancel()
    assert process.returncode == 1
    assert json.loads(stderr.strip().splitlines()[-1])["reason"] == "Terminated"
    (checkpoint,) = (tmp_path / "run" / "out" / "checkpoints").glob("checkpoint-*")
    saved = int(checkpoint.name.rpartition("-")[2])
    assert saved >= seen
    log = finish(environ)
    assert {"event": "resuming", "checkpoint": checkpoint.name}.items() <= next(
        event.items() for event in log if event["event"] == "resuming"
    )


def test_a_finished_run_is_not_run_again(model: Path, tmp_path: Path) -> None:
    environ = setting(tmp_path / "run", model, "lora")
    finish(environ)
    before = (tmp_path / "run" / "out" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    log = finish(environ, timeout=20)
    assert [event["event"] for event in log] == ["tuning is already done"]
    assert (tmp_path / "run" / "out" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert not (tmp_path / "run" / "out" / "checkpoints").exists()


def test_another_config_is_another_run(model: Path, tmp_path: Path) -> None:
    environ = setting(tmp_path / "run", model, "lora")
    assert kill_at(environ, 20)
    write_config(Path(environ["KAITO_CONFIG"]), TrainingArguments={"max_steps": 3}, LoraConfig={"r": 2})
    log = finish(environ)
    assert not any(event["event"] == "resuming" for event in log)


def test_half_a_checkpoint_is_thrown_away(model: Path, tmp_path: Path) -> None:
    environ = setting(tmp_path / "run", model, "lora")
    assert kill_at(environ, 20)
    for mark in (tmp_path / "run" / "out" / "checkpoints").glob("*/complete.json"):
        mark.unlink()
    assert not any(event["event"] == "resuming" for event in finish(environ))
