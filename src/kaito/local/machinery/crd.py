"""Custom resource definitions: from the object that a user applies to the kinds that the server then serves."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, Final

from kaito.local.machinery import errors, structure, validation
from kaito.local.machinery.errors import FieldCause
from kaito.local.machinery.nodes import Compiler
from kaito.local.machinery.resource_info import ALL_VERBS, Column, ResourceInfo, ScalePaths
from kaito.local.machinery.rules import Expression
from kaito.local.machinery.schema import Schema

Json = dict[str, Any]

_AGE: Final = Column("Age", "date", "Time since this object was created.", json_path=".metadata.creationTimestamp")
_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KIND: Final = re.compile(r"[A-Za-z]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_FORBIDDEN: Final = ("$ref", "$schema", "definitions", "dependencies", "id", "patternProperties", "additionalItems")
_MAX_DEPTH: Final = 100


def from_crd(crd: Json) -> list[ResourceInfo]:
    """One definition for each served version of a CRD that `validate_crd` finds no fault with."""
    spec = crd["spec"]
    versions = spec["versions"]
    storage = next((version["name"] for version in versions if version.get("storage")), "")
    return [_version(crd["metadata"]["name"], spec, version, storage) for version in versions if version.get("served")]


def _version(name: str, spec: Json, version: Json, storage: str) -> ResourceInfo:
    names = spec["names"]
    subresources: Json = version.get("subresources") or {}
    reversed_group = ".".join(reversed(spec["group"].split(".")))
    return ResourceInfo(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        list_kind=names.get("listKind") or f"{names['kind']}List",
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        namespaced=spec["scope"] == "Namespaced",
        schema=Schema(version_schema(spec, version)),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=frozenset(key for key in ("status", "scale") if subresources.get(key) is not None),
        storage_version=storage,
        columns=_columns(version),
        verbs=ALL_VERBS,
        definition=f"{reversed_group}.{version['name']}.{names['kind']}",
        crd=name,
        scale=_scale(subresources.get("scale")),
        selectable_fields=tuple(item["jsonPath"] for item in version.get("selectableFields") or ()),
        deprecation_warning=_deprecation(spec, version),
    )


def version_schema(spec: Json, version: Json) -> Json | None:
    """The schema of a version; None where any field is kept."""
    raw = (version.get("schema") or {}).get("openAPIV3Schema")
    if raw is None or spec.get("preserveUnknownFields") is True:
        return None
    return dict(raw)


def _columns(version: Json) -> tuple[Column, ...]:
    given = version.get("additionalPrinterColumns")
    if not given:
        return (_AGE,)
    return tuple(
        Column(
            name=item["name"],
            type=item["type"],
            description=item.get("description")
            or f"Custom resource definition column (in JSONPath format): {item['jsonPath']}",
            format=item.get("format") or "",
            priority=item.get("priority") or 0,
            json_path=item["jsonPath"],
        )
        for item in given
    )


def _scale(given: Json | None) -> ScalePaths | None:
    if given is None:
        return None
    return ScalePaths(
        spec_replicas=given["specReplicasPath"],
        status_replicas=given["statusReplicasPath"],
        label_selector=given.get("labelSelectorPath") or "",
    )


def _deprecation(spec: Json, version: Json) -> str:
    if not version.get("deprecated"):
        return ""
    default = f"{spec['group']}/{version['name']} {spec['names']['kind']} is deprecated"
    return version.get("deprecationWarning") or default


def validate_crd(crd: Json) -> list[FieldCause]:
    """What keeps a CRD from being served. The shape itself is checked by the schema of CRDs, before this."""
    spec = crd["spec"]
    return [*_name_causes(crd, spec), *_version_causes(spec)]


def _name_causes(crd: Json, spec: Json) -> Iterator[FieldCause]:
    names = spec["names"]
    name = (crd.get("metadata") or {}).get("name", "")
    expected = f"{names.get('plural')}.{spec.get('group')}"
    if name != expected:
        message = f'Invalid value: {errors.compact(name)}: must be spec.names.plural+"."+spec.group'
        yield FieldCause("metadata.name", message)
    if not _SUBDOMAIN.fullmatch(spec["group"]) or "." not in spec["group"]:
        message = f"Invalid value: {errors.compact(spec['group'])}: should be a domain with at least one dot"
        yield FieldCause("spec.group", message)
    yield from _label_cause("spec.names.plural", names["plural"])
    yield from _label_cause("spec.names.singular", names.get("singular") or names["kind"].lower())
    for index, short in enumerate(names.get("shortNames") or ()):
        yield from _label_cause(f"spec.names.shortNames[{index}]", short)
    for key in ("kind", "listKind"):
        text = names.get(key) or "Any"
        if not _KIND.fullmatch(text):
            yield FieldCause(f"spec.names.{key}", f"Invalid value: {errors.compact(text)}: {_KIND_RULE}")
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        message = 'Unsupported value: "Webhook": supported values: "None"'
        yield FieldCause("spec.conversion.strategy", message, errors.FIELD_NOT_SUPPORTED)


_KIND_RULE: Final = "may have mixed case, but should otherwise match a DNS label"


def _label_cause(path: str, text: str) -> Iterator[FieldCause]:
    if not _LABEL.fullmatch(text):
        rule = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
            "character, and end with an alphanumeric character"
        )
        yield FieldCause(path, f"Invalid value: {errors.compact(text)}: {rule}")


def _version_causes(spec: Json) -> Iterator[FieldCause]:
    versions = spec["versions"]
    stored = [version["name"] for version in versions if version.get("storage")]
    if len(stored) != 1:
        message = "Invalid value: must have exactly one version marked as storage version"
        yield FieldCause("spec.versions", message)
    seen: set[str] = set()
    schemas = [version.get("schema") for version in versions]
    shared = all(schema == schemas[0] for schema in schemas)
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version["name"]
        yield from _label_cause(f"{path}.name", name)
        if name in seen:
            message = f"Duplicate value: {errors.compact(name)}"
            yield FieldCause(f"{path}.name", message, errors.FIELD_DUPLICATE)
        seen.add(name)
        yield from _column_causes(version, path)
        if not shared:
            yield from _schema_causes_of_version(version, f"{path}.schema.openAPIV3Schema")
        elif index == 0:  # one schema for all versions is the kind's own, and told once
            where = "spec.validation" if version.get("schema") else f"{path}.schema"
            yield from _schema_causes_of_version(version, f"{where}.openAPIV3Schema")


def _column_causes(version: Json, path: str) -> Iterator[FieldCause]:
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        where = f"{path}.additionalPrinterColumns[{index}]"
        if column["type"] not in _COLUMN_TYPES:
            options = ", ".join(f'"{name}"' for name in _COLUMN_TYPES)
            message = f"Unsupported value: {errors.compact(column['type'])}: supported values: {options}"
            yield FieldCause(f"{where}.type", message, errors.FIELD_NOT_SUPPORTED)
        if not column["jsonPath"].startswith("."):
            message = f"Invalid value: {errors.compact(column['jsonPath'])}: must be a json path starting with ."
            yield FieldCause(f"{where}.jsonPath", message)


def _schema_causes_of_version(version: Json, path: str) -> Iterator[FieldCause]:
    raw = (version.get("schema") or {}).get("openAPIV3Schema")
    if not isinstance(raw, dict):
        yield FieldCause(path, "Required value", errors.FIELD_REQUIRED)
        return
    if raw.get("type") != "object":
        yield _root_cause(raw.get("type"), f"{path}.type")
        return
    found = [*_schema_causes(raw, path, 0), *_default_causes(raw, path)]
    yield from found
    if found:
        return
    try:
        validation.compile_validator(raw, {})
    except ValueError as error:
        yield FieldCause(path, f"Invalid value: the schema does not compile: {str(error).splitlines()[0]}")


def _root_cause(kind: Any, path: str) -> FieldCause:
    if not kind:
        return FieldCause(path, "Required value: must not be empty at the root", errors.FIELD_REQUIRED)
    return FieldCause(path, f"Invalid value: {errors.compact(kind)}: must be object at the root")


def _default_causes(raw: Any, path: str) -> Iterator[FieldCause]:
    """Defaults that the schema itself would refuse."""
    if not isinstance(raw, dict):
        return
    if "default" in raw:
        yield from _refused_defaults(raw, f"{path}.default")
    properties = raw.get("properties")
    for key, child in properties.items() if isinstance(properties, dict) else ():
        yield from _default_causes(child, f"{path}.properties[{key}]")
    yield from _default_causes(raw.get("items"), f"{path}.items")
    yield from _default_causes(raw.get("additionalProperties"), f"{path}.additionalProperties")


def _refused_defaults(raw: Json, path: str) -> Iterator[FieldCause]:
    value = copy.deepcopy(raw["default"])
    structure.default(Compiler({}).compile(raw), value)  # what is in it may have defaults too
    try:
        validator = validation.compile_validator(raw, {})
    except ValueError:
        return  # told as what it is: a schema that does not compile
    for cause in validation.causes(validator, value):
        inner = "" if cause.field == "<nil>" else f".{cause.field}" if cause.field else ""
        yield FieldCause(f"{path}{inner}", cause.message, cause.reason)


def _schema_causes(raw: Any, path: str, depth: int) -> Iterator[FieldCause]:
    """What keeps a schema from being structural."""
    if not isinstance(raw, dict) or depth > _MAX_DEPTH:
        yield FieldCause(path, "Invalid value: a schema has to be an object, nested at most 100 deep")
        return
    for key in _FORBIDDEN:
        if raw.get(key):
            yield FieldCause(f"{path}.{key}", f"Forbidden: {key} is not supported", errors.FIELD_FORBIDDEN)
    yield from _type_causes(raw, path)
    yield from _list_type_causes(raw, path)
    yield from _rule_causes(raw, path)
    properties = raw.get("properties") or {}
    for key, child in properties.items() if isinstance(properties, dict) else ():
        yield from _schema_causes(child, f"{path}.properties[{key}]", depth + 1)
    if raw.get("items") is not None:
        yield from _schema_causes(raw["items"], f"{path}.items", depth + 1)
    additional = raw.get("additionalProperties")
    if isinstance(additional, dict):
        yield from _schema_causes(additional, f"{path}.additionalProperties", depth + 1)
    if properties and additional not in (None, False):
        message = "Forbidden: additionalProperties and properties are mutual exclusive"
        yield FieldCause(f"{path}.additionalProperties", message, errors.FIELD_FORBIDDEN)


def _type_causes(raw: Json, path: str) -> Iterator[FieldCause]:
    kind = raw.get("type")
    free = raw.get("x-kubernetes-int-or-string") or raw.get("x-kubernetes-preserve-unknown-fields")
    if not kind:
        if not free:
            yield FieldCause(
                f"{path}.type", "Required value: must not be empty for specified object fields", errors.FIELD_REQUIRED
            )
    elif kind not in _TYPES:
        options = ", ".join(f'"{name}"' for name in _TYPES)
        message = f"Unsupported value: {errors.compact(kind)}: supported values: {options}"
        yield FieldCause(f"{path}.type", message, errors.FIELD_NOT_SUPPORTED)
    elif kind == "array" and raw.get("items") is None:
        yield FieldCause(f"{path}.items", "Required value: must be specified", errors.FIELD_REQUIRED)


def _list_type_causes(raw: Json, path: str) -> Iterator[FieldCause]:
    if raw.get("x-kubernetes-list-type") != "map":
        return
    keys = raw.get("x-kubernetes-list-map-keys") or []
    if not keys:
        message = "Required value: must not be empty if x-kubernetes-list-type is map"
        yield FieldCause(f"{path}.x-kubernetes-list-map-keys", message, errors.FIELD_REQUIRED)
    items = raw.get("items") or {}
    known = items.get("properties") or {}
    for index, key in enumerate(keys):
        if key not in known:
            message = f"Invalid value: {errors.compact(key)}: entries must all be names of item properties"
            yield FieldCause(f"{path}.x-kubernetes-list-map-keys[{index}]", message)
        elif key not in (items.get("required") or ()) and "default" not in known[key]:
            message = (
                "Required value: this property is in x-kubernetes-list-map-keys, "
                "so it must have a default or be a required property"
            )
            yield FieldCause(f"{path}.items.properties[{key}].default", message, errors.FIELD_REQUIRED)


def _rule_causes(raw: Json, path: str) -> Iterator[FieldCause]:
    for index, rule in enumerate(raw.get("x-kubernetes-validations") or ()):
        where = f"{path}.x-kubernetes-validations[{index}]"
        text = str(rule.get("rule") or "")
        if not text.strip():
            yield FieldCause(f"{where}.rule", "Required value: rule is not specified", errors.FIELD_REQUIRED)
            continue
        for key in ("rule", "messageExpression"):
            try:
                if rule.get(key):
                    Expression.compile(str(rule[key]))
            except ValueError as error:
                shown = errors.compact(str(rule[key]))
                message = f"Invalid value: {shown}: compilation failed: {str(error).splitlines()[0]}"
                yield FieldCause(f"{where}.{key}", message)
