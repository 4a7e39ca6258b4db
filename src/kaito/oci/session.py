"""One HTTP conversation with registries: scheme, login, retries, and answers turned into errors.

Above it `client.py` speaks of manifests and blobs; below is aiohttp. A request is tried again on a lost connection,
429 and 5xx with growing pauses; a 401 is answered once with a fresh login.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from kaito.oci.auth import Challenge, Credentials, DockerConfig, parse_challenge
from kaito.oci.errors import NotFound, Refused, Unauthorized, Unreachable
from kaito.oci.reference import Reference, is_loopback

RETRY_STATUS = frozenset({429, 500, 502, 503, 504})
Body = bytes | Callable[[], Any] | None  # a callable makes the body anew for each try

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently: pauses double from `first` to `most` seconds, shortened at random by up to half."""

    tries: int = 5
    first: float = 0.5
    most: float = 20.0

    def pause(self, attempt: int, chance: float) -> float:
        return float(min(self.most, self.first * 2**attempt) * (1 - chance / 2))


@dataclass
class Session:
    """An async context manager. `insecure` names the registries (host[:port]) that may be spoken to over plain http."""

    config: DockerConfig = field(default_factory=lambda: DockerConfig(None))
    insecure: frozenset[str] = frozenset()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    sleep: Sleep = asyncio.sleep
    chance: Callable[[], float] = random.random
    read_timeout: float = 60.0  # seconds without a byte
    _http: aiohttp.ClientSession | None = None
    _logins: dict[tuple[str, str], str] = field(default_factory=dict)  # (registry, scope) -> Authorization

    async def __aenter__(self) -> Session:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=self.read_timeout)
        self._http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._http is not None:
            await self._http.close()

    def url(self, reference: Reference, path: str) -> str:
        return f"{self.scheme(reference.registry)}://{reference.host}/v2/{reference.repository}/{path}"

    def scheme(self, registry: str) -> str:
        return "http" if registry in self.insecure or is_loopback(registry) else "https"

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        reference: Reference,
        *,
        scope: str = "pull",
        headers: dict[str, str] | None = None,
        body: Body = None,
        accept: frozenset[int] = frozenset({200}),
        tries: int | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One answer whose status is in `accept`; its body is still to be read. `scope`: `pull` or `pull,push`.

        Raises the RegistryError that fits. `tries=1` leaves retrying to the caller, who knows how to resume.
        """
        response = await self._try(
            method, url, reference, scope, headers or {}, body, accept, tries or self.retry.tries
        )
        try:
            yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(
                reference.registry, f"the connection to {reference.registry} broke: {_words(error)}"
            ) from error
        finally:
            response.release()

    async def _try(
        self, method: str, url: str, reference: Reference, scope: str, headers: dict[str, str], body: Body,
        accept: frozenset[int], tries: int,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        trouble = ""
        for attempt in range(tries):
            if attempt:
                await self.sleep(self.retry.pause(attempt - 1, self.chance()))
            try:
                response = await self._send(method, url, reference, scope, headers, body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                trouble = _words(error)
                continue
            if response.status in accept:
                return response
            if response.status not in RETRY_STATUS:
                raise await failure(response, reference)
            trouble = f"it answered {response.status} {response.reason}"
            wait = _retry_after(response)
            response.release()
            if wait and attempt + 1 < tries:
                await self.sleep(min(wait, self.retry.most))
        raise Unreachable(reference.registry, f"registry {reference.registry} cannot be used now: {trouble}")

    async def _send(
        self, method: str, url: str, reference: Reference, scope: str, headers: dict[str, str], body: Body
    ) -> aiohttp.ClientResponse:
        """Send once, or twice when the first answer asks for a login."""
        key = (reference.registry, f"repository:{reference.repository}:{scope}")
        own = _same_host(url, self.url(reference, ""))  # credentials go to the registry itself, nowhere else
        login = self._logins.get(key) if own else None
        response = await self._raw(method, url, headers, body, login)
        if response.status != 401 or not own:
            return response
        challenge = parse_challenge(response.headers.getall("WWW-Authenticate", []))
        response.release()
        self._logins.pop(key, None)
        login = await self._login(challenge, reference, key[1])
        response = await self._raw(method, url, headers, body, login)
        if response.status not in (401, 403):
            self._logins[key] = login
        return response

    async def _raw(
        self, method: str, url: str, headers: dict[str, str], body: Body, login: str | None
    ) -> aiohttp.ClientResponse:
        assert self._http is not None, "Session is an async context manager"
        sent = dict(headers)
        if login:
            sent["Authorization"] = login
        data = body() if callable(body) else body
        redirects = method in ("GET", "HEAD")
        return await self._http.request(method, url, headers=sent, data=data, allow_redirects=redirects)

    async def _login(self, challenge: Challenge | None, reference: Reference, scope: str) -> str:
        """The Authorization header that answers the challenge."""
        registry = reference.registry
        credentials = self.config.find(registry, reference.repository)
        if challenge is None:
            raise Unauthorized(
                registry, f"registry {registry} asks for a login in a way that is neither Basic nor Bearer"
            )
        if challenge.scheme == "bearer":
            return "Bearer " + await self._token(challenge, credentials, reference, scope)
        if credentials is None:
            raise Unauthorized(registry, f"registry {registry} asks for a login and there are no credentials for it")
        return credentials.basic()

    async def _token(
        self, challenge: Challenge, credentials: Credentials | None, reference: Reference, scope: str
    ) -> str:
        """Ask the token server that the challenge names (distribution specification, token authentication)."""
        registry, realm = reference.registry, challenge.parameters.get("realm", "")
        secure = urlsplit(realm).scheme == "https" or self.scheme(registry) == "http"
        if not realm or not secure:
            raise Unauthorized(registry, f"registry {registry} names no token server that can be trusted")
        query = {"service": challenge.parameters.get("service", ""), "scope": scope}
        assert self._http is not None
        if credentials is not None and credentials.identity_token:
            # The client's name is asked for by Docker Hub's token server and ignored by Azure's.
            form = {**query, "client_id": "kaito", "grant_type": "refresh_token",
                    "refresh_token": credentials.identity_token}  # fmt: skip
            request = self._http.post(realm, data=form)
        else:
            headers = {"Authorization": credentials.basic()} if credentials else {}
            request = self._http.get(realm, params={k: v for k, v in query.items() if v}, headers=headers)
        async with request as response:
            if response.status in RETRY_STATUS:
                response.raise_for_status()
            if response.status != 200:
                raise Unauthorized(registry, f"registry {registry} refuses the login ({_who(credentials)})")
            return _read_token(await response.read(), registry)


async def failure(response: aiohttp.ClientResponse, reference: Reference) -> Unauthorized | NotFound | Refused:
    """The error that an answer means, with the registry's own words."""
    try:
        words = _registry_words(await response.content.read(16384))
    except (aiohttp.ClientError, TimeoutError):
        words = ""
    response.release()
    registry, what = reference.registry, f"{response.status} {response.reason or ''}".strip()
    said = f"{what}: {words}" if words else what
    match response.status:
        case 401 | 403:
            return Unauthorized(registry, f"registry {registry} refuses access to {reference.repository} ({said})")
        case 404:
            return NotFound(registry, f"{reference} is not in its registry ({said})")
        case status:
            return Refused(registry, f"registry {registry} refused {reference.repository} ({said})", status)


def _registry_words(body: bytes) -> str:
    try:
        errors = json.loads(body)["errors"]
        return "; ".join(str(e.get("message") or e.get("code")) for e in errors)[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _read_token(body: bytes, registry: str) -> str:
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not token:
        raise Unauthorized(registry, f"the token server of registry {registry} answered without a token")
    return token


def _retry_after(response: aiohttp.ClientResponse) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def _same_host(one: str, other: str) -> bool:
    a, b = urlsplit(one), urlsplit(other)
    return (a.scheme, a.netloc) == (b.scheme, b.netloc)


def _who(credentials: Credentials | None) -> str:
    return f"user {credentials.username or 'token'!r}" if credentials else "no credentials were given"


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
