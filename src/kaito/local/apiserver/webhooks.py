"""Admission webhooks, by URL or Service: who wants to see a write, in which order they are asked, what answers do.

Mutating webhooks come before validation, one after the other; validating ones after it, all at once. A webhook that
cannot be reached refuses the write or is passed over, as its failure policy says.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import aiohttp
import msgspec

from kaito.local.apiserver.admission import BuiltinAdmission
from kaito.local.apiserver.call import Call
from kaito.local.apiserver.resources import Resource, Resources
from kaito.local.apiserver.reviews import user_info
from kaito.local.apiserver.webhook_rules import Match, find_match
from kaito.local.machinery import errors
from kaito.local.machinery.patch import json_patch
from kaito.local.store.records import Key, Object
from kaito.local.store.store import Store

GROUP = "admissionregistration.k8s.io"
MUTATING = f"mutatingwebhookconfigurations.{GROUP}"
VALIDATING = f"validatingwebhookconfigurations.{GROUP}"
ANSWER_LIMIT = 4 * 1024 * 1024


class WebhookAdmission:
    """The server's own admission, with the webhooks around it."""

    def __init__(
        self, store: Store, resources: Resources, builtin: BuiltinAdmission, random_hex: Callable[[int], str]
    ) -> None:
        self._store = store
        self._resources = resources
        self._builtin = builtin
        self._random_hex = random_hex
        self._session: aiohttp.ClientSession | None = None

    async def mutate(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> Object | None:
        changed = await self._builtin.mutate(call, operation, obj, old)
        current = changed or obj
        for webhook, match in self._matching(MUTATING, call, operation, current, old):
            answer = await self._ask(webhook, match, call, operation, current, old)
            patched = _patched(webhook, match, current, answer)
            if patched is not None:
                changed = current = {**patched, "apiVersion": call.resource.info.api_version}
        return changed

    async def validate(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> None:
        await self._builtin.validate(call, operation, obj, old)
        asked = self._matching(VALIDATING, call, operation, obj, old)
        if asked:
            await asyncio.gather(*(self._ask(webhook, match, call, operation, obj, old) for webhook, match in asked))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _matching(
        self, bucket: str, call: Call, operation: str, obj: Object | None, old: Object | None
    ) -> list[tuple[Object, Match]]:
        """The webhooks that want this write, by the names of their configurations. They never see each other."""
        if call.resource.info.group == GROUP:
            return []
        found: list[tuple[Object, Match]] = []
        for record in self._store.records(bucket):
            for webhook in record.value.get("webhooks") or []:
                match = find_match(
                    webhook, call, operation, obj, old, self._versions(call), self._namespace_labels(call)
                )
                if match is not None:
                    found.append((webhook, match))
        return found

    def _versions(self, call: Call) -> list[Resource]:
        """The resource in the version of the request, then in its others."""
        others = [one for one in self._resources.all() if one.bucket == call.resource.bucket]
        return [call.resource, *(one for one in others if one is not call.resource)]

    def _namespace_labels(self, call: Call) -> dict[str, str] | None:
        """None for an object that is in no namespace: the selector does not ask about it."""
        if not call.namespace:
            return None
        namespace = self._store.latest(Key("namespaces", "", call.namespace))
        return (namespace.value["metadata"].get("labels") or {}) if namespace else {}

    async def _ask(
        self, webhook: Object, match: Match, call: Call, operation: str, obj: Object | None, old: Object | None
    ) -> Object:
        """The webhook's response, `{}` when it failed and may be ignored. Raises StatusError when it denies."""
        if call.options.dry_run and webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise errors.bad_request(f'admission webhook "{webhook["name"]}" does not support dry run')
        review = self._review(match, call, operation, obj, old)
        try:
            response = await self._post(webhook, review)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.DecodeError) as error:
            if webhook.get("failurePolicy", "Fail") == "Ignore":
                return {}
            reason = str(error) or type(error).__name__
            name = webhook["name"]
            url = _shown(webhook["clientConfig"])
            message = f'failed calling webhook "{name}": failed to call webhook: Post "{url}": {reason}'
            raise errors.internal(message) from error
        call.warnings.extend(str(text) for text in response.get("warnings") or [])
        if response.get("allowed") is not True:
            raise _denied(webhook, response.get("status") or {})
        return response

    def _review(self, match: Match, call: Call, operation: str, obj: Object | None, old: Object | None) -> Object:
        info, asked = match.resource.info, call.resource.info
        request: Object = {
            "uid": self._random_hex(16),
            "kind": {"group": info.group, "version": info.version, "kind": info.kind},
            "resource": {"group": info.group, "version": info.version, "resource": info.plural},
            "requestKind": {"group": asked.group, "version": asked.version, "kind": asked.kind},
            "requestResource": {"group": asked.group, "version": asked.version, "resource": asked.plural},
            "name": call.name or ((obj or {}).get("metadata") or {}).get("name", ""),
            "operation": operation,
            "userInfo": user_info(call.user),
            "object": match.converted(obj),
            "oldObject": match.converted(old),
            "dryRun": call.options.dry_run,
            "options": None,
        }
        if call.namespace:
            request["namespace"] = call.namespace
        if call.subresource:
            request["subResource"] = request["requestSubResource"] = call.subresource
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}

    async def _post(self, webhook: Object, review: Object) -> Object:
        config = webhook["clientConfig"]
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timeout = aiohttp.ClientTimeout(total=float(webhook.get("timeoutSeconds") or 10))
        url, host = self._target(config)
        async with self._session.post(
            url,
            server_hostname=host,
            data=msgspec.json.encode(review),
            headers={"Content-Type": "application/json"},
            ssl=_tls(config.get("caBundle") or ""),
            timeout=timeout,
            allow_redirects=False,
        ) as answer:
            if answer.status != 200:
                raise ValueError(f"it answered {answer.status}")
            body = await answer.content.read(ANSWER_LIMIT)
        return _response(msgspec.json.decode(body), review["request"]["uid"])

    def _target(self, config: Object) -> tuple[str, str | None]:
        """The URL to call, and the name that its certificate must hold for where that is not the URL's own."""
        service = config.get("service")
        if not service:
            return str(config["url"]), None
        namespace, name = service["namespace"], service["name"]
        record = self._store.latest(Key("services", namespace, name))
        address = (record.value.get("spec") or {}).get("clusterIP") if record else None
        if not address or address == "None":
            raise ValueError(f'service "{name}" has no address')
        return f"https://{address}:{service.get('port') or 443}{service.get('path') or '/'}", f"{name}.{namespace}.svc"


