"""What clients get: bytes of JSON in the form that they asked for (plain, a Table, metadata alone, YAML)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import yaml
from aiohttp import web

from kaito.local.apiserver.body import JSON, YAML
from kaito.local.apiserver.resources import Resource
from kaito.local.machinery.errors import PageNotFound, StatusError, not_acceptable
from kaito.local.machinery.table import table
from kaito.local.store.records import Object, Record

encode = msgspec.json.Encoder().encode

GROUP_META = "meta.k8s.io"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The first media type of the Accept header that this server speaks."""

    transform: str = ""  # "", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
    version: str = "v1"
    """Of meta.k8s.io, for the transforms."""
    yaml: bool = False


@lru_cache(maxsize=256)
def parse_accept(header: str) -> Accepted:
    """Raises 406 when nothing in the header can be served."""
    for clause in header.split(",") if header else ["*/*"]:
        media, *parameters = (part.strip() for part in clause.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        wanted = given.get("as", "")
        if media in (YAML, "text/yaml", "application/x-yaml") and not wanted:
            return Accepted(yaml=True)
        if media not in (JSON, "*/*", "application/*"):
            continue
        if not wanted:
            return Accepted()
        known = wanted in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
        if known and given.get("g") == GROUP_META and given.get("v") in ("v1", "v1beta1"):
            return Accepted(wanted.removesuffix("List"), given["v"])
    raise not_acceptable([JSON, YAML])


def wire(resource: Resource, record: Record) -> bytes:
    """The stored JSON in the version of the resource. Versions differ in `apiVersion` alone, its first field."""
    info = resource.info
    if resource.strategy.converts(info.group):
        obj = resource.strategy.from_storage(record.value, info.group)
        return encode({**obj, "apiVersion": info.api_version})
    raw = record.raw
    if info.version == info.storage_version:
        return raw
    end = raw.index(b'"', len(b'{"apiVersion":"'))
    return b'{"apiVersion":"%s%s' % (info.api_version.encode(), raw[end:])


def item(resource: Resource, record: Record) -> bytes:
    """As an element of a list: those of built-in kinds do not repeat their type, which the list says."""
    body = wire(resource, record)
    if resource.crd:
        return body
    start = b'{"apiVersion":"%s","kind":"%s",' % (resource.info.api_version.encode(), resource.info.kind.encode())
    return b"{" + body.removeprefix(start) if body.startswith(start) else body


def partial(resource: Resource, record: Record, version: str) -> Object:
    """PartialObjectMetadata: the object without its body."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"{GROUP_META}/{version}",
        "metadata": record.value["metadata"],
    }


def to_table(
    resource: Resource, records: list[Record], *, accepted: Accepted, include: str, now: datetime, metadata: Object
) -> Object:
    info = resource.info
    objects = [
        {**resource.strategy.from_storage(record.value, info.group), "apiVersion": info.api_version}
        for record in records
    ]
    made = table(info, objects, include_object=include or "Metadata", now=now, metadata=metadata)
    made["apiVersion"] = f"{GROUP_META}/{accepted.version}"
    return made


def respond(body: bytes, *, accepted: Accepted | None = None, code: int = 200, warnings: list[str]) -> web.Response:
    if accepted is not None and accepted.yaml:
        text = yaml.dump(msgspec.json.decode(body), Dumper=yaml.CSafeDumper, sort_keys=False)
        response = web.Response(body=text.encode(), status=code, content_type=YAML)
    else:
        response = web.Response(body=body, status=code, content_type=JSON)
    for text in warnings:
        response.headers.add("Warning", f"299 - {quoted(text)}")
    return response


def respond_error(error: StatusError, warnings: list[str]) -> web.Response:
    if isinstance(error, PageNotFound):
        return web.Response(text=f"{error.message}\n", status=error.code)
    response = respond(encode(error.status), code=error.code, warnings=warnings)
    retry = (error.status.get("details") or {}).get("retryAfterSeconds")
    if retry:
        response.headers["Retry-After"] = str(retry)
    return response


def quoted(text: str) -> str:
    """A quoted-string of RFC 9110, without what a header may not hold."""
    printable = "".join(letter if letter.isprintable() and ord(letter) < 256 else "?" for letter in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


def success(**details: Any) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
