"""OpenAPI documents of the served kinds, as kubectl reads them for validation, `explain`, `diff` and dry runs.

Version 3 is one document for each group version with an index before it; version 2 is one document for everything,
which old clients read only in protobuf. Both are made from the same definitions. Callers cache what they get: a
document changes only with the set of kinds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from kaito.local.machinery import builtin_schemas, openapi_v2
from kaito.local.machinery.model_names import META
from kaito.local.machinery.model_schemas import read_descriptions
from kaito.local.machinery.nodes import REF_PREFIX
from kaito.local.machinery.resource_info import ResourceInfo

Json = dict[str, Any]

_TITLE: Final = "Kubernetes"
_VERSION: Final = "v1.33.0"
_V3_PREFIX: Final = "#/components/schemas/"
# A change in what these documents look like has to change their hashes too.
_LAYOUT: Final = "1"
_PATCH_TYPES: Final = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_INT_OR_STRING: Final[Json] = {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
_BOILERPLATE: Final = {
    "apiVersion": "The group and version of the schema that this object follows.",
    "kind": "The kind of this object, in CamelCase. It cannot be changed.",
    "metadata": "Standard object's metadata.",
    "items": "The objects of this list.",
}


def v3_index(resources: Iterable[ResourceInfo]) -> Json:
    """The document at `/openapi/v3`: where each group version's document is, with a hash of its content."""
    groups: dict[str, list[ResourceInfo]] = {}
    for info in resources:
        groups.setdefault(_path(info.group, info.version), []).append(info)
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(infos)}"}
            for path, infos in sorted(groups.items())
        }
    }


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _hash(infos: Sequence[ResourceInfo]) -> str:
    content = [(info.definition, sorted(info.subresources), info.schema.raw) for info in infos]
    builtin = builtin_schemas.DATA_FILE.read_bytes() if any(not info.crd for info in infos) else b""
    return hashlib.sha256(_LAYOUT.encode() + msgspec.json.encode(content) + builtin).hexdigest().upper()


