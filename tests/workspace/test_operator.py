"""The process: its flags, its health and metrics, and that it goes without what it does not need."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from kaito.kube.errors import ConfigError
from kaito.kube.resources import LEASES
from kaito.workspace.operator import LEASE, OperatorConfig, run_operator
from tests.workspace.builders import INFERENCE
from tests.workspace.conftest import Stage
from tests.workspace.node_side import until

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nodes": ({"nodes": "cloud"}, "gpu-provisioner, karpenter, byo"),
    "node API": ({"node_api": "v2"}, "auto, nodeclaim-v1"),
    "node class": ({"node_class": "AKSNodeClass"}, "group/version/kind/name"),
    "pools": ({"node_api": "nodepool"}, "--nodes karpenter"),
    "lease": ({"lease_duration": 0}, "12"),
    "engine": ({"engine": "llama"}, "auto, vllm, transformers"),
    "cloud": ({"cloud": "ibm"}, "azure, aws, gcp"),
    "network": ({"allow_data_from": ["everything"]}, "10.0.0.0/8"),
}


@pytest.mark.parametrize(("flags", "words"), BAD.values(), ids=BAD)
def test_a_flag_that_is_none_is_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OperatorConfig(**flags)


def test_the_node_class_of_the_flag_is_the_claims() -> None:
    chosen = OperatorConfig(node_class="karpenter.k8s.aws/v1/EC2NodeClass/gpu").settings.node_class
    assert (chosen.group, chosen.version, chosen.kind, chosen.name) == (
        "karpenter.k8s.aws",
        "v1",
        "EC2NodeClass",
        "gpu",
    )


def test_a_cloud_means_its_default_node_class() -> None:
    assert OperatorConfig(cloud="aws").settings.node_class.kind == "EC2NodeClass"
    assert OperatorConfig().settings.node_class.kind == "AKSNodeClass"


def test_the_operator_starts_without_machine_learning() -> None:
    program = "import sys, kaito.workspace.operator; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


async def test_health_and_metrics(stage: Stage) -> None:
    port = free_port()
    config = OperatorConfig(kubeconfig=stage.cluster.kubeconfig, host="127.0.0.1", health_port=port, metrics_port=port)
    running = asyncio.ensure_future(run_operator(config))
    stage.play(stage.side.run)
    await stage.apply(INFERENCE)
    await stage.wait("served", "WorkspaceReady")
    assert await until(lambda: get(port, "readyz")) == "ok"
    assert await get(port, "healthz") == "ok"
    text = await get(port, "metrics")
    assert 'kaito_workspace_count{phase="succeeded",state="Ready"} 1.0' in text
    assert 'kaito_workspace_preset_count{preset_name="tiny-phi-3"} 1.0' in text
    assert "kaito_orphaned_node_objects 0.0" in text
    assert 'kaito_api_calls_total{verb="apply"}' in text
    assert 'kaito_reconcile_total{controller="workspace",outcome="done"}' in text
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_replica_that_stands_by_is_ready(stage: Stage) -> None:
    """Otherwise a rolling update waits for the new pod, which waits for the lease of the old one."""
    await stage.user.create(LEASES, {"metadata": {"name": LEASE}, "spec": HELD}, "default")
    port = free_port()
    config = OperatorConfig(
        kubeconfig=stage.cluster.kubeconfig,
        host="127.0.0.1",
        health_port=port,
        leader_election=True,
        lease_namespace="default",
        lease_duration=600,
    )
    standing_by = asyncio.ensure_future(run_operator(config))
    assert await until(lambda: get(port, "readyz")) == "ok"
    assert (await stage.user.get(LEASES, LEASE, "default")).spec.holderIdentity == "another"
    standing_by.cancel()
    await asyncio.gather(standing_by, return_exceptions=True)


HELD = {"holderIdentity": "another", "leaseDurationSeconds": 600, "renewTime": "2026-07-01T12:00:00.000000Z"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def get(port: int, path: str) -> str:
    def fetch() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.URLError:
            return ""

    return await asyncio.to_thread(fetch)
