"""Image references: `registry/repository:tag@digest`, as docker and the distribution specification read them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from kaito.oci.errors import BadReference

DOCKER_HUB = "docker.io"
DOCKER_HUB_HOST = "registry-1.docker.io"  # where the API of docker.io answers

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
_REGISTRY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Reference:
    """One image. `tag` and `digest` may both be given: the digest then decides."""

    registry: str  # host[:port]
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @property
    def host(self) -> str:
        return DOCKER_HUB_HOST if self.registry == DOCKER_HUB else self.registry

    def at(self, digest: str) -> Reference:
        return replace(self, digest=digest)


def parse_reference(text: str) -> Reference:
    """Read a reference; a name without a registry is Docker Hub's. Raises BadReference, which says what is wrong."""
    rest, _, digest = text.strip().partition("@")
    if "@" in text and not _DIGEST.fullmatch(digest):
        raise BadReference(f"image reference {text!r}: {digest!r} is not a digest such as sha256:<64 hex digits>")
    registry, repository = _split_registry(rest)
    name, colon, tag = repository.rpartition(":")
    if colon:
        repository = name
        if not _TAG.fullmatch(tag):
            raise BadReference(f"image reference {text!r}: {tag!r} is not a tag")
    else:
        tag = ""
    if registry == DOCKER_HUB and repository and "/" not in repository:
        repository = f"library/{repository}"
    if not _REGISTRY.fullmatch(registry):
        raise BadReference(f"image reference {text!r}: {registry!r} is not a registry's host name")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise BadReference(
            f"image reference {text!r}: {repository!r} is not a repository name (lower-case letters, digits, . _ - /)"
        )
    return Reference(registry, repository, tag, digest)


def is_loopback(registry: str) -> bool:
    """Whether the registry is this very machine, where http is as good as https."""
    host = registry.rpartition(":")[0] if re.search(r":\d+$", registry) else registry
    host = host.strip("[]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry = DOCKER_HUB if first in ("index.docker.io", "registry-1.docker.io", "docker.io") else first
        return registry, rest
    return DOCKER_HUB, name
