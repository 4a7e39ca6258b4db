"""From values to the objects of an installation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

import kaito
from kaito.install.errors import ValuesInvalid
from kaito.install.objects.common import PARTIALS
from kaito.install.objects.everything import documents
from kaito.install.schema import values_schema
from kaito.install.template import Context, evaluate, holds
from kaito.install.values import default_values

DEFAULT_NAMESPACE = "kaito-system"
INSTALLER = "kaito"
"""The value of the managed-by label; Helm's is Helm."""
Object = dict[str, Any]


def read_values(files: Iterable[Path], settings: Iterable[str]) -> dict[str, Any]:
    """The defaults with the files over them, in order, and then each PATH=VALUE. Raises ValuesInvalid."""
    values = default_values()
    for file in files:
        values = merged(values, _read(file))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise ValuesInvalid(f'--set "{setting}" is not PATH=VALUE', "such as operator.replicas=2")
        values = merged(values, _nested(path.split("."), _parsed(setting, text)))
    check_values(values)
    return values


def check_values(values: Mapping[str, Any]) -> None:
    """Raises ValuesInvalid with the first thing that is wrong."""
    error = next(iter(jsonschema_rs.validator_for(values_schema()).iter_errors(dict(values))), None)
    if error is None:
        return
    where = ".".join(str(part) for part in error.instance_path)
    message = error.message
    if "shorter than 1 character" in message:
        message = "is needed, and empty"
    raise ValuesInvalid(f"values{'.' + where if where else ''}: {message}", "`kaito install --show-values` lists them")


def render(
    values: Mapping[str, Any],
    namespace: str = DEFAULT_NAMESPACE,
    *,
    is_free: Callable[[str], bool] = lambda crd: True,
) -> list[Object]:
    """The objects, in the order in which they are applied. `is_free`: whether nobody else owns the CRD of this name."""
    builtins = {
        "Release.Namespace": namespace,
        "Release.Name": "kaito",
        "Release.Service": INSTALLER,
        "Chart.AppVersion": kaito.__version__,
    }
    context = Context(values, builtins, PARTIALS, is_free)
    made = [evaluate(document.body, context) for document in documents() if holds(document.condition, context)]
    return [copy.deepcopy(one) for one in made]  # values that are shared would become YAML anchors


def render_namespace(namespace: str) -> list[Object]:
    """Restricted: all pods of the suite may run there, and nothing that asks for more. None for the cluster's own."""
    if namespace == "default" or namespace.startswith("kube-"):
        return []
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}]


def as_yaml(objects: Iterable[Object]) -> str:
    """For `kubectl apply -f -`."""
    text: str = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=True)
    return text.rstrip()


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay readable, and equal lists are written out twice rather than referred to."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValuesInvalid(f"{file} cannot be read as values: {' '.join(str(error).split())}") from error
    if not isinstance(found or {}, dict):
        raise ValuesInvalid(f"{file} holds no values: it is not a YAML mapping")
    return found or {}


def _parsed(setting: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ValuesInvalid(f'--set "{setting}": the value is not YAML: {" ".join(str(error).split())}') from error


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values: mappings key by key, all else replaced; null takes a key away."""
    result = dict(below)
    for key, value in above.items():
        before = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(before, dict) and isinstance(value, dict):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result
