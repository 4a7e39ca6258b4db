"""CustomResourceDefinitions, and the ConfigMaps with the defaults of tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kaito.api import crds
from kaito.catalog.models import base_tuning_config
from kaito.install.objects.common import HAS_PROVISIONER, LABELS, OPERATOR, metadata
from kaito.install.template import All, AnyOf, Document, Either, Equals, Free, Is
from kaito.workspace.names import TRAINING_CONFIG, default_config_name

KEEP = {"helm.sh/resource-policy": "keep"}
"""Helm leaves a CRD where it is when the release goes: with it all Workspaces would go."""


def definition_documents() -> list[Document]:
    """CRDs first, since what follows may need them."""
    karpenter = [_crd("crds-karpenter.yaml", make, _wanted) for make in _KARPENTER]
    return [_crd("crds.yaml", crds.workspace_crd, lambda name: Is("crds.install")), *karpenter]


_KARPENTER = (crds.node_claim_crd, crds.machine_crd, crds.node_pool_crd)


def default_config_documents() -> list[Document]:
    return [
        Document("default-configs.yaml", _config(method), Is("defaultConfigs.create")) for method in ("lora", "qlora")
    ]


def _crd(file: str, make: Callable[[], dict[str, Any]], wanted: Callable[[str], Any]) -> Document:
    body = make()
    own = body["metadata"]
    head = {**own, "labels": {"app.kubernetes.io/name": OPERATOR, LABELS: None}}
    head["annotations"] = {**own.get("annotations", {}), **KEEP}
    return Document(file, {**body, "metadata": head}, wanted(own["name"]))


def _wanted(name: str) -> AnyOf:
    automatic = All((Equals("crds.karpenter", "auto"), HAS_PROVISIONER, Free(name)))
    return AnyOf((Equals("crds.karpenter", "always"), automatic))


def _config(method: str) -> dict[str, Any]:
    """KAITO's names. Where a Workspace names no config, the operator reads these."""
    given = f"defaultConfigs.{method}"
    text = {TRAINING_CONFIG: Either(given, base_tuning_config(method))}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(default_config_name(method), OPERATOR),
        "data": text,
    }
