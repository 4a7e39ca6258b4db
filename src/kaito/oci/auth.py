"""Credentials for registries: docker's config.json, and the Basic and Bearer challenges.

The file is the secret of type kubernetes.io/dockerconfigjson, mounted. It is read anew on every login, so that a
mended secret works without a restart.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.oci.errors import BadCredentialsFile

_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


@dataclass(frozen=True)
class Credentials:
    """A user and password, or an identity token (a refresh token, as Azure's registries hand out)."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"  # a password must not reach a log through a traceback


@dataclass(frozen=True)
class Challenge:
    """A WWW-Authenticate header: `scheme` in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse_challenge(headers: list[str]) -> Challenge | None:
    """The challenge to answer: Bearer before Basic; None when there is neither."""
    found: dict[str, Challenge] = {}
    for header in headers:
        scheme, _, rest = header.strip().partition(" ")
        parameters = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PARAMETER.finditer(rest)}
        found.setdefault(scheme.lower(), Challenge(scheme.lower(), parameters))
    return found.get("bearer") or found.get("basic")


class DockerConfig:
    """Looks credentials up in a docker config.json. A missing file is no credentials, not an error."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def find(self, registry: str, repository: str = "") -> Credentials | None:
        """The most specific entry: registry/repository, its parents, the registry, and docker's old spellings."""
        entries = {_canonical(key): value for key, value in self._entries().items()}
        parts = [registry, *repository.split("/")] if repository else [registry]
        for length in range(len(parts), 0, -1):
            entry = entries.get("/".join(parts[:length]))
            if entry is not None:
                return self._credentials(entry, registry)
        return None

    def _entries(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BadCredentialsFile(f"{self._path.name} is not a docker config.json: {error}") from error
        auths = content.get("auths", {}) if isinstance(content, dict) else None
        if not isinstance(auths, dict):
            raise BadCredentialsFile(f"{self._path.name} has no object `auths`, so it is not a docker config.json")
        return auths

    def _credentials(self, entry: Any, registry: str) -> Credentials:
        if not isinstance(entry, dict):
            raise BadCredentialsFile(f"the entry for {registry} in {self._path_name} is not an object")
        username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        auth = entry.get("auth")
        if auth and not (username and password):
            try:
                decoded = base64.b64decode(str(auth), validate=False).decode()
            except (binascii.Error, UnicodeDecodeError) as error:
                raise BadCredentialsFile(
                    f"`auth` of {registry} in {self._path_name} is not base64 of user:password"
                ) from error
            username, _, password = decoded.rstrip("\0").partition(":")
        token = str(entry.get("identitytoken") or "")
        if not token and password and username == "00000000-0000-0000-0000-000000000000":
            token = password  # Azure's convention for a refresh token in the place of a password
        return Credentials(username, password, token)

    @property
    def _path_name(self) -> str:
        return self._path.name if self._path else "config.json"


def _canonical(key: str) -> str:
    """`https://index.docker.io/v1/` and its kin as plain `docker.io`, other keys without scheme and /v1/ or /v2/."""
    name = re.sub(r"^https?://", "", key).rstrip("/")
    name = re.sub(r"/v[12]$", "", name)
    host, slash, rest = name.partition("/")
    if host in ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"):
        host = "docker.io"
    return host + slash + rest


def write_docker_config(path: Path, registry: str, username: str, password: str) -> None:
    """Write a config.json (mode 0600) that holds the credentials of one registry."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    entry = {"username": username, "password": password, "auth": auth}
    beside = path.with_name(path.name + ".new")
    beside.touch(mode=0o600, exist_ok=True)
    beside.write_text(json.dumps({"auths": {registry: entry}}, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)
