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


def _ip(text: str) -> Tagged:
    return {"ip": str(ipaddress.ip_address(text))}


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
}


@cache
def all_functions() -> dict[str, Callable[..., Any]]:
    """The engine's own library of strings, lists, sets and mathematics, and what Kubernetes adds."""
    library: dict[str, Callable[..., Any]] = load_library().STDLIB_FUNCTIONS
    return {**library, **_ADDED}
