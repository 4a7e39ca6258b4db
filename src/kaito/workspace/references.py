"""Which objects of its namespace a Workspace names."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.api.workspace import ANNOTATION_DATA_SECRET, Preset, Workspace
from kaito.kube.store import object_key
from kaito.workspace.names import DEFAULT_CONFIGS, default_config_name

ANY = "*"
"""In keys of the index, instead of a namespace: the operator's."""


def named_preset(workspace: Workspace) -> Preset | None:
    """The preset of the tuning or the inference, if there is one."""
    work = workspace.tuning or workspace.inference
    return work.preset if work else None


def named_config(workspace: Workspace) -> str:
    """The ConfigMap that the user names, or nothing."""
    if workspace.tuning:
        return workspace.tuning.config
    return workspace.inference.config if workspace.inference else ""


def named_secrets(workspace: Workspace) -> list[str]:
    """Every Secret that the Workspace names, each once, in the order of its fields."""
    found: list[str] = []
    preset = named_preset(workspace)
    if preset:
        found += [preset.presetOptions.modelAccessSecret, *preset.presetOptions.imagePullSecrets]
    if workspace.inference:
        for adapter in workspace.inference.adapters:
            found += adapter.source.imagePullSecrets if adapter.source else []
    if workspace.tuning:
        found += workspace.tuning.input.imagePullSecrets if workspace.tuning.input else []
        found += [workspace.tuning.output.imagePushSecret] if workspace.tuning.output else []
        found.append(data_secret(workspace))
    return [name for name in dict.fromkeys(found) if name]


def default_config(workspace: Workspace) -> str:
    """The ConfigMap with the defaults of the tuning method, where the Workspace names no config, or just that."""
    if workspace.tuning is None or (workspace.tuning.config and workspace.tuning.config not in DEFAULT_CONFIGS):
        return ""
    return workspace.tuning.config or default_config_name(workspace.tuning.method.lower())


def data_secret(workspace: Workspace) -> str:
    """The Secret whose key `authorization` goes with the requests for the data's URLs, or nothing."""
    return workspace.metadata.annotations.get(ANNOTATION_DATA_SECRET, "") if workspace.tuning else ""


def config_references(workspace: Workspace) -> Iterable[str]:
    """For the index: the key of the ConfigMap that the Workspace names, or of the one with its defaults.

    Those may be in its own namespace or in the operator's, whose key has a star for the namespace.
    """
    name, fallback = named_config(workspace), default_config(workspace)
    places = [(workspace.metadata.namespace, name), (workspace.metadata.namespace, fallback), (ANY, fallback)]
    return dict.fromkeys(object_key(namespace, named) for namespace, named in places if named)


def secret_references(workspace: Workspace) -> Iterable[str]:
    """For the index: the keys of the Secrets that the Workspace names."""
    return [object_key(workspace.metadata.namespace, name) for name in named_secrets(workspace)]
