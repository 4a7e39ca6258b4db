"""A Kubernetes API over HTTP: verbs in, narrow Structs out.

lightkube supplies what is tedious and well kept there: kubeconfig, in-cluster configuration, TLS and credentials. The
verbs are ours, because lightkube's decode whole models, fail a list on one bad item, and default to patches that custom
resources refuse. Writes take plain dicts, so that no field is dropped on the way.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx2
import msgspec
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import SingleConfig
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from kaito.kube.decode import decode_object
from kaito.kube.errors import AlreadyExists, ApiError, ConfigError, NotFound, Unreachable, from_status
from kaito.kube.kubeconfig import load_config
from kaito.kube.limit import RateLimit
from kaito.kube.resources import Resource

log = logging.getLogger(__name__)

T = TypeVar("T")

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
PAGE = 500
WATCH_SECONDS = 300
"""A watch asks to be ended after this to twice this; the informer begins it again where it ended."""


class _Page(msgspec.Struct):
    items: list[msgspec.Raw] = []
    metadata: dict[str, Any] = {}


class _WatchLine(msgspec.Struct):
    type: str
    object: msgspec.Raw


@dataclass(frozen=True)
class Listing(Generic[T]):
    items: list[tuple[T, bytes]]
    """Each object beside the JSON that it came from."""
    resource_version: str


@dataclass(frozen=True)
class WatchEvent(Generic[T]):
    type: str  # ADDED, MODIFIED, DELETED, BOOKMARK
    object: T
    raw: bytes


class Client:
    """One connection pool to one API server. Every call raises a KubeError; nothing else gets out.

    `calls` counts requests by verb ("list", "watch", "apply", ...), which tests and metrics read. `on_warning` gets
    what the server warns of when it answers.
    """

    def __init__(
        self, config: SingleConfig, *, field_manager: str, timeout: float = 30.0, limit: RateLimit | None = None
    ) -> None:
        limits = httpx2.Timeout(timeout)
        self._http = AsyncClient(config, ConnectionParams(timeout=limits, trust_env=False))
        self._limit = limit or RateLimit(0, 0)
        self._timeout = timeout
        self._stream_timeout = httpx2.Timeout(timeout, read=None)
        self.field_manager = field_manager
        self.namespace: str = config.namespace or "default"
        self.calls: Counter[str] = Counter()
        self.on_warning: Callable[[str], None] = _unheard

    @classmethod
    def connect(
        cls,
        kubeconfig: Path | None = None,
        context: str | None = None,
        *,
        field_manager: str = "kaito",
        limit: RateLimit | None = None,
    ) -> Client:
        """Raises ConfigError where the kubeconfig, or a certificate in it, cannot be used."""
        config = load_config(kubeconfig, context)
        try:
            return cls(config, field_manager=field_manager, limit=limit)
        except (LightkubeConfigError, OSError, ValueError) as error:  # ssl and base64 raise these two
            raise ConfigError(f"the kubeconfig's context {config.context_name} cannot be used: {error}") from error

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, resource: Resource[T], name: str, namespace: str = "") -> T:
        return self._decode(resource, await self.request("get", "GET", resource.path(namespace, name)))

    async def find(self, resource: Resource[T], name: str, namespace: str = "") -> T | None:
        """`get`, with None for an object that is not there."""
        try:
            return await self.get(resource, name, namespace)
        except NotFound:
            return None

    async def list(
        self, resource: Resource[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        """All objects. One that does not decode is logged and left out, never fatal."""
        items: list[tuple[T, bytes]] = []
        version = ""
        async for page in self.pages(resource, namespace, labels=labels, fields=fields):
            items += page.items
            version = page.resource_version
        return Listing(items, version)

    async def pages(
        self, resource: Resource[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listing[T], None]:
        """`list`, page by page, so that a large cluster never has to be in memory as JSON all at once."""
        params = _given(labelSelector=labels, fieldSelector=fields, limit=str(PAGE))
        while True:
            page = msgspec.json.decode(await self.request("list", "GET", resource.path(namespace), params), type=_Page)
            raws = [bytes(raw) for raw in page.items]
            decoded = [(obj, raw) for raw in raws if (obj := self._decode_untrusted(resource, raw)) is not None]
            yield Listing(decoded, str(page.metadata.get("resourceVersion", "")))
            token = page.metadata.get("continue")
            if not token:
                return
            params = {**params, "continue": token}

    async def create(self, resource: Resource[T], body: Mapping[str, Any], namespace: str = "") -> T:
        params = {"fieldManager": self.field_manager}
        intent = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        raw = await self.request("create", "POST", resource.path(namespace), params, intent)
        return self._decode(resource, raw)

    async def create_if_absent(self, resource: Resource[T], body: Mapping[str, Any], namespace: str = "") -> bool:
        """True when this call made it; False when it was there before."""
        try:
            await self.create(resource, body, namespace)
        except AlreadyExists:
            return False
        return True

    async def apply(
        self,
        resource: Resource[T],
        body: Mapping[str, Any],
        namespace: str = "",
        *,
        subresource: str = "",
        force: bool = True,
        field_manager: str = "",
    ) -> tuple[T, bytes]:
        """Server-side apply of a whole intent. Returns the object and its JSON as the server has it now."""
        name = body["metadata"]["name"]
        params = {"fieldManager": field_manager or self.field_manager, "force": "true" if force else "false"}
        intent = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        path = resource.path(namespace, name, subresource)
        raw = await self.request("apply", "PATCH", path, params, intent, content_type=APPLY_PATCH)
        return self._decode(resource, raw), raw

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        body: Any,
        namespace: str = "",
        *,
        subresource: str = "",
        content_type: str = MERGE_PATCH,
    ) -> T:
        """A merge patch, or the other one that `content_type` says."""
        params = {"fieldManager": self.field_manager}
        path = resource.path(namespace, name, subresource)
        return self._decode(
            resource, await self.request("patch", "PATCH", path, params, body, content_type=content_type)
        )

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        propagation: str = "Background",
        grace_period: int | None = None,
    ) -> bool:
        """False when there was nothing to delete. With `uid`, only that life of the object."""
        body: dict[str, Any] = {"propagationPolicy": propagation, "kind": "DeleteOptions", "apiVersion": "v1"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_period is not None:
            body["gracePeriodSeconds"] = grace_period
        try:
            await self.request("delete", "DELETE", resource.path(namespace, name), {}, body)
        except NotFound:
            return False
        return True

    async def watch(
        self, resource: Resource[T], namespace: str = "", *, version: str, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Events after `version`, bookmarks too, until the server ends the stream. Raises Expired when too old."""
        params = _given(labelSelector=labels, fieldSelector=fields, resourceVersion=version)
        seconds = random.randint(WATCH_SECONDS, 2 * WATCH_SECONDS)  # noqa: S311 - spread, not a secret
        params |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        # The server ends the watch by then; a peer that vanished without a word would hold us for ever.
        timeout = httpx2.Timeout(self._timeout, read=seconds + self._timeout)
        self.calls["watch"] += 1
        with _worded(f"the watch on {resource.plural} broke off"):
            async with self._http.stream("GET", resource.path(namespace), params=params, timeout=timeout) as response:
                if response.status_code >= 400:
                    raise _error(response.status_code, await response.aread(), response.headers)
                async for line in response.aiter_lines():
                    event = self._watch_event(resource, line.encode())
                    if event is not None:
                        yield event

    async def request(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float | None = None,
    ) -> bytes:
        """One request to the API; the body of the answer. For what has no verb of its own, such as the pod proxy."""
        self.calls[verb] += 1
        await self._limit.take()
        headers = {"Content-Type": content_type, "Accept": accept}
        content = None if body is None else msgspec.json.encode(body)
        limit = httpx2.Timeout(timeout) if timeout else httpx2.USE_CLIENT_DEFAULT
        with _worded(f"no answer from the API server {self._http.base_url} to {method} {path}"):
            response = await self._http.request(
                method, path, params=dict(params or {}), content=content, headers=headers, timeout=limit
            )
        if response.status_code >= 400:
            raise _error(response.status_code, response.content, response.headers)
        for header in response.headers.get_list("warning"):
            self.on_warning(_warning(header))
        return response.content

    async def stream(
        self, path: str, params: Mapping[str, str] | None = None, *, method: str = "GET", body: Any = None
    ) -> AsyncGenerator[bytes, None]:
        """The body of a long answer as it comes, such as a followed log."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        with _worded(f"the stream of {path} broke off"):
            async with self._http.stream(
                method, path, params=dict(params or {}), content=content, headers=headers, timeout=self._stream_timeout
            ) as response:
                if response.status_code >= 400:
                    raise _error(response.status_code, await response.aread(), response.headers)
                async for chunk in response.aiter_bytes():
                    yield chunk

    def _watch_event(self, resource: Resource[T], line: bytes) -> WatchEvent[T] | None:
        if not line:
            return None
        try:
            parsed = msgspec.json.decode(line, type=_WatchLine)
        except msgspec.DecodeError as error:  # The rest of the line was lost with the connection.
            raise Unreachable(f"the watch on {resource.plural} broke off within an event: {error}") from error
        raw = bytes(parsed.object)
        if parsed.type == "ERROR":
            status = msgspec.json.decode(raw)
            raise from_status(int(status.get("code") or 500), status)
        decoded = self._decode_untrusted(resource, raw)
        return None if decoded is None else WatchEvent(parsed.type, decoded, raw)

    def _decode(self, resource: Resource[T], raw: bytes) -> T:
        try:
            return decode_object(resource.model, raw)
        except msgspec.DecodeError as error:
            message = f"the answer is not a {resource.kind} that we can read: {error}"
            raise ApiError(502, "Undecodable", message) from error

    def _decode_untrusted(self, resource: Resource[T], raw: bytes) -> T | None:
        try:
            return self._decode(resource, raw)
        except ApiError as error:
            self.calls["undecodable"] += 1
            log.warning("skipped one object", extra={"kind": resource.kind, "error": error.message})
            return None


@contextmanager
def _worded(failure: str) -> Iterator[None]:
    """What the HTTP library and a kubeconfig's credential plugin raise, as errors of ours."""
    try:
        yield
    except httpx2.HTTPError as error:
        raise Unreachable(f"{failure}: {error or repr(error)}") from error
    except (FileNotFoundError, PermissionError) as error:  # the one program that is started here
        raise ConfigError(f'the kubeconfig logs in by the program "{error.filename}", which cannot be run') from error
    except (LightkubeConfigError, json.JSONDecodeError) as error:
        failure = "the kubeconfig's credential plugin gave no login"
        raise ConfigError(f"{failure}: {_one_line(error)}") from error


def _unheard(warning: str) -> None:
    """Controllers write what they mean; who writes for a person listens."""


def _warning(header: str) -> str:
    """The text of `299 - "text"`."""
    quoted = header.partition('"')[2].rpartition('"')[0]
    return quoted.replace('\\"', '"').replace("\\\\", "\\") or header


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _given(**params: str) -> dict[str, str]:
    return {key: value for key, value in params.items() if value}


def _error(code: int, content: bytes, headers: Mapping[str, str]) -> ApiError:
    try:
        status = msgspec.json.decode(content)
    except msgspec.DecodeError:
        status = {"message": content[:300].decode(errors="replace")}
    return from_status(code, status if isinstance(status, dict) else {}, headers.get("Retry-After"))


async def wait_reachable(client: Client, *, patience: float, pause: float = 0.2) -> None:
    """Return once the API answers /readyz. Raises the last KubeError after `patience` seconds."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            await client.request("readyz", "GET", "readyz", timeout=5.0)
        except (Unreachable, ApiError):
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(pause)
        else:
            return
