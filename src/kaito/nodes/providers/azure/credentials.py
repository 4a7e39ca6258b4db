"""Who we are to Azure. The SDK is imported here and in `api`, and only when the provider is asked for."""

from __future__ import annotations

from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import AzureCliCredential, ClientAssertionCredential, ManagedIdentityCredential

from kaito.nodes.errors import ConfigError
from kaito.nodes.providers.azure.config import AzureConfig


def make_credential(config: AzureConfig) -> AsyncTokenCredential:
    """The credential that the configuration names. Raises ConfigError when it lacks what it needs."""
    if config.credential == "managed-identity":
        return ManagedIdentityCredential(client_id=config.client_id or None)
    if config.credential == "cli":
        return AzureCliCredential(tenant_id=config.tenant)
    return _workload_identity(config)


def _workload_identity(config: AzureConfig) -> AsyncTokenCredential:
    """The service account's token exchanged for Azure's.

    The file is read for every exchange: kubelet rotates it, and a copy in memory would outlive it.
    """
    token_file = config.token_file
    if token_file is None:
        raise ConfigError("workload identity needs AZURE_FEDERATED_TOKEN_FILE", hint="is its webhook installed?")

    def assertion() -> str:
        return token_file.read_text().strip()

    options: dict[str, Any] = {"authority": config.cloud.authority}
    if config.ca_file is not None:
        # A private authority is not in Microsoft's list of clouds, which the SDK would ask about it.
        options |= {"connection_verify": str(config.ca_file), "disable_instance_discovery": True}
    return ClientAssertionCredential(config.tenant, config.client_id, assertion, **options)