def v3_document(resources: Iterable[ResourceInfo], group: str, version: str) -> Json:
    """The document of one group version; empty of paths where it serves nothing."""
    infos = [info for info in resources if (info.group, info.version) == (group, version)]
    paths: Json = {}
    for info in infos:
        paths.update(_paths(info))
    schemas = {name: _for_v3(body) for name, body in definitions(infos).items()}
    return {
        "openapi": "3.0.0",
        "info": {"title": _TITLE, "version": _VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def v2_json(resources: Iterable[ResourceInfo]) -> Json:
    """The whole OpenAPI v2 document."""
    infos = list(resources)
    return openapi_v2.document(infos, definitions(infos), _TITLE, _VERSION)


def v2_protobuf(resources: Iterable[ResourceInfo]) -> bytes:
    """The same document in the wire form that kubectl up to 1.26 reads."""
    return openapi_v2.encode(v2_json(resources))


def definitions(infos: Sequence[ResourceInfo]) -> dict[str, Json]:
    """Every definition that the kinds need, with descriptions and their group, version and kind."""
    found: dict[str, Json] = {}
    for info in infos:
        if info.crd:
            own = custom_definition(info)
            found[info.definition] = own
            needed = builtin_schemas.closure(own)
        else:
            needed = builtin_schemas.closure(info.schema.raw)
        found.update({name: _described(name) for name in needed if name not in found})
        found[info.definition] = {**found[info.definition], "x-kubernetes-group-version-kind": [_gvk(info)]}
        found[f"{info.definition}List"] = _list_definition(info)
    for name in (f"{META}.ListMeta", f"{META}.DeleteOptions", f"{META}.Status"):
        for needed_name in builtin_schemas.closure({"$ref": REF_PREFIX + name}):
            found.setdefault(needed_name, _described(needed_name))
    return dict(sorted(found.items()))


def custom_definition(info: ResourceInfo) -> Json:
    """A custom kind's schema with the fields that every object has."""
    raw = info.schema.raw
    fixed = {
        "apiVersion": {"type": "string", "description": _BOILERPLATE["apiVersion"]},
        "kind": {"type": "string", "description": _BOILERPLATE["kind"]},
        "metadata": {"$ref": f"{REF_PREFIX}{META}.ObjectMeta", "description": _BOILERPLATE["metadata"]},
    }
    return {**raw, "type": "object", "properties": {**(raw.get("properties") or {}), **fixed}}


def _list_definition(info: ResourceInfo) -> Json:
    return {
        "type": "object",
        "description": f"{info.list_kind} is a list of {info.kind}.",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": _BOILERPLATE["apiVersion"]},
            "kind": {"type": "string", "description": _BOILERPLATE["kind"]},
            "metadata": {"$ref": f"{REF_PREFIX}{META}.ListMeta", "description": _BOILERPLATE["metadata"]},
            "items": {
                "type": "array",
                "description": _BOILERPLATE["items"],
                "items": {"$ref": REF_PREFIX + info.definition},
            },
        },
        "x-kubernetes-group-version-kind": [{**_gvk(info), "kind": info.list_kind}],
    }


def _gvk(info: ResourceInfo) -> dict[str, str]:
    return {"group": info.group, "version": info.version, "kind": info.kind}


@cache
def _described(name: str) -> Json:
    """A built-in definition with the words of the client models."""
    body = builtin_schemas.definitions()[name]
    summary, fields = read_descriptions(name)
    properties = {
        key: {**child, "description": fields[key]} if fields.get(key) else child
        for key, child in body.get("properties", {}).items()
    }
    described = {**body, "properties": properties} if properties else dict(body)
    return {**described, "description": summary} if summary else described


def _for_v3(schema: Any) -> Any:
    """References as version 3 has them: beside other words only inside `allOf`."""
    if isinstance(schema, list):
        return [_for_v3(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = {"$ref": _V3_PREFIX + reference.removeprefix(REF_PREFIX)}
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {"allOf": [target], **rest} if rest else target
    converted = {key: _for_v3_part(key, value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True and not {"oneOf", "anyOf"} & schema.keys():
        converted |= _INT_OR_STRING
    return converted


def _for_v3_part(key: str, value: Any) -> Any:
    if key == "properties" and isinstance(value, dict):
        return {name: _for_v3(child) for name, child in value.items()}
    return _for_v3(value) if key in ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not") else value


def _paths(info: ResourceInfo) -> Iterator[tuple[str, Json]]:
    base = f"/{_path(info.group, info.version)}/"
    place = f"{base}namespaces/{{namespace}}/{info.plural}" if info.namespaced else base + info.plural
    yield place, _collection(info)
    if "get" not in info.verbs:
        return
    yield f"{place}/{{name}}", _item(info)
    if "status" in info.subresources:
        yield f"{place}/{{name}}/status", {"patch": _operation(info, "patch", "Status")}


def _collection(info: ResourceInfo) -> Json:
    operations: Json = {"post": _operation(info, "post")}
    if "list" in info.verbs:
        operations["get"] = _operation(info, "list")
    return operations


def _item(info: ResourceInfo) -> Json:
    return {verb: _operation(info, verb) for verb in ("get", "put", "patch", "delete")}


def _operation(info: ResourceInfo, action: str, subresource: str = "") -> Json:
    target = info.definition + ("List" if action == "list" else "")
    content = {"application/json": {"schema": {"$ref": _V3_PREFIX + target}}}
    group = info.group.partition(".")[0].capitalize() or "Core"
    operation: Json = {
        "operationId": f"{action}{group}{info.version.capitalize()}{info.kind}{subresource}",
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(info),
    }
    if action in ("post", "put", "patch"):
        operation["parameters"] = [_parameter(name, why) for name, why in openapi_v2.write_parameters(action)]
        types = _PATCH_TYPES if action == "patch" else ("application/json",)
        schema = {"type": "object"} if action == "patch" else {"$ref": _V3_PREFIX + info.definition}
        operation["requestBody"] = {"content": {name: {"schema": schema} for name in types}, "required": True}
    return operation


def _parameter(name: str, description: str) -> Json:
    kind = "boolean" if name == "force" else "string"
    return {"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": True}}
