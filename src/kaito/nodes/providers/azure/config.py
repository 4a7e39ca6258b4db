"""Where the AKS cluster is and who we are to Azure, from the environment that AKS and workload identity set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kaito.nodes.errors import ConfigError

API_VERSION = "2024-01-01"

CredentialKind = Literal["workload-identity", "managed-identity", "cli"]


@dataclass(frozen=True)
class Cloud:
    """A sovereign cloud: where its resource manager is, what its tokens are for, who issues them."""

    endpoint: str
    scope: str
    authority: str


CLOUDS: Mapping[str, Cloud] = {
    "AzurePublicCloud": Cloud(
        "https://management.azure.com", "https://management.azure.com/.default", "https://login.microsoftonline.com"
    ),
    "AzureChinaCloud": Cloud(
        "https://management.chinacloudapi.cn",
        "https://management.chinacloudapi.cn/.default",
        "https://login.chinacloudapi.cn",
    ),
    "AzureUSGovernment": Cloud(
        "https://management.usgovcloudapi.net",
        "https://management.usgovcloudapi.net/.default",
        "https://login.microsoftonline.us",
    ),
}
"""By the names of azure-cli and of the Go SDK, in the environment variable AZURE_ENVIRONMENT."""


@dataclass(frozen=True)
class AzureConfig:
    subscription: str
    resource_group: str
    cluster: str
    cloud: Cloud
    credential: CredentialKind
    tenant: str = ""
    client_id: str = ""
    token_file: Path | None = None
    """The projected service-account token of workload identity; read again for every new token."""
    api_version: str = API_VERSION
    ca_file: Path | None = None
    """A CA to trust besides the system's, for a private endpoint."""
    poll_seconds: float = 10.0
    max_operations: int = 8
    """How many pools may be in the making at once: AKS refuses more than it can do."""
    retries: int = 3
    """Of one HTTP request, on throttling and on the cloud's own faults."""
    retry_backoff: float = 0.8


def read_config(environ: Mapping[str, str]) -> AzureConfig:
    """Read the environment. Raises ConfigError that names every variable that is missing."""
    needed = {
        "ARM_SUBSCRIPTION_ID": "the subscription of the AKS cluster",
        "ARM_RESOURCE_GROUP": "the cluster's resource group",
        "AZURE_CLUSTER_NAME": "the cluster's name",
    }
    kind = _credential_kind(environ)
    if kind == "workload-identity":
        needed |= {"AZURE_TENANT_ID": "the tenant", "AZURE_CLIENT_ID": "the identity's client id"}
    missing = [f"{name} ({what})" for name, what in needed.items() if not environ.get(name)]
    if missing:
        raise ConfigError(f"the azure provider needs {', '.join(missing)}", hint="set them in the environment")
    token_file = environ.get("AZURE_FEDERATED_TOKEN_FILE")
    ca_file = environ.get("KAITO_AZURE_CA_FILE")
    return AzureConfig(
        subscription=environ["ARM_SUBSCRIPTION_ID"],
        resource_group=environ["ARM_RESOURCE_GROUP"],
        cluster=environ["AZURE_CLUSTER_NAME"],
        cloud=_cloud(environ),
        credential=kind,
        tenant=environ.get("AZURE_TENANT_ID", ""),
        client_id=environ.get("AZURE_CLIENT_ID", ""),
        token_file=Path(token_file) if token_file else None,
        api_version=environ.get("KAITO_AZURE_API_VERSION") or API_VERSION,
        ca_file=Path(ca_file) if ca_file else None,
    )


def _credential_kind(environ: Mapping[str, str]) -> CredentialKind:
    """Workload identity where its webhook has been; a managed identity in a cluster; else the login of `az`."""
    named = environ.get("KAITO_AZURE_CREDENTIAL", "")
    if named in ("workload-identity", "managed-identity", "cli"):
        return named  # type: ignore[return-value]  # one of the three, as just checked
    if named:
        known = "workload-identity, managed-identity or cli"
        raise ConfigError(f"KAITO_AZURE_CREDENTIAL is {named!r}", hint=f"it may be {known}")
    if environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        return "workload-identity"
    return "managed-identity" if environ.get("KUBERNETES_SERVICE_HOST") else "cli"


def _cloud(environ: Mapping[str, str]) -> Cloud:
    name = environ.get("AZURE_ENVIRONMENT") or "AzurePublicCloud"
    known = {key.lower(): cloud for key, cloud in CLOUDS.items()}.get(name.lower())
    if known is None:
        raise ConfigError(f"AZURE_ENVIRONMENT is {name!r}", hint=f"the clouds are {', '.join(CLOUDS)}")
    return Cloud(
        environ.get("KAITO_AZURE_ENDPOINT", known.endpoint).rstrip("/"),
        known.scope,
        environ.get("AZURE_AUTHORITY_HOST", known.authority).rstrip("/"),
    )
