"""The AKS agent-pool API over the Azure SDK: plain dicts in and out, and every failure a `Fault` that `faults` sorts.

Long-running operations are never waited for here: a PUT returns when AKS has accepted it. How it goes on is in the
pool's own state, and, should it fail, in the operation whose path the PUT gave.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ServiceResponseError
from azure.core.rest import HttpRequest
from azure.mgmt.containerservice.aio import ContainerServiceClient

from kaito import __version__
from kaito.nodes.errors import ConfigError, ProviderError, Transient
from kaito.nodes.providers.azure.config import AzureConfig
from kaito.nodes.providers.azure.credentials import make_credential
from kaito.nodes.providers.azure.faults import Asked, Fault, classify, parse_details, parse_fault

OPERATIONS = "/providers/Microsoft.ContainerService/locations/"


class AgentPools:
    """The pools of one cluster. Every call raises ProviderError and nothing else."""

    def __init__(self, config: AzureConfig) -> None:
        self._config = config
        self._where = (config.resource_group, config.cluster)
        self._credential = make_credential(config)
        verify = {"connection_verify": str(config.ca_file)} if config.ca_file else {}
        self._client = ContainerServiceClient(
            self._credential,
            config.subscription,
            base_url=config.cloud.endpoint,
            credential_scopes=[config.cloud.scope],
            api_version=config.api_version,
            retry_total=config.retries,
            retry_backoff_factor=config.retry_backoff,
            user_agent=f"kaito-provisioner/{__version__}",
            **verify,
        )

    async def put(self, asked: Asked, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Ask for a pool. Returns it as AKS shows it now, and the path of the operation that makes it."""
        paths: list[str] = []

        def remember(response: Any) -> None:
            paths.append(operation_path(response.http_response.headers.get("Azure-AsyncOperation") or ""))

        try:
            poller = await self._client.agent_pools.begin_create_or_update(
                *self._where, asked.pool, body, polling=False, raw_response_hook=remember
            )
            pool = await poller.result()
        except AzureError as error:
            raise to_provider_error(error, asked) from error
        return pool.as_dict(), paths[-1] if paths else ""

    async def get(self, asked: Asked) -> dict[str, Any]:
        try:
            pool = await self._client.agent_pools.get(*self._where, asked.pool)
        except AzureError as error:
            raise to_provider_error(error, asked) from error
        content: dict[str, Any] = pool.as_dict()
        return content

    async def list(self) -> list[dict[str, Any]]:
        """All pools of the cluster, page after page; a page that fails fails the list."""
        try:
            return [pool.as_dict() async for pool in self._client.agent_pools.list(*self._where)]
        except AzureError as error:
            raise to_provider_error(error, Asked("(all)")) from error

    async def delete(self, asked: Asked) -> bool:
        """Ask to delete. False when there is nothing to delete."""
        statuses: list[int] = []
        try:
            await self._client.agent_pools.begin_delete(
                *self._where,
                asked.pool,
                polling=False,
                raw_response_hook=lambda response: statuses.append(response.http_response.status_code),
            )
        except AzureError as error:
            raise to_provider_error(error, asked) from error
        return statuses[-1:] != [204]

    async def operation(self, path: str, asked: Asked) -> Fault | None:
        """The fault that an operation ended in; None when it did not fail, or is no longer known."""
        if OPERATIONS not in path or not path.startswith("/subscriptions/"):
            return None  # it came through an annotation that others may write: no token goes elsewhere
        try:
            response = await self._client.send_request(HttpRequest("GET", f"{self._config.cloud.endpoint}{path}"))
            if response.status_code == 404:
                return None
            response.raise_for_status()
            body = response.json()
        except AzureError as error:
            raise to_provider_error(error, asked) from error
        except ValueError as error:
            raise Transient(f"Azure's answer about the operation of {asked.pool} is not JSON") from error
        failed = str(body.get("status", "")).lower() in ("failed", "canceled")
        return parse_fault(body) if failed else None

    async def close(self) -> None:
        await self._client.close()
        await self._credential.close()


def operation_path(url: str) -> str:
    """Path and query of an operation's URL: the host is always the configured one."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def to_provider_error(error: AzureError, asked: Asked) -> ProviderError:
    """The SDK's exceptions by what the cloud said, not by their class, but for those that never reached it."""
    said = to_fault(error) if isinstance(error, HttpResponseError) and error.response is not None else None
    if said is not None and (said.code or not isinstance(error, ClientAuthenticationError)):
        return classify(said, asked)
    if isinstance(error, ClientAuthenticationError):  # of the token endpoint, whose errors have another shape
        return ConfigError(
            f"Azure gives the provisioner no token: {_first_line(error)}",
            reason="AuthenticationFailed",
            hint="check the identity, its federated credential and the tenant",
        )
    lost = "the answer was lost" if isinstance(error, ServiceResponseError) else "Azure was not reached"
    return Transient(f"{lost}: {_first_line(error)}", retry_after=10.0)


def to_fault(error: HttpResponseError) -> Fault:
    status = int(error.status_code or 0)
    wait = _retry_after(error)
    if error.error is not None and error.error.code:
        content = error.error
        return Fault(str(content.code), str(content.message or ""), parse_details(content.details or ()), status, wait)
    return Fault("", _first_line(error), (), status, wait)


def _retry_after(error: HttpResponseError) -> float | None:
    headers = error.response.headers if error.response is not None else {}
    text = headers.get("Retry-After") or ""
    return float(text) if text.isdigit() else None


def _first_line(error: AzureError) -> str:
    return str(error.message or error).strip().splitlines()[0][:300] if str(error) else type(error).__name__
