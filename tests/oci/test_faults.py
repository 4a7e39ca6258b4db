"""Registries that misbehave, and token servers: dropped connections, 429, 500, expired logins."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from kaito.local.registry import Registry, RegistryCredentials
from kaito.oci.auth import DockerConfig, write_docker_config
from kaito.oci.client import RegistryClient
from kaito.oci.digest import digest_of
from kaito.oci.errors import Refused, Unauthorized, Unreachable
from kaito.oci.image import pull_image, push_image
from kaito.oci.reference import Reference, parse_reference
from kaito.oci.session import RetryPolicy, Session
from tests.oci.registries import PASSWORD, USER, docker_registry

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault = Callable[[web.Request, Next], Awaitable[web.StreamResponse]]


async def at_once(seconds: float) -> None:
    return None


def session(config: Path | None, **more: Any) -> Session:
    return Session(DockerConfig(config), sleep=at_once, **more)


class Front:
    """A server in front of a registry that passes requests on, but for what its faults do to them."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str]] = []
        self.name = ""

    @web.middleware
    async def middleware(self, request: web.Request, handler: Next) -> web.StreamResponse:
        self.log.append((request.method, request.path))
        for fault in self.faults:
            inner = handler

            async def wrapped(r: web.Request, fault: Fault = fault, inner: Next = inner) -> web.StreamResponse:
                return await fault(r, inner)

            handler = wrapped
        return await handler(request)

    def once(self, method: str, part: str, fault: Fault, times: int = 1) -> None:
        """Let `fault` answer the first `times` requests of a method whose path holds `part`."""
        left = [times]

        async def sometimes(request: web.Request, handler: Next) -> web.StreamResponse:
            if left[0] and request.method == method and part in request.path:
                left[0] -= 1
                return await fault(request, handler)
            return await handler(request)

        self.faults.append(sometimes)


class FaultyRegistry(Registry):
    """The real registry, with a Front before its routes."""

    def __init__(self, root: Path, front: Front) -> None:
        super().__init__(root, credentials=RegistryCredentials(USER, PASSWORD))
        self.front = front

    async def start(self) -> None:
        check = self._check_login

        @web.middleware
        async def both(request: web.Request, handler: Next) -> web.StreamResponse:
            async def checked(r: web.Request) -> web.StreamResponse:
                return await check(r, handler)

            return await self.front.middleware(request, checked)

        self._check_login = both  # type: ignore[method-assign]  # the one seam before the routes
        await super().start()
        self.front.name = self.name


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    made = Front()
    registry = FaultyRegistry(tmp_path / "registry", made)
    await registry.start()
    yield made
    await registry.stop()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "weights"
    path.write_bytes(bytes(i * 7 % 251 for i in range(400_000)))
    return {"data/weights": path}


def answers(status: int, **headers: str) -> Fault:
    async def fault(request: web.Request, handler: Next) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return fault


async def drop(request: web.Request, handler: Next) -> web.StreamResponse:
    """The connection breaks after a part of the body was read."""
    await request.content.read(20_000)
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drop_late(request: web.Request, handler: Next) -> web.StreamResponse:
    """The registry keeps the chunk, but its answer is lost."""
    await handler(request)
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


FAULTS: dict[str, tuple[str, str, Fault, int]] = {
    "head 500": ("HEAD", "/blobs/", answers(500), 2),
    "post 429": ("POST", "/uploads", answers(429, **{"Retry-After": "1"}), 2),
    "patch dropped": ("PATCH", "/uploads/", drop, 2),
    "patch answer lost": ("PATCH", "/uploads/", drop_late, 2),
    "patch 500": ("PATCH", "/uploads/", answers(500), 1),
    "patch 404: the upload is lost": ("PATCH", "/uploads/", answers(404), 1),
    "patch 416": ("PATCH", "/uploads/", answers(416), 1),
    "put 503": ("PUT", "/uploads/", answers(503), 1),
    "manifest 502": ("PUT", "/manifests/", answers(502), 3),
    "401 after expiry": ("PATCH", "/uploads/", answers(401, **{"WWW-Authenticate": 'Basic realm="x"'}), 1),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_push_gets_through(name: str, front: Front, files: dict[str, Path], tmp_path: Path) -> None:
    front.once(*FAULTS[name])
    config = tmp_path / "registry" / "config.json"
    reference = parse_reference(f"{front.name}/a:1")
    async with session(config) as opened:
        client = RegistryClient(opened, upload_chunk=4_000)  # the layer compresses to some tens of kilobytes
        pushed = await push_image(client, reference, files)
        assert await pull_image(client, reference, tmp_path / "out") == pushed.digest
    assert (tmp_path / "out" / "data" / "weights").read_bytes() == files["data/weights"].read_bytes()


async def test_a_pull_resumes(front: Front, tmp_path: Path) -> None:
    content = bytes(i * 7 % 251 for i in range(3_000_000))

    async def half(request: web.Request, handler: Next) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[:1_500_000])
        assert request.transport is not None
        request.transport.close()
        return response

    reference = Reference(front.name, "a")
    async with session(tmp_path / "registry" / "config.json") as opened:
        client = RegistryClient(opened)
        (tmp_path / "blob").write_bytes(content)
        digest = digest_of(content)
        await client.push_blob(reference, tmp_path / "blob", digest)
        front.once("GET", "/blobs/", half)
        moved: list[int] = []
        await client.pull_blob(reference, {"digest": digest, "size": len(content)}, tmp_path / "got", moved.append)
    assert (tmp_path / "got").read_bytes() == content
    assert sum(moved) == len(content)  # nothing came twice


