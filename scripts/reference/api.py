"""docs/reference/api.md: the fields of our kinds, from the schemas that the CustomResourceDefinitions carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kaito.api import crds

HEAD = """# API

<!-- Made by `make reference` from kaito.api; a test compares them. Edit the code. -->

`kubectl explain workspace.tuning.input` says the same in a terminal. Fields that are required say so; every other one may be
left out. What a field means for what happens is on the page [Workspace](../workspace.md).
"""


KARPENTER = """
## Karpenter's kinds

`NodeClaim` (`karpenter.sh/v1`, `v1beta1`) and `Machine` (`karpenter.sh/v1alpha5`) are Karpenter's own; `kaito crds --karpenter` prints
definitions for clusters that have none. What the suite writes into them, and reads, is on the page [The node provisioner](../provisioner.md).
"""


def page() -> str:
    return HEAD + _kind(crds.workspace_crd(), 6) + KARPENTER


def _kind(definition: dict[str, Any], depth: int) -> str:
    spec = definition["spec"]
    names, versions = spec["names"], spec["versions"]
    storage = next(version for version in versions if version["storage"])
    schema = storage["schema"]["openAPIV3Schema"]
    served = ", ".join(f"`{version['name']}`{' (stored)' if version['storage'] else ''}" for version in versions)
    short = f"; short names {', '.join(f'`{name}`' for name in names['shortNames'])}" if names.get("shortNames") else ""
    fields = [
        row for row in _fields(schema, "", depth) if not row.startswith(("| `apiVersion`", "| `kind`", "| `metadata`"))
    ]
    rules = list(_rules(schema, ""))
    text = f"\n## {names['kind']}\n\nGroup `{spec['group']}`, versions {served}, {spec['scope'].lower()}{short}. "
    text += schema.get("description", "") + "\n\n| field | type | meaning |\n|---|---|---|\n" + "".join(fields)
    if rules:
        text += "\nRules that the API server checks by itself, whoever writes:\n\n" + "".join(
            f"- {rule}\n" for rule in rules
        )
    return text


def _fields(schema: dict[str, Any], path: str, depth: int) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        required = name in schema.get("required", ())
        yield f"| `{where}` | {_type(field)} | {_meaning(field, required)} |\n"
        inner = field.get("items", field)
        if depth > 1 and name != "metadata":
            yield from _fields(inner, where + ("[]" if "items" in field else ""), depth - 1)


def _type(field: dict[str, Any]) -> str:
    kind = field.get("type", "integer or string" if field.get("x-kubernetes-int-or-string") else "any")
    if kind == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return str(kind)


def _meaning(field: dict[str, Any], required: bool) -> str:
    parts = [field.get("description", "")]
    if required:
        parts.append("Required.")
    if "enum" in field:
        parts.append(f"One of {', '.join(f'`{value}`' for value in field['enum'])}.")
    if "default" in field:
        parts.append(f"Default `{field['default']}`.")
    for key, words in (("minimum", "At least"), ("maxItems", "At most"), ("maxLength", "At most")):
        if key in field:
            unit = {"maxItems": " entries", "maxLength": " characters"}.get(key, "")
            parts.append(f"{words} {field[key]}{unit}.")
    return " ".join(part for part in parts if part).replace("|", "\\|")


def _rules(schema: dict[str, Any], path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from _rules(field.get("items", field), f"{path}.{name}")
