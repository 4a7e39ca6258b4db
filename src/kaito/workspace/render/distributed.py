"""One server on several nodes: pod 0 leads a Ray cluster and answers, the others bring their GPUs.

The commands are those that vLLM documents for multi-node serving: `ray start --head` on the leader, `ray start
--address` on the workers, then the engine on the leader alone, which spreads itself over the Ray cluster.
"""

from __future__ import annotations

from typing import Any

from kaito.api.workspace import Workspace
from kaito.workspace.names import HTTP_PORT, headless_name

RAY_PORT = 6379


def leader_address(workspace: Workspace) -> str:
    """Pod 0 under the headless Service, which names pods before they are ready."""
    metadata = workspace.metadata
    return f"{metadata.name}-0.{headless_name(workspace)}.{metadata.namespace}.svc.cluster.local:{RAY_PORT}"


def distribute(container: dict[str, Any], workspace: Workspace, nodes: int, startup_tries: int) -> dict[str, Any]:
    """The serve container as leader or worker, by the index of its pod. `startup_tries` are 2 seconds each."""
    index = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    address = {"fieldRef": {"fieldPath": "status.podIP"}}
    environment = [
        {"name": "POD_INDEX", "valueFrom": index},
        {"name": "VLLM_HOST_IP", "valueFrom": address},
    ]
    return {
        **container,
        "command": ["/bin/sh", "-c", _script(container["command"], workspace, nodes)],
        "env": [*container["env"], *environment],
        "ports": [*container["ports"], {"name": "ray", "containerPort": RAY_PORT}],
        "startupProbe": _probe(
            workspace, periodSeconds=10, failureThreshold=max(1, startup_tries // 5), timeoutSeconds=10
        ),
        # A Ray worker that dies takes the engine with it: the whole pod has to come back and join again.
        "livenessProbe": _probe(workspace, periodSeconds=10, failureThreshold=6, timeoutSeconds=10),
        "readinessProbe": _probe(workspace, periodSeconds=5, failureThreshold=3, timeoutSeconds=10),
    }


def _script(serve: list[str], workspace: Workspace, nodes: int) -> str:
    alive = "import ray; ray.init(address='auto'); print(sum(node['Alive'] for node in ray.nodes()))"
    lines = [
        'if [ "${POD_INDEX}" = "0" ]; then',
        f"  ray start --head --port={RAY_PORT} --disable-usage-stats || exit 1",
        f'  until [ "$(python3 -c "{alive}")" = "{nodes}" ]; do sleep 2; done',
        f"  exec {' '.join(serve)}",
        "else",
        f"  until ray start --address={leader_address(workspace)} --block; do sleep 2; done",
        "fi",
    ]
    return "\n".join(lines)


def _probe(workspace: Workspace, **timing: int) -> dict[str, Any]:
    """The leader is asked over HTTP; a worker is well while the leader's Ray is."""
    ask = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{HTTP_PORT}/health', timeout=5)"
    lines = [
        'if [ "${POD_INDEX}" = "0" ]; then',
        f'  python3 -c "{ask}"',
        f"else ray health-check --address {leader_address(workspace)}",
        "fi",
    ]
    return {"exec": {"command": ["/bin/sh", "-c", "\n".join(lines)]}, **timing}
