"""The demonstration: the promised path on this machine, from an empty folder to a tuned model that answers.

Everything runs as it would for a user: a detached control plane of its own, manifests applied to its API, HTTP calls to
the Service's cluster IP. It stops what it started, however it ends.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from kaito.cli.demo.show import Show
from kaito.cli.demo.stages import Demo
from kaito.cli.errors import CommandError
from kaito.local import up as machine

__all__ = ["run_demo"]


def run_demo(folder: Path) -> None:
    """Run it in `folder`, and leave `report.json` there. Raises CommandError with what went wrong and where to look."""
    show = Show()
    home = folder / "home"
    folder.mkdir(parents=True, exist_ok=True)
    machine.down(home)  # what a killed run left behind
    shutil.rmtree(home, ignore_errors=True)
    try:
        running = _start(show, home)
        report = asyncio.run(Demo(running, folder, show).run())
    finally:
        with show.step("stopping", "Stopping everything that was started"):
            machine.down(home)
    report["seconds"] = show.seconds
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    show.summary(report, folder / "report.json")
    if report["after"] < report["total"] * 0.9 or report["before"] > report["total"] * 0.2:
        raise CommandError(
            f"the tuning did not teach what it should: {report['before']} right before, {report['after']} after"
        )


def _start(show: Show, home: Path) -> machine.Running:
    with show.step("control plane", f"Starting a control plane on this machine (state in {home})"):
        try:
            running = machine.detach(machine.UpConfig(home=home, port=0, registry_port=0))
        except machine.UpError as error:
            raise CommandError(str(error)) from error
    show.say(
        f"a Kubernetes API answers at {running.url}; a registry and your data at 127.0.0.1:{running.registry_port}"
    )
    show.say(f"look around meanwhile: export KUBECONFIG={running.kubeconfig}")
    return running
