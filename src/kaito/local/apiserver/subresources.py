"""Subresources with a meaning of their own: binding, eviction, finalize, token, and the streams of pods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from aiohttp import web

from kaito.local.apiserver import body as bodies
from kaito.local.apiserver.answer import encode, respond
from kaito.local.apiserver.auth import Authenticator
from kaito.local.apiserver.call import Call, timestamp
from kaito.local.apiserver.config import ServerConfig
from kaito.local.apiserver.delete import Deleter
from kaito.local.apiserver.eviction import check_budgets
from kaito.local.apiserver.options import delete_options
from kaito.local.apiserver.read import Reader
from kaito.local.apiserver.streams.pods import PodStreams
from kaito.local.apiserver.write import Writer
from kaito.local.machinery import errors
from kaito.local.store.records import Object
from kaito.local.store.store import Store

Served = Awaitable[web.StreamResponse]
TOKEN_SECONDS = 3600
TOKEN_LONGEST = 365 * 24 * 3600


class Subresources:
    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        reader: Reader,
        writer: Writer,
        deleter: Deleter,
        authenticator: Authenticator,
        streams: PodStreams,
    ) -> None:
        self._config = config
        self._store = store
        self._evicting = asyncio.Lock()
        self._reader = reader
        self._writer = writer
        self._deleter = deleter
        self._authenticator = authenticator
        self._streams = streams
        self._own: dict[tuple[str, str], Callable[[web.BaseRequest, Call], Served]] = {
            ("pods", "binding"): self._bind,
            ("pods", "eviction"): self._evict,
            ("pods", "ephemeralcontainers"): self._replace,
            ("pods", "resize"): self._replace,
            ("namespaces", "finalize"): self._finalize,
            ("serviceaccounts", "token"): self._issue_token,
        }

    async def serve(self, request: web.BaseRequest, call: Call, rest: str) -> web.StreamResponse:
        own = self._own.get((call.resource.bucket, call.subresource))
        if own is not None:
            return await own(request, call)
        if call.resource.bucket == "pods":
            pod = self._reader.get(call.resource, call.namespace, call.name.split(":")[0])
            return await self._streams.serve(request, call, pod.value, rest)
        raise errors.StatusError(
            501, "NotImplemented", f"{call.resource.info.plural}/{call.subresource} is not served by this control plane"
        )

    async def _bind(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """The scheduler's choice of a node, once."""
        sent = await self._sent(request, "create")
        node = (sent.get("target") or {}).get("name")
        if not isinstance(node, str) or not node:
            cause = errors.FieldCause("target.name", "Required value", errors.FIELD_REQUIRED)
            raise errors.invalid("", "Binding", call.name, [cause])

        def bound(pod: Object) -> Object:
            assigned = pod["spec"].get("nodeName")
            if assigned:
                message = f'pod {call.name} is already assigned to node "{assigned}"'
                raise errors.conflict("", "pods/binding", call.name, message)
            pod["spec"]["nodeName"] = node
            status = pod.setdefault("status", {})
            scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": call.timestamp}
            others = [one for one in status.get("conditions") or [] if one.get("type") != "PodScheduled"]
            status["conditions"] = [*others, scheduled]
            return pod

        await self._writer.update(call, bound)
        created = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return respond(encode(created), code=201, warnings=call.warnings)

    async def _evict(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Deletes the pod when its disruption budget allows it; one eviction is judged at a time."""
        sent = await self._sent(request, "create")
        options = delete_options({}, sent.get("deleteOptions") or None)
        async with self._evicting:
            check_budgets(self._store, self._reader.get(call.resource, call.namespace, call.name).value)
            await self._deleter.delete(call, options)
        created = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return respond(encode(created), code=201, warnings=call.warnings)

    async def _finalize(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """The namespace controller's last word: its content is gone."""
        sent = await self._sent(request, "update")
        finalizers = (sent.get("spec") or {}).get("finalizers") or []

        def finalized(namespace: Object) -> Object:
            namespace["spec"] = {**(namespace.get("spec") or {}), "finalizers": finalizers}
            version = (sent.get("metadata") or {}).get("resourceVersion")
            if version:
                namespace["metadata"]["resourceVersion"] = version
            return namespace

        written = await self._writer.update(call, finalized)
        return respond(written.record.raw, warnings=call.warnings)

    async def _replace(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        raise errors.StatusError(
            501, "NotImplemented", f"pods/{call.subresource} is not served: containers of a running pod cannot change"
        )

    async def _issue_token(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        sent = await self._sent(request, "create")
        seconds = (sent.get("spec") or {}).get("expirationSeconds") or TOKEN_SECONDS
        if not isinstance(seconds, int) or not 600 <= seconds <= TOKEN_LONGEST:
            message = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes or more than a year"
            cause = errors.FieldCause("spec.expirationSeconds", message)
            raise errors.invalid("authentication.k8s.io", "TokenRequest", call.name, [cause])
        account = self._reader.get(call.resource, call.namespace, call.name)
        uid = account.value["metadata"]["uid"]
        token = self._authenticator.issue(call.namespace, call.name, uid, call.now, seconds)
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": call.name, "namespace": call.namespace, "creationTimestamp": call.timestamp},
            "spec": {**(sent.get("spec") or {}), "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": timestamp(call.now + timedelta(seconds=seconds))},
        }
        return respond(encode(answer), code=201, warnings=call.warnings)

    async def _sent(self, request: web.BaseRequest, verb: str) -> Object:
        wanted = "POST" if verb == "create" else "PUT"
        if request.method != wanted:
            raise errors.method_not_allowed()
        raw = await bodies.read_body(request, self._config.body_limit)
        return bodies.decode_object(raw, bodies.media_type(request))
