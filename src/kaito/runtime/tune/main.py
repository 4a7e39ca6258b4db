"""`kaito-runtime tune`: train the adapter, survive, prove it, leave `adapter/` and `report.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.runtime.step import Step, run_step


def run() -> int:
    return run_step("tune", tune)


def tune(step: Step) -> Mapping[str, Any]:
    """The step. What is finished is not done again; the config is checked before torch is loaded."""
    from kaito.runtime.tune.request import finished, read_request

    request = read_request(step)
    done = finished(request)
    if done is not None:
        step.say("tuning is already done", evalLoss=done.get("evalLoss"))
        return words(done)
    step.progress.running("loading the libraries")
    from kaito.runtime.tune.session import train

    return words(train(step, request))


def words(report: Mapping[str, Any]) -> dict[str, Any]:
    return {key: report.get(key) for key in ("steps", "evalLoss", "baseEvalLoss", "seconds")}
