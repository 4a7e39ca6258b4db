"""Which addresses a data-set URL may lead to.

A URL in a manifest makes the cluster fetch on the author's behalf, so it must not reach what only the cluster can
reach: loopback, private and link-local networks, cloud metadata. The check is made on the addresses that are really
connected to, after DNS and after every redirect; a check on names alone is undone by any DNS server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from kaito.runtime.errors import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Not private by the letter, but answered by cloud platforms inside the machine.
METADATA = frozenset(map(ipaddress.ip_address, ["168.63.129.16", "100.100.100.200", "192.0.0.192"]))
SHARED = ipaddress.ip_network("100.64.0.0/10")  # carrier-grade NAT, where some clusters put their pods


class AddressForbidden(InputError):
    """The URL leads to an address that data may not come from."""

    def __init__(self, host: str, address: object) -> None:
        super().__init__(
            "DataAddressForbidden",
            f"the data URL's host {host} leads to {address}, a loopback, private, link-local or metadata address",
            "use a public address, or let the operator allow that network with --allow-data-from",
        )


def parse_allowed(text: str) -> list[Network]:
    """KAITO_DATA_ALLOW: comma-separated CIDRs. Raises InputError."""
    networks: list[Network] = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError as error:
            raise InputError("EnvironmentInvalid", f"KAITO_DATA_ALLOW holds {part!r}, which is no network") from error
    return networks


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether data may come from `address`: a public one, or one inside the allowed networks."""
    plain = _unmapped(address)
    if any(plain.version == network.version and plain in network for network in allowed):
        return True
    if plain in METADATA or (plain.version == 4 and plain in SHARED):
        return False
    return plain.is_global and not plain.is_multicast


def check_url(url: str, allowed: Sequence[Network]) -> None:
    """Scheme, host, and the address where the host is one. Names are checked when they are resolved."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # raises for a port that is no number
    except ValueError as error:
        raise InputError("DataUrlInvalid", f"the data URL {without_secrets(url)!r} cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(
            "DataUrlInvalid", f"the data URL {without_secrets(url)!r} is not http or https", "use an http(s) URL"
        )
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    if not is_allowed(address, allowed):
        raise AddressForbidden(host, address)


def without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment, which may hold signatures."""
    head = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path


class GuardedResolver(AbstractResolver):
    """DNS for aiohttp that hands on only allowed addresses, so that what is checked is what is connected to."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results: list[ResolveResult] = []
        refused: list[str] = []
        for kind, _, protocol, _, address in found:
            literal = str(address[0]).partition("%")[0]
            if not is_allowed(ipaddress.ip_address(literal), self._allowed):
                refused.append(literal)
                continue
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if refused and not results:
            raise AddressForbidden(host, refused[0])
        return results

    async def close(self) -> None:
        return None


def _unmapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, NAT64), which is where the packets go."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address in ipaddress.ip_network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
