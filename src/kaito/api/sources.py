"""Checks of where data and adapters come from and go to: URLs, images, volumes."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from kaito.api.faults import Fault
from kaito.api.workspace import Adapter, DataDestination, DataSource

MAX_ADAPTERS = 10
DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata.google", "instance-data.ec2.internal", "metadata"})
_REFERENCE = re.compile(
    r"(?P<name>(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-fA-F]{32,}))?\Z"
)
"""The grammar of the OCI distribution specification, host and port included."""


def is_image_reference(text: str) -> bool:
    return bool(_REFERENCE.match(text))


def check_input(source: DataSource | None, allow: Sequence[str]) -> Iterator[Fault]:
    """`tuning.input`: exactly one of urls, volumeSource and image."""
    where = "tuning.input"
    if source is None:
        yield Fault(where, "no input is given", "Give urls, a volumeSource or an image.", "InvalidInput")
        return
    given = [n for n, v in (("urls", source.urls), ("volumeSource", source.volumeSource), ("image", source.image)) if v]
    if len(given) != 1:
        message = f"{' and '.join(given)} are all given" if given else "no source is given"
        yield Fault(where, message, "Give exactly one of urls, volumeSource and image.", "InvalidInput")
    for number, url in enumerate(source.urls):
        yield from check_url(f"{where}.urls[{number}]", url, allow)
    if source.image and not is_image_reference(source.image):
        yield _bad_image(f"{where}.image", source.image)


def check_destination(destination: DataDestination | None) -> Iterator[Fault]:
    """`tuning.output`: exactly one of volumeSource and image, and a secret with the image."""
    where = "tuning.output"
    if destination is None:
        yield Fault(where, "no output is given", "Give an image or a volumeSource.", "InvalidOutput")
        return
    if bool(destination.image) == bool(destination.volumeSource):
        message = "image and volumeSource are both given" if destination.image else "no destination is given"
        yield Fault(where, message, "Give exactly one of image and volumeSource.", "InvalidOutput")
    if destination.image and not is_image_reference(destination.image):
        yield _bad_image(f"{where}.image", destination.image)
    if destination.image and not destination.imagePushSecret:
        hint = "Name a Secret of type kubernetes.io/dockerconfigjson."
        yield Fault(f"{where}.imagePushSecret", "no secret is given for the image", hint, "InvalidOutput")


def check_adapters(adapters: Sequence[Adapter]) -> Iterator[Fault]:
    """`inference.adapters`: named, unlike, from an image or a volume, with a strength between 0 and 1."""
    where = "inference.adapters"
    if len(adapters) > MAX_ADAPTERS:
        hint = f"At most {MAX_ADAPTERS} can be served at once."
        yield Fault(where, f"{len(adapters)} adapters are given", hint, "InvalidAdapter")
    names = Counter(adapter.source.name for adapter in adapters if adapter.source)
    for name, count in names.items():
        if name and count > 1:
            yield Fault(where, f'{count} adapters have the name "{name}"', "Give each its own.", "InvalidAdapter")
    for number, adapter in enumerate(adapters):
        yield from _adapter(f"{where}[{number}]", adapter)


def _adapter(where: str, adapter: Adapter) -> Iterator[Fault]:
    source = adapter.source
    if source is None:
        yield Fault(f"{where}.source", "no source is given", "Give an image or a volumeSource.", "InvalidAdapter")
        return
    if not DNS_SUBDOMAIN.match(source.name):
        message = f'"{source.name}" is not a name' if source.name else "no name is given"
        hint = "Use lower-case letters, digits, '-' and '.'; requests name the adapter by it."
        yield Fault(f"{where}.source.name", message, hint, "InvalidAdapter")
    if source.urls:
        hint = "Use an image or a volumeSource."
        yield Fault(f"{where}.source.urls", "adapters do not come from URLs", hint, "InvalidAdapter")
    elif bool(source.image) == bool(source.volumeSource):
        message = "image and volumeSource are both given" if source.image else "no source is given"
        yield Fault(f"{where}.source", message, "Give exactly one of image and volumeSource.", "InvalidAdapter")
    if source.image and not is_image_reference(source.image):
        yield _bad_image(f"{where}.source.image", source.image)
    if adapter.strength is not None:
        yield from _strength(f"{where}.strength", adapter.strength)


def _strength(where: str, text: str) -> Iterator[Fault]:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        yield Fault(where, f'"{text}" is not a strength', 'Use a number from "0" to "1".', "InvalidAdapter")


def check_url(where: str, url: str, allow: Sequence[str]) -> Iterator[Fault]:
    """An http(s) URL whose host, as written, is neither local nor private, unless `allow` (CIDRs) covers it.

    Names are not resolved here: the pod checks the addresses that it really connects to.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
    except ValueError:
        yield Fault(where, f'"{url}" is not a URL', "Write it as https://host/path.", "InvalidInput")
        return
    if parts.scheme not in ("http", "https") or not host:
        yield Fault(where, f'"{url}" is not an http or https URL', "Write it as https://host/path.", "InvalidInput")
    elif host in METADATA_HOSTS:
        yield Fault(where, f"{host} is a metadata endpoint", "Data cannot come from there.", "ForbiddenAddress")
    elif _is_private(host) and not _is_allowed(host, allow):
        hint = "Use a public address, or let the operator allow the network (--allow-data-from)."
        yield Fault(where, f"{host} is a loopback, private or link-local address", hint, "ForbiddenAddress")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.ip_address("127.0.0.1")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _is_private(host: str) -> bool:
    address = _address(host)
    return address is not None and not address.is_global


def _is_allowed(host: str, allow: Sequence[str]) -> bool:
    address = _address(host)
    return address is not None and any(address in ipaddress.ip_network(cidr, strict=False) for cidr in allow)


def _bad_image(where: str, image: str) -> Fault:
    hint = "Write it as registry/repository:tag, the repository in lower case."
    return Fault(where, f'"{image}" is not an image reference', hint, "InvalidImage")
