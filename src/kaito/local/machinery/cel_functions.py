"""The functions that Kubernetes adds to CEL, as free functions whose first argument is the receiver.

Rules in CRDs call them as methods (`self.find('[0-9]+')`) or by name (`quantity('1Gi')`). The engine can carry only
JSON values, so a quantity, a URL or an address travels between two calls as a small map that holds its text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from kaito.local.machinery.cel_engine import load_library
from kaito.local.machinery.quantity import QuantityError, format_quantity, parse_quantity

Tagged = dict[str, str]


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found.group(0) if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match.group(0) for match in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


def _is_sorted(items: list[Any]) -> bool:
    return all(earlier <= later for earlier, later in pairwise(items))


def _index_of(subject: Any, wanted: Any, start: int = 0) -> int:
    if isinstance(subject, str):
        return subject.find(wanted, start)
    return next((index for index, item in enumerate(subject) if item == wanted), -1)


def _last_index_of(subject: Any, wanted: Any) -> int:
    if isinstance(subject, str):
        return subject.rfind(wanted)
    return next((index for index in range(len(subject) - 1, -1, -1) if subject[index] == wanted), -1)


def _quantity(text: str) -> Tagged:
    # The canonical number, so that two spellings of one amount are equal.
    return {"quantity": format(parse_quantity(text).normalize(), "f")}


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except QuantityError:
        return False
    return True


def _amount(value: Any) -> Decimal:
    return Decimal(value["quantity"]) if isinstance(value, dict) else Decimal(value)


def _tagged(amount: Decimal) -> Tagged:
    return {"quantity": format(amount.normalize(), "f")}


def _compare(one: Tagged, other: Tagged) -> int:
    if "semver" in one:
        first, second = _semver_key(one), _semver_key(other)
        return (first > second) - (first < second)
    return (_amount(one) > _amount(other)) - (_amount(one) < _amount(other))


def _sign(value: Tagged) -> int:
    return (_amount(value) > 0) - (_amount(value) < 0)


def _as_integer(value: Tagged) -> int:
    amount = _amount(value)
    if amount != amount.to_integral_value():
        raise ValueError(f"{format_quantity(amount)} is not a whole number")
    return int(amount)


def _is_integer(value: Tagged) -> bool:
    amount = _amount(value)
    return amount == amount.to_integral_value() and abs(amount) < 2**63


def _url(text: str) -> Tagged:
    if not _is_url(text):
        raise ValueError(f"{text!r} is not a URL: a scheme and a host, or an absolute path, are needed")
    return {"url": text}


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path)) or text.startswith("/")


def _parts(value: Tagged) -> SplitResult:
    return urlsplit(value["url"])


def _ip(value: Any) -> Tagged:
    """`ip(text)`, and `cidr.ip()`."""
    if isinstance(value, dict):
        return {"ip": str(ipaddress.ip_interface(value["cidr"]).ip)}
    return {"ip": str(ipaddress.ip_address(value))}


def _address(value: Tagged) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(value["ip"])


_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][\dA-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][\dA-Za-z-]*))*))?(?:\+[\dA-Za-z.-]+)?"
)


def _is_semver(text: str) -> bool:
    return _SEMVER.fullmatch(text) is not None


def _semver(text: str) -> Tagged:
    if not _is_semver(text):
        raise ValueError(f"{text!r} is not a semantic version such as 1.2.3")
    return {"semver": text}


def _semver_key(value: Tagged) -> tuple[Any, ...]:
    """Orders as semver.org has it: a release is above its pre-releases, numbers are below words."""
    found = _SEMVER.fullmatch(value["semver"])
    assert found is not None, "semver() checked it"
    numbers = tuple(int(found.group(place)) for place in (1, 2, 3))
    before = found.group(4)
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in (before or "").split("."))
    return numbers, before is None, parts


def _semver_part(place: int) -> Callable[[Tagged], int]:
    return lambda value: int(_semver_key(value)[0][place])


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _cidr(text: str) -> Tagged:
    return {"cidr": str(ipaddress.ip_interface(text).with_prefixlen)}


def _is_cidr(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text


def _network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(value["cidr"] if isinstance(value, dict) else value, strict=False)


def _contains_ip(network: Tagged, address: Any) -> bool:
    return ipaddress.ip_address(address["ip"] if isinstance(address, dict) else address) in _network(network)


def _contains_cidr(network: Tagged, other: Any) -> bool:
    outer, inner = _network(network), _network(other)
    return outer.version == inner.version and outer.supernet_of(inner)  # type: ignore[arg-type]  # same version


def _family(value: Tagged) -> int:
    return ipaddress.ip_interface(value.get("ip") or value["cidr"]).version


_LINK_LOCAL_MULTICAST: Final = {4: ipaddress.ip_network("224.0.0.0/24"), 6: ipaddress.ip_network("ff02::/16")}


def _is_global_unicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """As Go means it: private networks count, the special addresses do not."""
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not special and address != ipaddress.ip_address("255.255.255.255")


_ADDED: Final[dict[str, Callable[..., Any]]] = {
    "find": _find,
    "findAll": _find_all,
    "isSorted": _is_sorted,
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "quantity": _quantity,
    "isQuantity": _is_quantity,
    "isGreaterThan": lambda one, other: _compare(one, other) > 0,
    "isLessThan": lambda one, other: _compare(one, other) < 0,
    "compareTo": _compare,
    "sign": _sign,
    "asInteger": _as_integer,
    "isInteger": _is_integer,
    "asApproximateFloat": lambda value: float(_amount(value)),
    "add": lambda one, other: _tagged(_amount(one) + _amount(other)),
    "sub": lambda one, other: _tagged(_amount(one) - _amount(other)),
    "url": _url,
    "isURL": _is_url,
    "getScheme": lambda value: _parts(value).scheme,
    "getHost": lambda value: _parts(value).netloc.rpartition("@")[2],
    "getHostname": lambda value: _parts(value).hostname or "",
    "getPort": lambda value: str(_parts(value).port or ""),
    "getEscapedPath": lambda value: _parts(value).path,
    "getQuery": lambda value: parse_qs(_parts(value).query, keep_blank_values=True),
    "ip": _ip,
    "isIP": _is_ip,
    "cidr": _cidr,
    "isCIDR": _is_cidr,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "prefixLength": lambda value: _network(value).prefixlen,
    "masked": lambda value: {"cidr": str(_network(value))},
    "family": _family,
    "isUnspecified": lambda value: _address(value).is_unspecified,
    "isLoopback": lambda value: _address(value).is_loopback,
    "isLinkLocalMulticast": lambda value: _address(value) in _LINK_LOCAL_MULTICAST[_address(value).version],
    "isLinkLocalUnicast": lambda value: _address(value).is_link_local,
    "isGlobalUnicast": lambda value: _is_global_unicast(_address(value)),
    "ip.isCanonical": lambda text: text == str(ipaddress.ip_address(text)),
    "semver": _semver,
    "isSemver": _is_semver,
    "major": _semver_part(0),
    "minor": _semver_part(1),
    "patch": _semver_part(2),
}


@cache
def all_functions() -> dict[str, Callable[..., Any]]:
    """The engine's own library of strings, lists, sets and mathematics, and what Kubernetes adds."""
    library: dict[str, Callable[..., Any]] = load_library().STDLIB_FUNCTIONS
    return {**library, **_ADDED}
