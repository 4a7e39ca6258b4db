"""Writes `data/builtin_schemas.json`: the schemas of the built-in kinds, read from the lightkube models.

Run `python -m kaito.local.machinery.model_schemas` after the models or the markers change; a test says when that is
due. The server never runs this: importing the models costs more than its whole start, reading the file costs a few
milliseconds.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from kaito.local.machinery import markers
from kaito.local.machinery.builtin_kinds import MODELS
from kaito.local.machinery.model_names import module_of_package, package_of_module
from kaito.local.machinery.nodes import REF_PREFIX

Json = dict[str, Any]

DATA_FILE: Final = Path(__file__).parent / "data" / "builtin_schemas.json"
_SCALARS: Final[dict[str, Json]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "dict": {"type": "object", "additionalProperties": {"type": "string"}},
    "meta_v1.Time": {"type": "string", "format": "date-time"},
    "meta_v1.MicroTime": {"type": "string", "format": "date-time"},
    "resource.Quantity": markers.QUANTITY,
    "util_intstr.IntOrString": {"x-kubernetes-int-or-string": True},
    "runtime.RawExtension": {**markers.ANY_OBJECT, "x-kubernetes-map-type": "atomic"},
    "Time": {"type": "string", "format": "date-time"},
    "MicroTime": {"type": "string", "format": "date-time"},
}


def read_definitions(roots: dict[str, str]) -> dict[str, Json]:
    """The definitions that the kinds in `roots` (module and class names) need, by their full OpenAPI names."""
    reader = _Reader()
    for dotted in roots.values():
        module, _, kind = dotted.partition(".")
        reader.add(module, kind)
    return dict(sorted(reader.definitions.items()))


class _Reader:
    def __init__(self) -> None:
        self.definitions: dict[str, Json] = {}

    def add(self, module_name: str, class_name: str) -> Json:
        """The schema that stands for a type: a reference for a class, the thing itself for an alias."""
        model = getattr(load(module_name), class_name)
        if not hasattr(model, "__struct_fields__"):
            return dict(markers.ALIASES.get(class_name, markers.ANY_OBJECT))
        name = f"{package_of_module(module_name)}.{class_name}"
        if name not in self.definitions:
            definition: Json = {"type": "object"}
            self.definitions[name] = definition
            definition.update(self._describe(module_name, class_name, model))
        return {"$ref": REF_PREFIX + name}

    def _describe(self, module_name: str, class_name: str, model: Any) -> Json:
        properties: Json = {}
        required: list[str] = []
        for name, annotation, optional in annotated_fields(model):
            schema = self._schema(module_name, annotation)
            schema.update(markers.of_field(class_name, name))
            properties[name] = schema
            if not optional:
                required.append(name)
        described: Json = {"properties": properties}
        if required:
            described["required"] = required
        return {**described, **markers.of_class(class_name)}

    def _schema(self, module_name: str, annotation: str) -> Json:
        if annotation.startswith("List["):
            return {"type": "array", "items": self._schema(module_name, annotation[5:-1])}
        if annotation in _SCALARS:
            return dict(_SCALARS[annotation])
        module, _, name = annotation.rpartition(".")
        return dict(self.add(module or module_name, name))


def annotated_fields(model: Any) -> Iterator[tuple[str, str, bool]]:
    """The JSON name, the annotation without `Optional`, and whether it is optional, of every field."""
    for attribute, name in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True):
        annotation = str(model.__annotations__[attribute])
        optional = annotation.startswith("Optional[")
        yield str(name), annotation[9:-1] if optional else annotation, optional


def load(module_name: str) -> ModuleType:
    return importlib.import_module(f"lightkube.models.{module_name}")


def read_descriptions(definition: str) -> tuple[str, dict[str, str]]:
    """What the models say about a type and about each of its fields, for `kubectl explain`. Empty for unknown types."""
    package, _, class_name = definition.rpartition(".")
    module_name = module_of_package(package)
    if not module_name:
        return "", {}
    model: Any = getattr(load(module_name), class_name, None)
    text = (model.__doc__ or "") if model is not None else ""
    head, _, tail = text.partition("**parameters**")
    described: dict[str, str] = {}
    if not tail:
        return " ".join(head.split()), {}
    names = dict(zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True))
    for found in re.finditer(r"^ *\* \*\*(\w+)\*\* ``.*?`` - (.*?)(?=^ *\* \*\*\w+\*\* ``|\Z)", tail, re.S | re.M):
        described[names.get(str(found[1]), str(found[1]))] = " ".join(found[2].split())
    return " ".join(head.split()), described


def render() -> str:
    """The text of the data file: one definition a line, so that a change reads as a change."""
    definitions = read_definitions(MODELS)
    lines = [f"{json.dumps(name)}:{json.dumps(body, separators=(',', ':'))}" for name, body in definitions.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    DATA_FILE.parent.mkdir(exist_ok=True)
    DATA_FILE.write_text(render(), encoding="utf-8")