def _shown(config: Object) -> str:
    """As kube-apiserver names what it called."""
    service = config.get("service")
    if not service:
        return str(config.get("url"))
    host = f"{service['name']}.{service['namespace']}.svc"
    return f"https://{host}:{service.get('port') or 443}{service.get('path') or '/'}"


def _response(answer: Any, uid: str) -> Object:
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise ValueError("its answer has no response")
    if response.get("uid") != uid:
        raise ValueError(f"expected response.uid={uid!r}, got {response.get('uid')!r}")
    return response


def _patched(webhook: Object, match: Match, obj: Object | None, response: Object) -> Object | None:
    """The object with the webhook's JSON patch applied, in the version that the webhook saw."""
    if not response.get("patch") or obj is None:
        return None
    try:
        operations = msgspec.json.decode(base64.b64decode(response["patch"], validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        message = f'admission webhook "{webhook["name"]}" answered with a patch that cannot be read: {error}'
        raise errors.internal(message) from error
    return json_patch(match.converted(obj) or {}, operations)


def _denied(webhook: Object, status: Object) -> errors.StatusError:
    """The webhook's own Status, its message prefixed; never a code that reads as a success."""
    told = status.get("message") or status.get("reason")
    message = f'admission webhook "{webhook["name"]}" denied the request' + (
        f": {told}" if told else " without explanation"
    )
    code = status.get("code") if isinstance(status.get("code"), int) else 0
    return errors.StatusError(max(code or 0, 400), str(status.get("reason") or ""), message, status.get("details"))


@lru_cache(maxsize=32)
def _tls(bundle: str) -> ssl.SSLContext:
    """Trusts the configuration's own CA alone, or the system's when it names none. Raises ValueError."""
    if not bundle:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
