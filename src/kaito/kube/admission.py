"""An admission server: the API server asks it over TLS whether an object may be stored.

It serves any number of handlers by path, and sees to the webhook configuration that sends the API server here: one
that an installation made gets the authority put in and is otherwise left as it is; where there is none, it is made. The
webhook is a courtesy: it says faults at once that the controller would say later in the status. So the configuration
made here ignores a webhook that does not answer, and a broken operator never blocks the users' objects.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from kaito.kube.certificates import Certificate
from kaito.kube.client import STRATEGIC_PATCH, Client
from kaito.kube.resources import untyped

WEBHOOKS = untyped(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False
)
MANAGED_BY = "app.kubernetes.io/managed-by"
"""The label of what an installation made."""
TIMEOUT_SECONDS = 10
LARGEST_REVIEW = 4 * 2**20


class Request(msgspec.Struct, frozen=True):
    """The part of an AdmissionReview's request that handlers read. Objects stay JSON, to be decoded item by item."""

    uid: str
    operation: str = ""
    namespace: str = ""
    name: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")
    oldObject: msgspec.Raw = msgspec.Raw(b"null")


class _Review(msgspec.Struct, frozen=True):
    request: Request


@dataclass(frozen=True)
class Verdict:
    """`faults` refuse the object, all in one message; `warnings` are shown to the user either way."""

    faults: Sequence[str] = ()
    warnings: Sequence[str] = ()


Handler = Callable[[Request], Awaitable[Verdict]]


@dataclass(frozen=True)
class Webhook:
    """One handler: its path and what it is asked about."""

    name: str
    path: str
    group: str
    versions: Sequence[str]
    resource: str
    handler: Handler


async def serve_admission(
    stack: AsyncExitStack, webhooks: Sequence[Webhook], tls: ssl.SSLContext, host: str, port: int
) -> int:
    """Listen with TLS until `stack` closes. Returns the port, which is a free one for port 0."""
    app = web.Application(client_max_size=LARGEST_REVIEW)
    app.add_routes([web.post(webhook.path, _answer(webhook.handler)) for webhook in webhooks])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host or None, port, ssl_context=tls)
    await site.start()
    address = runner.addresses[0]
    return int(address[1])


async def configure_webhooks(
    client: Client, name: str, webhooks: Sequence[Webhook], certificate: Certificate, where: Mapping[str, Any]
) -> bool:
    """See to it that the API server asks them and trusts the certificate. Writes only what is not so yet.

    `where` is a `clientConfig` without path and CA: a `service`, or a `url`. False when the configuration of this name
    sends the API server elsewhere: it belongs to somebody else, and stays as it is.
    """
    found = await client.find(WEBHOOKS, name)
    wanted = [_configuration(webhook, certificate, where) for webhook in webhooks]
    if found is None:
        await client.apply(WEBHOOKS, {"metadata": {"name": name}, "webhooks": wanted})
        return True
    if MANAGED_BY not in found["metadata"].get("labels", {}):  # nobody's but ours
        if not _holds(found, wanted):
            await client.apply(WEBHOOKS, {"metadata": {"name": name}, "webhooks": wanted})
        return True
    listed = {one["name"]: one["clientConfig"] for one in found.get("webhooks", [])}
    if any(_address(listed.get(one["name"], {})) != _address(one["clientConfig"]) for one in wanted):
        return False
    untrusted = [one for one in wanted if listed[one["name"]].get("caBundle") != one["clientConfig"]["caBundle"]]
    if untrusted:
        bundles = [
            {"name": one["name"], "clientConfig": {"caBundle": one["clientConfig"]["caBundle"]}} for one in untrusted
        ]
        await client.patch(WEBHOOKS, name, {"webhooks": bundles}, content_type=STRATEGIC_PATCH)
    return True


def _configuration(webhook: Webhook, certificate: Certificate, where: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": webhook.name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "clientConfig": _client_config(where, webhook.path, certificate),
        "rules": [
            {
                "apiGroups": [webhook.group],
                "apiVersions": list(webhook.versions),
                "operations": ["CREATE", "UPDATE"],
                "resources": [webhook.resource],
            }
        ],
    }


def _address(config: Mapping[str, Any]) -> tuple[Any, ...]:
    service = config.get("service") or {}
    return config.get("url"), service.get("namespace"), service.get("name"), service.get("path")


def _holds(found: Any, wanted: Any) -> bool:
    """Whether what is wanted is in what was found; the server adds defaults."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_holds(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_holds, found, wanted))
    return bool(found == wanted)


def _client_config(where: Mapping[str, Any], path: str, certificate: Certificate) -> dict[str, Any]:
    bundle = {"caBundle": base64.b64encode(certificate.authority).decode()}
    if "url" in where:
        return {"url": f"{where['url']}{path}", **bundle}
    return {"service": {**where["service"], "path": path}, **bundle}


def _answer(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            review = msgspec.json.decode(await request.read(), type=_Review)
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"not an AdmissionReview: {error}")
        verdict = await handler(review.request)
        response: dict[str, Any] = {"uid": review.request.uid, "allowed": not verdict.faults}
        if verdict.warnings:
            response["warnings"] = list(verdict.warnings)
        if verdict.faults:
            response["status"] = {
                # 422 would be right too, but old kubectl then says "The request is invalid" and nothing else.
                "code": 400,
                "reason": "BadRequest",
                "message": "; ".join(fault.rstrip(".") for fault in verdict.faults),
            }
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    return answer


def serve_certificate(context: ssl.SSLContext, certificate: Certificate) -> None:
    """New connections get this one, also on a context that is in use.

    Python loads key pairs from files only, so they are in one for that moment, readable by us alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(certificate.key + certificate.certificate)
        context.load_cert_chain(pair)