@pytest.mark.parametrize(
    ("status", "error"), [(500, Unreachable), (429, Unreachable), (405, Refused), (403, Unauthorized)]
)
async def test_lasting_faults_are_errors(
    status: int, error: type[Exception], front: Front, files: dict[str, Path], tmp_path: Path
) -> None:
    front.once("POST", "/uploads", answers(status), times=1000)
    async with session(tmp_path / "registry" / "config.json", retry=RetryPolicy(tries=3)) as opened:
        with pytest.raises(error):
            await push_image(RegistryClient(opened), parse_reference(f"{front.name}/a:1"), files)
    posts = [one for one in front.log if one[0] == "POST"]
    assert len(posts) == (3 if error is Unreachable else 1)


# Token servers


class TokenServer:
    """Docker's token authentication: short-lived JWTs, signed; and the refresh-token form that Azure uses."""

    def __init__(self, lifetime: float = 300) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.lifetime = lifetime
        self.asked: list[dict[str, str]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> TokenServer:
        app = web.Application()
        app.router.add_route("*", "/token", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/token"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        given = dict(await request.post() if request.method == "POST" else request.query)
        self.asked.append({key: str(value) for key, value in given.items()})
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = request.headers.get("Authorization") == basic or given.get("refresh_token") == "refresh-me"
        if not known:
            return web.Response(status=401)
        kind, name, actions = str(given["scope"]).split(":")
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        return web.json_response({"token": self._sign(access), "expires_in": self.lifetime})

    @functools.cached_property
    def certificate(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(name).public_key(self.key.public_key())
            .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip
        return made.public_bytes(serialization.Encoding.PEM)

    def _sign(self, access: list[dict[str, Any]]) -> str:
        der = x509.load_pem_x509_certificate(self.certificate).public_bytes(serialization.Encoding.DER)
        header = {"alg": "ES256", "typ": "JWT", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        claims = {
            "iss": "test", "sub": USER, "aud": "registry", "nbf": now - 60, "iat": now,
            "exp": now + int(self.lifetime), "jti": hashlib.sha256(str(len(self.asked)).encode()).hexdigest()[:16],
            "access": access,
        }  # fmt: skip
        signed = ".".join(_b64(json.dumps(part).encode()) for part in (header, claims))
        r, s = utils.decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32) + s.to_bytes(32))}"


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.tools
@pytest.mark.parametrize("login", ["password", "refresh token"])
async def test_docker_registry_with_a_token_server(login: str, files: dict[str, Path], tmp_path: Path) -> None:
    async with TokenServer() as tokens:
        (tmp_path / "ca.pem").write_bytes(tokens.certificate)
        options = f"realm: {tokens.url}, service: registry, issuer: test, rootcertbundle: {tmp_path}/ca.pem"
        auth = f"auth: {{token: {{{options}}}}}"
        with docker_registry(tmp_path, auth) as name:
            config = tmp_path / "config.json"
            if login == "password":
                write_docker_config(config, name, USER, PASSWORD)
            else:
                config.write_text(json.dumps({"auths": {name: {"identitytoken": "refresh-me"}}}))
            reference = parse_reference(f"{name}/team/a:1")
            async with session(config) as opened:
                client = RegistryClient(opened)
                pushed = await push_image(client, reference, files)
                assert await pull_image(client, reference, tmp_path / "out") == pushed.digest
            asked = len(tokens.asked)
            write_docker_config(config, name, USER, "wrong")
            async with session(config) as opened:
                with pytest.raises(Unauthorized, match="refuses the login"):
                    await push_image(RegistryClient(opened), reference, files)
    assert {one["scope"] for one in tokens.asked} == {"repository:team/a:pull", "repository:team/a:pull,push"}
    assert asked == 2, "a token is asked for once a scope, not once a request"


async def test_a_token_server_over_http_is_not_trusted_for_a_remote_registry() -> None:
    from kaito.oci.auth import Challenge

    opened = Session()
    with pytest.raises(Unauthorized, match="no token server that can be trusted"):
        await opened._token(Challenge("bearer", {"realm": "http://evil/token"}), None, Reference("r.io", "a"), "pull")
