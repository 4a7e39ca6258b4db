"""What the operator's flags mean to the planners. `operator.OperatorConfig` is made into this once."""

from __future__ import annotations

from dataclasses import dataclass

from kaito.api.validation import NodeMode, Rules
from kaito.catalog.instances import find_instance_type, nearest_instance_types
from kaito.catalog.models import find_model, nearest_models

PROVISIONER_PATIENCE = 120.0
"""Seconds after which a claim that nobody touched means that no provisioner runs."""
NODE_PATIENCE = 300.0
"""Seconds that a node may be not ready before another one is asked for in its place."""


@dataclass(frozen=True)
class NodeClass:
    """Karpenter's reference to the cloud's own settings, opaque to us."""

    group: str = "karpenter.azure.com"
    version: str = "v1beta1"
    kind: str = "AKSNodeClass"
    name: str = "default"


CLOUD_NODE_CLASSES = {
    "azure": NodeClass(),
    "aws": NodeClass("karpenter.k8s.aws", "v1", "EC2NodeClass", "default"),
    "gcp": NodeClass("karpenter.k8s.gcp", "v1alpha1", "GCENodeClass", "default"),
}
"""What Karpenter's providers call their settings, and the name that their guides give the first one."""


@dataclass(frozen=True)
class Settings:
    node_mode: NodeMode
    runtime_image: str
    own_namespace: str = ""
    """The operator's, where the ConfigMaps with the defaults of tuning are."""
    allow_data_from: tuple[str, ...] = ()
    node_classes: tuple[str, ...] = ()
    engine: str = "auto"
    pull_secrets: tuple[str, ...] = ()
    """Secrets, in the Workspace's namespace, that open the registry of the runtime image."""
    insecure_registries: tuple[str, ...] = ()
    """Registries (host[:port]) that pods may speak to over plain http."""
    weights_storage_class: str = ""
    """Of the volumes that weights are fetched into; empty: the node's own disk."""
    node_class: NodeClass = NodeClass()
    """For claims and pools in the karpenter mode."""
    uses_pools: bool = False
    """Whether nodes of the karpenter mode are asked for by one NodePool each Workspace, and not by claims of ours."""

    @property
    def rules(self) -> Rules:
        """The world that a Workspace is validated against, from the catalogue."""
        return Rules(
            node_mode=self.node_mode,
            is_model=lambda name: find_model(name) is not None,
            nearest_models=nearest_models,
            is_instance_type=lambda name: find_instance_type(name) is not None,
            nearest_instance_types=nearest_instance_types,
            needs_token=_needs_token,
            node_classes=self.node_classes,
            allow_data_from=self.allow_data_from,
        )


def _needs_token(name: str) -> bool:
    model = find_model(name)
    return model is not None and model.is_gated
