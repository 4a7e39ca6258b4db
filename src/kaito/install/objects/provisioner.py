"""The provisioner, and NVIDIA's device plugin for the nodes that it brings."""

from __future__ import annotations

from typing import Any

from kaito.install.objects.common import (
    HAS_PROVISIONER,
    IS_AZURE,
    IS_WORKLOAD_IDENTITY,
    LABELS,
    PROVISIONER,
    common_flags,
    common_ports,
    deployment,
    metrics_port,
    service,
    service_account,
)
from kaito.install.template import All, AnyOf, Block, Document, Equals, Image, Is, Splice, Text, Value, When

FILE = "provisioner.yaml"
PLUGIN = "kaito-nvidia-device-plugin"
PLUGIN_DIR = "/var/lib/kubelet/device-plugins"


def provisioner_documents() -> list[Document]:
    identity = {
        "azure.workload.identity/client-id": Value("provisioner.azure.clientId"),
        "azure.workload.identity/tenant-id": Value("provisioner.azure.tenantId"),
    }
    account = service_account(PROVISIONER, "provisioner", When(IS_WORKLOAD_IDENTITY, identity))
    pod_labels = {"azure.workload.identity/use": When(IS_WORKLOAD_IDENTITY, "true")}
    has_account = All((HAS_PROVISIONER, Is("provisioner.serviceAccount.create")))
    return [
        Document("serviceaccounts.yaml", account, has_account),
        Document(FILE, deployment(PROVISIONER, "provisioner", _container(), pod_labels), HAS_PROVISIONER),
        Document("services.yaml", service(PROVISIONER, [metrics_port()]), HAS_PROVISIONER),
        Document("device-plugin.yaml", _device_plugin(), _has_plugin()),
    ]


def _container() -> dict[str, Any]:
    return {
        "image": Image("operator.image"),
        "imagePullPolicy": Value("operator.image.pullPolicy"),
        "args": ["provisioner", Text(("--provider=", Value("provisioner.provider"))), *common_flags("provisioner")],
        "env": When(
            AnyOf((IS_AZURE, Is("provisioner.extraEnv"))),
            [When(IS_AZURE, _azure_environment()), Splice("provisioner.extraEnv")],
        ),
        "ports": common_ports(),
    }


def _azure_environment() -> list[Any]:
    variables = {
        "ARM_SUBSCRIPTION_ID": "subscriptionId",
        "ARM_RESOURCE_GROUP": "resourceGroup",
        "AZURE_CLUSTER_NAME": "clusterName",
        "AZURE_TENANT_ID": "tenantId",
        "AZURE_CLIENT_ID": "clientId",
        "AZURE_ENVIRONMENT": "environment",
        "KAITO_AZURE_CREDENTIAL": "credential",
    }
    return [{"name": name, "value": Value(f"provisioner.azure.{key}")} for name, key in variables.items()]


def _has_plugin() -> AnyOf:
    automatic = All((Equals("nvidiaDevicePlugin.enabled", "auto"), HAS_PROVISIONER, IS_AZURE))
    return AnyOf((Equals("nvidiaDevicePlugin.enabled", "always"), automatic))


def _device_plugin() -> dict[str, Any]:
    """AKS installs the driver on GPU nodes, but nothing that offers the GPUs to pods."""
    chosen = {"app.kubernetes.io/name": PLUGIN}
    labels: dict[Any, Any] = {**chosen, LABELS: None}
    head = {"name": PLUGIN, "namespace": Value("nvidiaDevicePlugin.namespace"), "labels": labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": head,
        "spec": {
            "selector": {"matchLabels": chosen},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": chosen}, "spec": _plugin_pod()},
        },
    }


def _plugin_pod() -> dict[str, Any]:
    container = {
        "name": "nvidia-device-plugin",
        "image": Image("nvidiaDevicePlugin.image"),
        "imagePullPolicy": Value("nvidiaDevicePlugin.image.pullPolicy"),
        "env": [{"name": "FAIL_ON_INIT_ERROR", "value": "false"}, {"name": "PASS_DEVICE_SPECS", "value": "true"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": Block("nvidiaDevicePlugin.resources"),
        "volumeMounts": [{"name": "device-plugins", "mountPath": PLUGIN_DIR}],
    }
    return {
        "priorityClassName": "system-node-critical",
        "automountServiceAccountToken": False,
        "nodeSelector": Block("nvidiaDevicePlugin.nodeSelector"),
        "tolerations": [
            {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Exists", "effect": "NoSchedule"},
        ],
        "containers": [container],
        "volumes": [{"name": "device-plugins", "hostPath": {"path": PLUGIN_DIR}}],
    }
