"""What a new control plane finds in its API and its folder: the CRDs, the registry's login, the sample data."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from importlib import resources
from pathlib import Path
from typing import Any

from kaito.kube.client import Client
from kaito.kube.resources import CRDS, SECRETS
from kaito.local.registry import Registry

log = logging.getLogger(__name__)

REGISTRY_SECRET = "local-registry"  # noqa: S105 - the name of a Secret
ESTABLISH_SECONDS = 10.0


def crds() -> list[dict[str, Any]]:
    from kaito.api import crds as made

    return [made.workspace_crd(), made.node_claim_crd(), made.machine_crd(), made.node_pool_crd()]


async def apply_crds(client: Client) -> None:
    """Apply the kinds of kaito.sh and karpenter.sh, and wait until the API serves them. Raises KubeError."""
    made = crds()
    await asyncio.gather(*(client.apply(CRDS, crd) for crd in made))
    async with asyncio.timeout(ESTABLISH_SECONDS):
        for crd in made:
            while not await _is_established(client, crd["metadata"]["name"]):
                await asyncio.sleep(0.02)


async def _is_established(client: Client, name: str) -> bool:
    found = await client.get(CRDS, name)
    conditions = found.status.get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


async def apply_registry_secret(client: Client, registry: Registry) -> None:
    """The Secret `local-registry` in the namespace default: a docker config for the local registry."""
    config = json.dumps(registry.credentials.docker_config(registry.name))
    body = {
        "metadata": {"name": REGISTRY_SECRET},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }
    await client.apply(SECRETS, body, "default")


def copy_samples(data: Path) -> None:
    """The package's sample data sets, where a person's own are: what is there already stays as it is."""
    data.mkdir(parents=True, exist_ok=True)
    for entry in resources.files("kaito.local").joinpath("samples").iterdir():
        target = data / entry.name
        if entry.is_file() and not entry.name.startswith("_") and not target.exists():
            target.write_bytes(entry.read_bytes())
