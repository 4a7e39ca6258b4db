"""Every example is applied, as a user would: checked by the server, admitted by the operator, and then acted on."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.kube.admission import WEBHOOKS
from kaito.kube.client import APPLY_PATCH
from kaito.workspace.admission import CONFIGURATION, AdmissionConfig, run_admission
from kaito.workspace.operator import OperatorConfig
from tests.workspace.conftest import Stage

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MODES = {"own-nodes": "byo", "karpenter": "karpenter"}
"""By folder; all others are for the gpu-provisioner."""
FILES = sorted(EXAMPLES.rglob("*.yaml"))
PATHS = {
    "Workspace": "apis/kaito.sh/{}/namespaces/default/workspaces",
    "ConfigMap": "api/{}/namespaces/default/configmaps",
}
UP_ALLOWS = ("127.0.0.0/8",)
"""`kaito up` lets data come from its own registry, which examples/tiny uses."""
OUTSIDE = {
    "AwaitingNodes",
    "NodeClaimNotReady",
    "PodStarting",
    "SecretMissing",
    "Unschedulable",
    "WorkspaceTuningJobStatusPending",
    "NodePluginsNotReady",
}
"""What an example may wait for on a cluster without nodes, kubelets and the user's own secrets."""


def mode_of(file: Path) -> str:
    return MODES.get(file.relative_to(EXAMPLES).parts[0], "gpu-provisioner")


def objects(file: Path) -> Iterator[dict[str, Any]]:
    yield from (one for one in yaml.safe_load_all(file.read_text()) if one)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_it_says_what_it_shows_and_what_to_replace(file: Path) -> None:
    head = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").strip())
    text = " ".join(head)
    assert re.match(r"(Serve|Fine-tune|Tune) ", text)
    assert "Replace " in text
    replaces_nothing = "Replace nothing" in text
    assert replaces_nothing != ("your-" in file.read_text() or "example.com" in file.read_text() or _names_one(text))


def _names_one(text: str) -> bool:
    return re.search(r"Replace the (model|flags|instance type|Secret|name of|label|settings|number)", text) is not None


def test_names_do_not_collide() -> None:
    names = [one["metadata"]["name"] for file in FILES for one in objects(file)]
    assert sorted(names) == sorted(set(names)), "two examples applied together would overwrite each other"


def a_node(name: str, label: str, product: str, memory: int, more: dict[str, str]) -> dict[str, Any]:
    labels = {
        "gpu": label,
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.memory": str(memory),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {
            "allocatable": {"nvidia.com/gpu": "4", **more},
            "capacity": {"nvidia.com/gpu": "4", **more},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


@pytest.mark.parametrize("mode", ["gpu-provisioner", "karpenter", "byo"])
async def test_all_examples_are_admitted_and_acted_on(stage: Stage, mode: str) -> None:
    for number in range(3):
        put(stage, "api/v1/nodes", a_node(f"l40s-{number}", "l40s", "NVIDIA-L40S", 46068, {}))
    put(stage, "api/v1/nodes", a_node("a100", "a100", "NVIDIA-A100-SXM4-80GB", 81920, {"nvidia.com/mig-3g.40gb": "2"}))
    config = {"nodes": mode, "allow_data_from": UP_ALLOWS}
    stage.operate(**config)
    await admit(stage, OperatorConfig(**config))
    applied = []
    for file in FILES:
        if mode_of(file) == mode:
            for one in objects(file):
                await asyncio.to_thread(apply, stage, file, one, "All")
                await asyncio.to_thread(apply, stage, file, one, "")
                applied += [one["metadata"]["name"]] if one["kind"] == "Workspace" else []
    assert applied
    for name in applied:
        condition = await seen(stage, name)
        assert condition["reason"] in OUTSIDE, f"{name}: {condition['reason']}: {condition['message']}"


def put(stage: Stage, path: str, body: dict[str, Any]) -> None:
    answer = stage.cluster.request("POST", f"/{path}", body)
    assert answer.code == 201, answer.body
    merge = {"Content-Type": "application/merge-patch+json"}
    patch = json.dumps({"status": body["status"]})
    assert stage.cluster.request("PATCH", f"/{path}/{body['metadata']['name']}/status", patch, merge).code == 200


async def admit(stage: Stage, config: OperatorConfig) -> None:
    """Run the webhook and return when the API server knows of it."""
    where = AdmissionConfig("127.0.0.1", 0, "", "default")
    stage.play(lambda: run_admission(stage.user, config.settings, where))
    async with asyncio.timeout(60):
        while await stage.user.find(WEBHOOKS, CONFIGURATION) is None:
            await asyncio.sleep(0.02)


def apply(stage: Stage, file: Path, body: dict[str, Any], dry_run: str) -> None:
    path = PATHS[body["kind"]].format(body["apiVersion"].rpartition("/")[2])
    query = f"fieldManager=test&force=true&fieldValidation=Strict{'&dryRun=All' if dry_run else ''}"
    target = f"/{path}/{body['metadata']['name']}?{query}"
    answer = stage.cluster.request("PATCH", target, json.dumps(body), {"Content-Type": APPLY_PATCH})
    assert answer.code in (200, 201), f"{file}: {answer.body.decode()}"
    assert "Warning" not in answer.headers, f"{file}: {answer.headers['Warning']}"


async def seen(stage: Stage, name: str) -> dict[str, Any]:
    """The root condition, once the operator has looked at the Workspace."""
    async with asyncio.timeout(60):
        while not (condition := await stage.condition(name, "WorkspaceReady")):
            await asyncio.sleep(0.05)
    return condition
