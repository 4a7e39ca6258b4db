"""What can be chosen about an installation: the chart's values and what `kaito install --set` and `--values` take.

These Structs are the only list: `values.yaml`, `values.schema.json` and the checks of `kaito install` come from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from kaito.nodes.claim import LABEL_MACHINE_TYPE

Port = Annotated[int, Meta(ge=1, le=65535)]
Mapping = dict[str, Any]
Switch = Literal["auto", "always", "never"]


class _Values(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A group of values; a word that is none of them is an error."""


class Global(msgspec.Struct, kw_only=True):
    """Helm hands `global` to all charts of a release, so it may hold what is not ours."""

    imageRegistry: Annotated[str, Meta(description="A mirror: the registry that every image comes from.")] = ""
    imagePullSecrets: Annotated[
        list[Mapping], Meta(description="Secrets of the release's namespace for pulling, such as [{name: mirror}].")
    ] = []


class ImageValues(_Values):
    registry: Annotated[str, Meta(description="Empty: the container runtime's default.")] = ""
    repository: str = ""
    tag: Annotated[str, Meta(description="Empty: the version of this release.")] = ""
    digest: Annotated[str, Meta(description="sha256:...; wins over the tag.")] = ""
    pullPolicy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"


class Runtime(_Values):
    image: Annotated[ImageValues, Meta(description="What Workspaces' pods run.")] = field(
        default_factory=lambda: ImageValues(repository="kaito/runtime")
    )
    engine: Annotated[Literal["auto", "vllm", "transformers"], Meta(description="What serves.")] = "auto"
    allowDataFrom: Annotated[list[str], Meta(description="Private networks (CIDRs) that data URLs may point to.")] = []
    insecureRegistries: Annotated[
        list[str], Meta(description="Registries (host:port) that pods may speak to over plain http.")
    ] = []
    pullSecrets: Annotated[
        list[str], Meta(description="Secrets, in the Workspaces' namespaces, that open the image's registry.")
    ] = []
    weightsStorageClass: Annotated[
        str, Meta(description="Fetch weights into volumes of this storage class; empty: the node's disk.")
    ] = ""


class ServiceAccountValues(_Values):
    create: bool = True
    annotations: dict[str, str] = {}


class Budget(_Values):
    enabled: bool = True
    maxUnavailable: Annotated[int, Meta(ge=1)] = 1


OPERATOR_RESOURCES: Mapping = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


class Workload(_Values):
    """What operator and provisioner have in common."""

    replicas: Annotated[
        int, Meta(ge=1, description="One leads; another takes over within seconds when it goes silent.")
    ] = 1
    logLevel: Literal["debug", "info", "warning", "error"] = "info"
    serviceAccount: ServiceAccountValues = field(default_factory=ServiceAccountValues)
    podDisruptionBudget: Budget = field(default_factory=Budget)
    priorityClassName: Annotated[str, Meta(description="For example system-cluster-critical.")] = ""
    resources: Mapping = field(default_factory=lambda: dict(OPERATOR_RESOURCES))
    nodeSelector: dict[str, str] = field(default_factory=lambda: {"kubernetes.io/os": "linux"})
    tolerations: list[Mapping] = []
    affinity: Mapping = {}
    topologySpreadConstraints: list[Mapping] = []
    podLabels: dict[str, str] = {}
    podAnnotations: dict[str, str] = {}
    extraArgs: Annotated[list[str], Meta(description="Further flags of the command.")] = []
    extraEnv: list[Mapping] = []


class Operator(Workload):
    image: Annotated[ImageValues, Meta(description="Of the operator and of the provisioner.")] = field(
        default_factory=lambda: ImageValues(repository="kaito/operator")
    )


class Azure(_Values):
    subscriptionId: str = ""
    resourceGroup: Annotated[str, Meta(description="The AKS cluster's own, not that of its nodes.")] = ""
    clusterName: str = ""
    tenantId: str = ""
    clientId: Annotated[
        str, Meta(description="The identity that is Contributor on the cluster, federated with kaito-provisioner.")
    ] = ""
    credential: Literal["workload-identity", "managed-identity"] = "workload-identity"
    environment: Literal["AzurePublicCloud", "AzureChinaCloud", "AzureUSGovernment"] = "AzurePublicCloud"


class Provisioner(Workload):
    enabled: Annotated[bool, Meta(description="Off where Azure's gpu-provisioner, or Karpenter, brings the nodes.")] = (
        False
    )
    provider: Annotated[
        Literal["azure", "simulated"], Meta(description="simulated makes Node objects with nothing behind them.")
    ] = "azure"
    azure: Azure = field(default_factory=Azure)


class Crds(_Values):
    install: Annotated[
        bool, Meta(description="The Workspace CRD; upgraded with the release, kept when it is uninstalled.")
    ] = True
    karpenter: Annotated[
        Switch,
        Meta(description="NodeClaim, Machine and NodePool. auto: with the provisioner, where nobody else owns them."),
    ] = "auto"


class Rbac(_Values):
    create: bool = True
    aggregate: Annotated[
        bool, Meta(description="Let Kubernetes' own roles view, edit and admin see or write Workspaces too.")
    ] = True


