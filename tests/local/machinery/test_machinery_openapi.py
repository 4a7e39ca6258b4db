"""OpenAPI documents, read back the way clients read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kaito.api.crds import workspace_crd
from kaito.local.machinery import openapi, wire
from kaito.local.machinery.kinds import BUILTIN, from_crd
from tests.local.machinery.builders import widget_info

Json = dict[str, Any]

RESOURCES = [*BUILTIN, *from_crd(workspace_crd()), widget_info()]
GROUPS = sorted({(info.group, info.version) for info in RESOURCES})


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_v3_is_closed(group: str, version: str) -> None:
    document = openapi.v3_document(RESOURCES, group, version)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


@pytest.mark.parametrize("info", RESOURCES, ids=lambda info: f"{info.api_version}/{info.kind}")
def test_kubectl_finds_what_it_looks_for(info: Any) -> None:
    """It looks for a PATCH of the kind with the parameter that it wants to use, and for a schema that names the
    kind.
    """
    document = openapi.v3_document(RESOURCES, info.group, info.version)
    gvk = {"group": info.group, "version": info.version, "kind": info.kind}
    schema = document["components"]["schemas"][info.definition]
    assert schema["x-kubernetes-group-version-kind"] == [gvk]
    if "patch" not in info.verbs:
        return
    patches = [item["patch"] for item in document["paths"].values() if "patch" in item]
    mine = next(patch for patch in patches if patch["x-kubernetes-group-version-kind"] == gvk)
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} <= {item["name"] for item in mine["parameters"]}
    assert "application/apply-patch+yaml" in mine["requestBody"]["content"]


def test_builtin_fields_are_explained() -> None:
    document = openapi.v3_document(RESOURCES, "", "v1")
    pod = document["components"]["schemas"]["io.k8s.api.core.v1.Pod"]
    assert pod["description"].startswith("Pod is a collection of containers")
    assert pod["properties"]["spec"]["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]
    assert pod["properties"]["spec"]["description"]


def test_custom_kinds_have_metadata() -> None:
    document = openapi.v3_document(RESOURCES, "example.com", "v1")
    schema = document["components"]["schemas"]["com.example.v1.Widget"]
    assert {"apiVersion", "kind", "metadata", "spec", "status"} == set(schema["properties"])
    assert document["components"]["schemas"]["com.example.v1.WidgetList"]["properties"]["items"]["items"] == {
        "$ref": "#/components/schemas/com.example.v1.Widget"
    }
    port = schema["properties"]["spec"]["properties"]["port"]
    assert port["oneOf"] == [{"type": "integer"}, {"type": "string"}]


def test_index_names_every_group_and_changes_with_content() -> None:
    index = openapi.v3_index(RESOURCES)["paths"]
    assert set(index) == {f"apis/{group}/{version}" if group else f"api/{version}" for group, version in GROUPS}
    changed = widget_info()
    changed.schema.raw["properties"]["spec"]["properties"]["extra"] = {"type": "string"}
    other = openapi.v3_index([*RESOURCES[:-1], changed])["paths"]
    assert other["apis/example.com/v1"] != index["apis/example.com/v1"]
    assert other["apis/apps/v1"] == index["apis/apps/v1"]


# --- version 2
# ---------------------------------------------------------------------------------------------------------


def test_v2_is_closed_and_narrow() -> None:
    document = openapi.v2_json(RESOURCES)
    assert set(references(document)) <= {f"#/definitions/{name}" for name in document["definitions"]}
    widget = document["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"]
    assert widget["port"]["type"] == "string"
    assert "type" not in widget["note"]
    assert "oneOf" not in json.dumps(document["definitions"]["io.k8s.api.core.v1.PodSpec"])


def read(raw: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, _, value in wire.fields(raw):
        found.setdefault(number, []).append(value)
    return found


def named(items: list[bytes]) -> dict[str, bytes]:
    pairs = [read(item) for item in items]
    return {pair[1][0].decode(): pair[2][0] for pair in pairs}


def read_schema(raw: bytes) -> Json:
    """The parts of gnostic's Schema message that kubectl uses, back as JSON."""
    parts = read(raw)
    found: Json = {}
    if 1 in parts:
        found["$ref"] = parts[1][0].decode()
    if 22 in parts:
        found["type"] = read(parts[22][0])[1][0].decode()
    if 19 in parts:
        found["required"] = [item.decode() for item in parts[19]]
    if 23 in parts:
        found["items"] = read_schema(read(parts[23][0])[1][0])
    if 21 in parts:
        found["additionalProperties"] = read_schema(read(parts[21][0])[1][0])
    if 25 in parts:
        found["properties"] = {name: read_schema(body) for name, body in named(read(parts[25][0])[1]).items()}
    for name, value in named(parts.get(31, [])).items():
        found[name] = json.loads(read(value)[2][0])
    return found


def only(schema: Any, keys: frozenset[str]) -> Any:
    kept: Json = {key: value for key, value in schema.items() if key in keys or key.startswith("x-")}
    for key in ("items", "additionalProperties"):
        if key in kept:
            kept[key] = only(kept[key], keys)
    if "properties" in kept:
        kept["properties"] = {name: only(child, keys) for name, child in kept["properties"].items()}
        if not kept["properties"]:
            del kept["properties"]
    if not kept.get("required", True):
        del kept["required"]
    return kept


KEYS = frozenset({"$ref", "type", "required", "items", "additionalProperties", "properties"})


def test_v2_protobuf_says_what_the_document_says() -> None:
    document = openapi.v2_json(RESOURCES)
    raw = read(openapi.v2_protobuf(RESOURCES))
    assert raw[1] == [b"2.0"]
    definitions = named(read(raw[9][0])[1])
    assert set(definitions) == set(document["definitions"])
    for name, body in definitions.items():
        assert read_schema(body) == only(document["definitions"][name], KEYS), name


def test_v2_protobuf_offers_dry_run() -> None:
    paths = named(read(read(openapi.v2_protobuf(RESOURCES))[8][0])[2])
    patch = read(read(paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"])[8][0])
    extensions = {name: json.loads(read(value)[2][0]) for name, value in named(patch[13]).items()}
    assert extensions["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    queries = [read(read(read(read(item)[1][0])[2][0])[3][0]) for item in patch[8]]
    assert {query[4][0].decode() for query in queries} == {"dryRun", "fieldManager", "fieldValidation", "force"}
