"""An admission server: the API server asks it over TLS whether an object may be stored.

It serves any number of handlers by path, and writes the webhook configuration that sends the API server here. The
webhook is a courtesy: it says faults at once that the controller would say later in the status. So the configuration
ignores a webhook that does not answer, and a broken operator never blocks the users' objects.
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
from kaito.kube.client import Client
from kaito.kube.resources import untyped

WEBHOOKS = untyped(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False
)
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
    stack: AsyncExitStack, webhooks: Sequence[Webhook], certificate: Certificate, host: str, port: int
) -> int:
    """Listen with TLS until `stack` closes. Returns the port, which is a free one for port 0."""
    app = web.Application(client_max_size=LARGEST_REVIEW)
    app.add_routes([web.post(webhook.path, _answer(webhook.handler)) for webhook in webhooks])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host, port, ssl_context=_tls(certificate))
    await site.start()
    address = runner.addresses[0]
    return int(address[1])


async def configure_webhooks(
    client: Client, name: str, webhooks: Sequence[Webhook], certificate: Certificate, where: Mapping[str, Any]
) -> None:
    """Tell the API server about them. `where` is a `clientConfig` without path and CA: a `service`, or a `url`."""
    rules = [
        {
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
        for webhook in webhooks
    ]
    await client.apply(WEBHOOKS, {"metadata": {"name": name}, "webhooks": rules})


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


def _tls(certificate: Certificate) -> ssl.SSLContext:
    """Python loads key pairs from files only, so they are in one for that moment, readable by us alone."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(certificate.key + certificate.certificate)
        context.load_cert_chain(pair)
    return context
