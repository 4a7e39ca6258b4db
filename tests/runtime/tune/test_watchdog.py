"""A training that stands still is said, once, and given up in the end; time is an input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.errors import StepError
from kaito.runtime.progress import Progress
from kaito.runtime.step import Step
from kaito.runtime.tune.watchdog import BEFORE_FIRST, LEAST, Watchdog


class Scene:
    def __init__(self, **variables: str) -> None:
        self.now = 0.0
        self.given_up: list[StepError] = []
        self.step = Step("tune", variables, Progress("tune"), clock=lambda: self.now)
        self.said: list[str] = []
        self.step.say = lambda event, **fields: self.said.append(event)  # type: ignore[method-assign]
        self.watchdog = Watchdog(self.step, self.given_up.append)

    def after(self, seconds: float) -> dict[str, Any]:
        """Look once after some silence; what `/progress` then says."""
        self.now += seconds
        self.watchdog.look()
        return self.step.progress.snapshot()


def test_the_first_step_may_take_long() -> None:
    scene = Scene()
    assert scene.after(BEFORE_FIRST - 1)["state"] == "Running"
    assert scene.after(2)["reason"] == "TrainingStalled"


@pytest.mark.parametrize(("longest", "patience"), [(1.0, LEAST), (60.0, 600.0)])
def test_ten_times_the_longest_step_and_at_least_five_minutes(longest: float, patience: float) -> None:
    scene = Scene()
    for number, seconds in enumerate((0.0, longest, longest / 2)):
        scene.now += seconds
        scene.watchdog.alive(number)
    assert scene.after(patience - 1)["state"] == "Running"
    said = scene.after(2)
    assert said["state"] == "Waiting"
    assert f"after step 2 (the longest took {longest:.1f} s)" in said["message"]
    assert "resumes from the last checkpoint" in said["hint"]
    scene.after(30)
    assert scene.said == ["training is stalled"], "said once"


def test_life_ends_the_alarm() -> None:
    scene = Scene(KAITO_STALL_SECONDS="10")
    scene.watchdog.alive(1)
    assert scene.after(11)["state"] == "Waiting"
    scene.watchdog.alive(None)  # an evaluation is life too
    assert scene.after(9)["state"] == "Running"
    assert scene.said == ["training is stalled", "training goes on"]


@pytest.mark.parametrize(("limit", "given_up"), [("100", True), ("0", False)])
def test_in_the_end_it_gives_up(limit: str, given_up: bool) -> None:
    scene = Scene(KAITO_STALL_SECONDS="10", KAITO_STALL_LIMIT_SECONDS=limit)
    scene.watchdog.alive(1)
    scene.after(90)
    assert not scene.given_up
    scene.after(20)
    assert [failure.reason for failure in scene.given_up] == (["TrainingStalled"] if given_up else [])


def test_giving_up_ends_the_process_with_its_words(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import threading, os\n"
        "import kaito.runtime.tune.watchdog as w\n"
        "from kaito.runtime.step import Step\n"
        "from kaito.runtime.progress import Progress\n"
        "w.LOOK = 0.05\n"
        "with w.Watchdog(Step('tune', os.environ, Progress('tune'))) as dog:\n"
        "    dog.alive(3)\n"
        "    threading.Event().wait()\n"  # what hangs
    )
    log = tmp_path / "last-words"
    variables = {"KAITO_STALL_SECONDS": "0.2", "KAITO_STALL_LIMIT_SECONDS": "0.4", "KAITO_TERMINATION_LOG": str(log)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert json.loads(log.read_bytes())["reason"] == "TrainingStalled"
    assert json.loads(done.stderr.splitlines()[-1])["reason"] == "TrainingStalled"
    assert "in wait" in done.stderr, "the log shows where each thread stands"
