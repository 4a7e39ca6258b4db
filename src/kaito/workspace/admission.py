"""The admission handler of Workspaces: the controller's own checks, at the moment that the user applies."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from kaito.api.faults import Fault
from kaito.api.transitions import validate_update
from kaito.api.validation import validate, warnings
from kaito.api.workspace import GROUP, VERSIONS, Workspace
from kaito.estimate.advice import admission_advice
from kaito.kube.admission import Request, Verdict, Webhook, configure_webhooks, serve_admission, serve_certificate
from kaito.kube.certificates import Certificate, obtain_certificate
from kaito.kube.client import Client
from kaito.kube.errors import KubeError
from kaito.workspace.causes import Cause
from kaito.workspace.lookups import look_up
from kaito.workspace.settings import Settings

log = logging.getLogger(__name__)

SECRET = "kaito-admission-certificate"  # noqa: S105 - the name of one
CONFIGURATION = WEBHOOK_NAME = "validation.workspace.kaito.sh"
WEBHOOK_PATH = "/validate-workspace"
LOOK_PAUSE = 60.0
"""Seconds between two looks at the certificate and the configuration, which others may renew, change or remove."""
RETRY_PAUSE = 10.0


def workspace_webhook(client: Client, settings: Settings, now: Callable[[], datetime]) -> Webhook:
    rules = settings.rules

    async def review(request: Request) -> Verdict:
        try:
            new = msgspec.json.decode(request.object, type=Workspace)
            old = msgspec.json.decode(request.oldObject, type=Workspace | None)
        except msgspec.ValidationError as error:
            return Verdict([f"not a Workspace: {error}"])
        if new.metadata.deletionTimestamp is not None:
            return Verdict()
        faults = validate(new, rules)
        if old is not None:
            faults = [*validate_update(old, new, settings.node_mode), *_fresh(faults, validate(old, rules))]
        told = [str(fault) for fault in faults]
        if not faults:
            new = _in_namespace(new, request.namespace)
            cause = await look_up(client, settings, new, old, now())
            told = [f"{_place_of(cause, new)}: {cause.text}"] if cause else []
        advice = [] if told or settings.node_mode == "byo" else admission_advice(new)
        return Verdict(told, [*warnings(new, rules), *advice])

    return Webhook(WEBHOOK_NAME, WEBHOOK_PATH, GROUP, VERSIONS, "workspaces", review)


def _in_namespace(workspace: Workspace, namespace: str) -> Workspace:
    """The request says the namespace; the object of a client need not."""
    metadata = msgspec.structs.replace(workspace.metadata, namespace=namespace or workspace.metadata.namespace)
    return msgspec.structs.replace(workspace, metadata=metadata)


def _place_of(cause: Cause, workspace: Workspace) -> str:
    """The field that a cause from the cluster is about."""
    if cause.reason.startswith("Config"):
        return "tuning.config" if workspace.tuning else "inference.config"
    return "resource.partition" if cause.reason == "InvalidPartition" else "resource.labelSelector"


def _fresh(faults: list[Fault], known: list[Fault]) -> list[Fault]:
    """An object that was stored with a fault can still be changed otherwise, its finalizers and labels above all."""
    return [fault for fault in faults if fault not in known]


@dataclass(frozen=True)
class AdmissionConfig:
    """Where the admission server listens, and the Service in front of it; without one it is called at localhost."""

    host: str
    port: int
    service: str
    namespace: str

    @property
    def names(self) -> list[str]:
        """What the certificate holds for: the Service, and this machine itself."""
        if not self.service:
            return ["localhost"]
        host = f"{self.service}.{self.namespace}.svc"
        return [host, f"{host}.cluster.local", "localhost"]

    def client_config(self, port: int) -> dict[str, Any]:
        """How the API server reaches the server that listens on `port`."""
        if not self.service:
            return {"url": f"https://localhost:{port}"}
        return {"service": {"name": self.service, "namespace": self.namespace, "port": 443}}


async def run_admission(
    client: Client,
    settings: Settings,
    config: AdmissionConfig,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    listening: Callable[[int], None] = lambda port: None,
    pause: float = LOOK_PAUSE,
) -> None:
    """Serve until cancelled, with a new certificate before the old one ends. `listening` is told the port."""
    webhooks = [workspace_webhook(client, settings, now)]
    async with AsyncExitStack() as stack:
        certificate = await _certificate(client, config, now)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serve_certificate(tls, certificate)
        port = await serve_admission(stack, webhooks, tls, config.host, config.port)
        listening(port)
        while True:
            done = await _configure(client, webhooks, certificate, config.client_config(port))
            await asyncio.sleep(pause if done else min(pause, RETRY_PAUSE))
            renewed = await _certificate(client, config, now)
            if renewed != certificate:
                certificate = renewed
                serve_certificate(tls, certificate)


async def _certificate(client: Client, config: AdmissionConfig, now: Callable[[], datetime]) -> Certificate:
    while True:
        try:
            return await obtain_certificate(client, config.namespace, SECRET, config.names, now())
        except KubeError as error:
            log.warning("no admission certificate", extra={"error": str(error)})
            await asyncio.sleep(RETRY_PAUSE)


async def _configure(
    client: Client, webhooks: Sequence[Webhook], certificate: Certificate, where: Mapping[str, Any]
) -> bool:
    """Whether the configuration could be looked after."""
    try:
        if not await configure_webhooks(client, CONFIGURATION, webhooks, certificate, where):
            log.warning("the webhook configuration is not ours", extra={"configuration": CONFIGURATION})
    except KubeError as error:
        log.warning("the webhook configuration is not written", extra={"error": str(error)})
        return False
    return True
