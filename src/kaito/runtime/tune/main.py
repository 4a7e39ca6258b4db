"""`kaito-runtime tune`: train the adapter, survive, prove it, leave `adapter/` and `report.json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from kaito.runtime.errors import RuntimeFailure
from kaito.runtime.step import DEFAULT_TERMINATION_LOG, Step, end_with, run_step


def run() -> int:
    """The step in this process, or in one process for each GPU of the node."""
    from kaito.runtime.tune.launch import supervise, wanted_processes

    if "RANK" in os.environ:
        return run_step("tune", tune, listen=os.environ["RANK"] == "0")
    try:
        processes = wanted_processes(os.environ)
    except RuntimeFailure as failure:
        log = os.environ.get("KAITO_TERMINATION_LOG", DEFAULT_TERMINATION_LOG)
        return end_with(log, failure.exit_code, failure.as_dict())
    return run_step("tune", tune) if processes == 1 else supervise(processes, os.environ)


def tune(step: Step) -> Mapping[str, Any]:
    """The step. What is finished is not done again; the config is checked before torch is loaded."""
    from kaito.runtime.tune.remote import bring_checkpoint
    from kaito.runtime.tune.request import finished, read_request
    from kaito.runtime.tune.saved import remove_useless

    step.is_quiet = step.environ.get("RANK", "0") != "0"
    request = read_request(step)
    done = finished(request)
    if done is not None:
        step.say("tuning is already done", evalLoss=done.get("evalLoss"))
        return words(done)
    if not step.is_quiet:  # the other processes wait for the first one before they look
        remove_useless(request.checkpoints, request.identity)
        bring_checkpoint(step, request)
    step.progress.running("loading the libraries")
    from kaito.runtime.tune.session import train

    return words(train(step, request))


def words(report: Mapping[str, Any]) -> dict[str, Any]:
    return {key: report.get(key) for key in ("steps", "evalLoss", "baseEvalLoss", "seconds")}
