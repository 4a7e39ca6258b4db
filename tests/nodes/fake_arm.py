"""Azure as far as the provisioner sees it: a resource manager and a token endpoint, over TLS on loopback.

It answers as recorded from AKS: a PUT is 201 with Azure-AsyncOperation and goes on by itself, a DELETE is 202, a list
comes in pages, ids have a lower-case `resourcegroups`. Tests script what shall go wrong.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kaito.nodes.providers.azure.config import AzureConfig, Cloud

SUBSCRIPTION, GROUP, CLUSTER, TENANT = "11111111-2222", "research", "aks", "tenant-1"
BASE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters"
OPERATIONS = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/eastus/operations"
Hook = Callable[[str], Awaitable[None]]


@dataclass
class Answer:
    """What one request shall get instead of the usual."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    also_accept: bool = False
    """Do what was asked all the same: an answer that got lost on its way."""


def error_body(code: str, message: str = "", details: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **({"details": details} if details else {})}}


class FakeArm:
    """`calls` counts requests by what they are: put, get, list, page, delete, operation, token."""

    def __init__(self, *, create_seconds: float = 0.05, delete_seconds: float = 0.05, page_size: int = 2) -> None:
        self.calls: Counter[str] = Counter()
        self.pools: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.bodies: list[dict[str, Any]] = []
        self.versions: set[str] = set()
        self.scripts: dict[str, list[Answer]] = {}
        self.fail_with: dict[str, Any] | None = None
        """The error that operations end in, while set."""
        self.hold = False
        """Operations stay in progress while set."""
        self.assertions: list[str] = []
        self.token_seconds = 3600
        self.revoked = 0
        """Tokens up to this number are refused."""
        self.on_succeeded: Hook | None = None
        self.on_deleted: Hook | None = None
        self.url = ""
        self._create_seconds = create_seconds
        self._delete_seconds = delete_seconds
        self._page_size = page_size
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens = 0

    def script(self, what: str, *answers: Answer) -> None:
        """The next requests of that sort get these answers, in order."""
        self.scripts.setdefault(what, []).extend(answers)

    def application(self) -> web.Application:
        application = web.Application()
        pool = f"{BASE}/{CLUSTER}/agentPools/{{name}}"
        application.add_routes(
            [
                web.put(pool, self._put),
                web.get(pool, self._get),
                web.delete(pool, self._delete),
                web.get(f"{BASE}/{CLUSTER}/agentPools", self._list),
                web.get(f"{OPERATIONS}/{{id}}", self._operation),
                web.post(f"/{TENANT}/oauth2/v2.0/token", self._token),
                web.get(f"/{TENANT}/v2.0/.well-known/openid-configuration", self._openid),
            ]
        )
        return application

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        body = await request.json()
        refused = self._gate("put", request)
        if refused is not None and not refused.also_accept:
            return _respond(refused)
        self.bodies.append(body)
        self.versions.add(request.query["api-version"])
        known = name in self.pools
        properties = {**body["properties"], "provisioningState": "Updating" if known else "Creating"}
        properties.setdefault("osDiskSizeGB", 128)
        self.pools[name] = {
            "id": f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}/providers/agentPools/{name}",
            "name": name,
            "properties": properties,
        }
        operation = self._begin(name, self._create(name))
        if refused is not None:
            return _respond(refused)
        headers = {"Azure-AsyncOperation": f"{self.url}{OPERATIONS}/{operation}?api-version=2016-03-30"}
        return web.json_response(self.pools[name], status=200 if known else 201, headers=headers)

    async def _get(self, request: web.Request) -> web.Response:
        refused = self._gate("get", request)
        if refused is not None:
            return _respond(refused)
        pool = self.pools.get(request.match_info["name"])
        if pool is None:
            return web.json_response(error_body("NotFound", "Agent Pool not found"), status=404)
        return web.json_response(pool)

    async def _list(self, request: web.Request) -> web.Response:
        start = int(request.query.get("skip", "0"))
        refused = self._gate("page" if start else "list", request)
        if refused is not None:
            return _respond(refused)
        pools = [self.pools[name] for name in sorted(self.pools)]
        page: dict[str, Any] = {"value": pools[start : start + self._page_size]}
        if start + self._page_size < len(pools):
            version = request.query["api-version"]
            skip = start + self._page_size
            page["nextLink"] = f"{self.url}{BASE}/{CLUSTER}/agentPools?api-version={version}&skip={skip}"
        return web.json_response(page)

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        refused = self._gate("delete", request)
        if refused is not None:
            return _respond(refused)
        if name not in self.pools:
            return web.Response(status=204)
        self.pools[name]["properties"]["provisioningState"] = "Deleting"
        operation = self._begin(name, self._vanish(name))
        where = f"{self.url}{OPERATIONS}/{operation}?api-version=2016-03-30"
        return web.Response(status=202, headers={"Azure-AsyncOperation": where, "Location": where})

    async def _operation(self, request: web.Request) -> web.Response:
        refused = self._gate("operation", request)
        if refused is not None:
            return _respond(refused)
        operation = self.operations.get(request.match_info["id"])
        if operation is None:
            return web.json_response(error_body("NotFound"), status=404)
        return web.json_response(operation)

    async def _token(self, request: web.Request) -> web.Response:
        self.calls["token"] += 1
        form = await request.post()
        assertion = str(form.get("client_assertion"))
        scripted = self.scripts.get("token")
        if scripted:
            return _respond(scripted.pop(0))
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        self.assertions.append(assertion)
        self._tokens += 1
        token = {"token_type": "Bearer", "access_token": f"token-{self._tokens}", "expires_in": self.token_seconds}
        return web.json_response(token)

    async def _openid(self, _: web.Request) -> web.Response:
        here = f"{self.url}/{TENANT}"
        return web.json_response(
            {
                "token_endpoint": f"{here}/oauth2/v2.0/token",
                "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
                "issuer": f"{here}/v2.0",
            }
        )

    def _gate(self, what: str, request: web.Request) -> Answer | None:
        """The scripted answer, or a refusal of the token."""
        self.calls[what] += 1
        scripted = self.scripts.get(what)
        if scripted:
            return scripted.pop(0)
        token = request.headers.get("Authorization", "").removeprefix("Bearer token-")
        if not token.isdigit() or int(token) <= self.revoked:
            return Answer(401, error_body("ExpiredAuthenticationToken", "The access token expiry is in the past."))
        return None

    def _begin(self, name: str, work: Awaitable[dict[str, Any] | None]) -> str:
        number = f"op-{len(self.operations)}"
        self.operations[number] = {"name": number, "status": "InProgress", "startTime": "2026-05-01T12:00:00Z"}
        task = asyncio.ensure_future(self._finish(number, work))
        self._tasks.add(task)
        return number

    async def _finish(self, number: str, work: Awaitable[dict[str, Any] | None]) -> None:
        error = await work
        self.operations[number] |= {"status": "Failed", "error": error} if error else {"status": "Succeeded"}

    async def _create(self, name: str) -> dict[str, Any] | None:
        await self._elapse(self._create_seconds)
        pool = self.pools.get(name)
        if pool is None or pool["properties"]["provisioningState"] == "Deleting":
            return None
        if self.fail_with is not None:
            pool["properties"]["provisioningState"] = "Failed"
            error: dict[str, Any] = self.fail_with["error"]
            return error
        pool["properties"] |= {"provisioningState": "Succeeded", "nodeImageVersion": "AKSUbuntu-2204gen2"}
        if self.on_succeeded is not None:
            await self.on_succeeded(name)
        return None

    async def _vanish(self, name: str) -> dict[str, Any] | None:
        await self._elapse(self._delete_seconds)
        self.pools.pop(name, None)
        if self.on_deleted is not None:
            await self.on_deleted(name)
        return None

    async def _elapse(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while self.hold:
            await asyncio.sleep(0.01)


def _respond(answer: Answer) -> web.Response:
    return web.json_response(answer.body, status=answer.status, headers=answer.headers)


@asynccontextmanager
async def serving(folder: Path, arm: FakeArm) -> AsyncIterator[AzureConfig]:
    """Azure on loopback while the context lasts; the configuration that leads to it."""
    context = make_certificate(folder)
    runner = web.AppRunner(arm.application(), access_log=None, shutdown_timeout=1.0)  # clients may hold on
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    arm.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    token_file = folder / "token"
    token_file.write_text("assertion-1")
    try:
        yield AzureConfig(
            subscription=SUBSCRIPTION,
            resource_group=GROUP,
            cluster=CLUSTER,
            cloud=Cloud(arm.url, "https://management.azure.com/.default", arm.url),
            credential="workload-identity",
            tenant=TENANT,
            client_id="client-1",
            token_file=token_file,
            ca_file=folder / "ca.pem",
            poll_seconds=0.05,
            retry_backoff=0.01,
        )
    finally:
        await arm.close()
        await runner.cleanup()


def make_certificate(folder: Path) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake arm")])
    begin = datetime.datetime.fromtimestamp(time.time() - 3600, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context