class Webhook(_Values):
    enabled: bool = True
    failurePolicy: Annotated[
        Literal["Ignore", "Fail"],
        Meta(description="Ignore: while the operator is away, faults show in the status instead of at once."),
    ] = "Ignore"
    timeoutSeconds: Annotated[int, Meta(ge=1, le=30)] = 10
    port: Port = 9443
    namespaceSelector: Annotated[Mapping, Meta(description="Of the namespaces whose Workspaces are checked.")] = field(
        default_factory=lambda: {
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]
        }
    )


class ServiceMonitor(_Values):
    enabled: Annotated[bool, Meta(description="For the Prometheus operator.")] = False
    interval: str = "30s"
    labels: dict[str, str] = {}


class Metrics(_Values):
    port: Port = 8080
    serviceMonitor: ServiceMonitor = field(default_factory=ServiceMonitor)


class Egress(_Values):
    enabled: Annotated[bool, Meta(description="Also restrict what goes out: DNS, and these ports.")] = False
    ports: Annotated[list[Mapping], Meta(description="Of the API server, and of the cloud's.")] = field(
        default_factory=lambda: [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]
    )


class Network(_Values):
    enabled: Annotated[bool, Meta(description="Let in only the webhook's, the probes' and the metrics' port.")] = True
    egress: Egress = field(default_factory=Egress)


class DefaultConfigs(_Values):
    create: Annotated[
        bool, Meta(description="ConfigMaps lora-params-template and qlora-params-template in this namespace.")
    ] = True
    lora: Annotated[str, Meta(description="The text of training_config.yaml; empty: the version's own.")] = ""
    qlora: Annotated[str, Meta(description="The same, for the method qlora.")] = ""


class DevicePlugin(_Values):
    enabled: Annotated[
        Switch, Meta(description="NVIDIA's device plugin on the provisioner's nodes. auto: with the azure provider.")
    ] = "auto"
    nodeSelector: Annotated[
        dict[str, str], Meta(description="The provisioner's nodes; with nodes of your own, a label of theirs.")
    ] = field(default_factory=lambda: {LABEL_MACHINE_TYPE: "gpu"})
    namespace: Annotated[str, Meta(description="It mounts a host path, which a restricted namespace refuses.")] = (
        "kube-system"
    )
    image: ImageValues = field(
        default_factory=lambda: ImageValues(
            registry="mcr.microsoft.com", repository="oss/v2/nvidia/k8s-device-plugin", tag="v0.18.2-12"
        )
    )
    resources: Mapping = field(default_factory=lambda: {"requests": {"cpu": "10m", "memory": "64Mi"}})


class Values(_Values):
    """All of it."""

    global_: Annotated[Global, Meta(description="Shared with other charts.")] = field(
        name="global", default_factory=Global
    )
    nodes: Annotated[
        Literal["gpu-provisioner", "karpenter", "byo"],
        Meta(description="How nodes come: claims of KAITO's gpu-provisioner (or ours), Karpenter, or your own nodes."),
    ] = "gpu-provisioner"
    cloud: Annotated[
        Literal["", "azure", "aws", "gcp"], Meta(description="With nodes karpenter: whose default node class to use.")
    ] = ""
    nodeClass: Annotated[
        str, Meta(description="With nodes karpenter: group/version/kind/name, instead of the cloud's default.")
    ] = ""
    nodeClassNames: Annotated[
        list[str], Meta(description="Names that kaito.sh/node-class-name may have; empty: any.")
    ] = []
    nodeApi: Annotated[
        Literal["auto", "nodeclaim-v1", "nodeclaim-v1beta1", "machine", "nodepool"],
        Meta(description="What asks for nodes; auto: the newest claims that are served; nodepool: static pools."),
    ] = "auto"
    watchNamespace: Annotated[str, Meta(description="The one namespace whose Workspaces count; empty: all.")] = ""
    runtime: Annotated[Runtime, Meta(description="The pods of Workspaces.")] = field(default_factory=Runtime)
    operator: Annotated[Operator, Meta(description="The workspace controller and its webhook.")] = field(
        default_factory=Operator
    )
    provisioner: Annotated[Provisioner, Meta(description="Turns claims into nodes (AKS agent pools).")] = field(
        default_factory=Provisioner
    )
    crds: Annotated[Crds, Meta(description="CustomResourceDefinitions.")] = field(default_factory=Crds)
    rbac: Annotated[Rbac, Meta(description="Roles and bindings, each rule needed by the code.")] = field(
        default_factory=Rbac
    )
    webhook: Annotated[Webhook, Meta(description="Says faults of a Workspace when it is applied.")] = field(
        default_factory=Webhook
    )
    metrics: Annotated[Metrics, Meta(description="Prometheus metrics of both.")] = field(default_factory=Metrics)
    networkPolicy: Annotated[Network, Meta(description="Who may talk to the pods.")] = field(default_factory=Network)
    defaultConfigs: Annotated[DefaultConfigs, Meta(description="Defaults of tuning.")] = field(
        default_factory=DefaultConfigs
    )
    nvidiaDevicePlugin: Annotated[DevicePlugin, Meta(description="What makes a node offer its GPUs.")] = field(
        default_factory=DevicePlugin
    )


def default_values() -> dict[str, Any]:
    """The defaults as plain data."""
    values: dict[str, Any] = msgspec.to_builtins(Values())
    return values
