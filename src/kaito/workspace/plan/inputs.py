"""The Workspace's own words and what they name: is it valid, are its ConfigMap and Secrets there, and its config."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from kaito.api.config_validation import check_inference_config, check_training_config
from kaito.api.faults import Fault
from kaito.api.validation import validate
from kaito.api.workspace import Workspace
from kaito.catalog.models import Model, find_model, tuning_config
from kaito.workspace.causes import Cause, from_faults
from kaito.workspace.names import DEFAULT_CONFIGS, config_key
from kaito.workspace.observe import Observed
from kaito.workspace.references import data_secret, named_config, named_preset

DOCKER_CONFIG_KEY = ".dockerconfigjson"
AUTHORIZATION_KEY = "authorization"
DOCKER_CONFIG_TYPE = "kubernetes.io/dockerconfigjson"
EMPTY_INFERENCE_CONFIG = "vllm: {}\n"


@dataclass(frozen=True)
class Inputs:
    config_text: str = ""
    """The resolved config; empty when it could not be resolved."""
    cause: Cause | None = None
    """What the user has to mend before anything can be made."""
    missing: Cause | None = None
    """A Secret that pods need and that is not there (yet)."""


def plan_inputs(observed: Observed) -> Inputs:
    faults = validate(observed.workspace, observed.settings.rules)
    if faults:
        return Inputs(cause=from_faults(faults))
    text, cause = resolve_config(observed)
    return Inputs(text, cause, _missing_secret(observed))


def resolve_config(observed: Observed) -> tuple[str, Cause | None]:
    """The text of the config that the pods get, or why it cannot be taken from the ConfigMap that is named."""
    name = named_config(observed.workspace)
    if not name or (observed.user_config is None and name in DEFAULT_CONFIGS):
        return _default(observed, DEFAULT_CONFIGS.get(name, ""))
    text, cause = _text_of(observed, name)
    where = f"The ConfigMap {name}, key {config_key(observed.workspace)}"
    return ("", cause) if cause else _checked(observed.workspace, text, where, "you")


def _text_of(observed: Observed, name: str) -> tuple[str, Cause | None]:
    workspace, found = observed.workspace, observed.user_config
    key = config_key(workspace)
    if found is None:
        message = f"The ConfigMap {name} is not in the namespace {workspace.metadata.namespace}"
        return "", Cause("ConfigMissing", message, f"Create it with the key {key}.", "you", is_final=True)
    text = found.data.get(key)
    if text is None:
        hint = f"Its keys are {', '.join(sorted(found.data)) or 'none'}."
        return "", Cause("ConfigInvalid", f"The ConfigMap {name} has no key {key}", hint, "you", is_final=True)
    return text, None


def _default(observed: Observed, method: str) -> tuple[str, Cause | None]:
    """The suite's defaults, or those of the ConfigMap that stands in for them.

    `method` is that of the defaults where the user names them; else they are those of the Workspace's own.
    """
    given, workspace = observed.default_config, observed.workspace
    text = given.data.get(config_key(workspace), "") if given else ""
    if given is None or not text:
        return _checked(workspace, _default_config(workspace, "", method), f"The defaults of {method}", "you")
    where = f"The defaults in the ConfigMap {given.metadata.namespace}/{given.metadata.name}"
    _, cause = _checked(workspace, text, where, "the platform's administrator")
    return ("", cause) if cause else (_default_config(workspace, text, method), None)


def _checked(workspace: Workspace, text: str, where: str, whom: str) -> tuple[str, Cause | None]:
    faults = _check(workspace, text)
    if not faults:
        return text, None
    first = faults[0]
    message = f"{where}, {first.where}: {first.message}"
    return "", Cause("ConfigInvalid", message, first.hint, whom, is_final=True)


def _check(workspace: Workspace, text: str) -> list[Fault]:
    preset = named_preset(workspace)
    model = find_model(preset.name) if preset else None
    limit = model.figures.context_length if model and model.figures else None
    return _check_text(text, workspace.tuning.method.lower() if workspace.tuning else "", limit)


@lru_cache(maxsize=1024)
def _check_text(text: str, method: str, limit: int | None) -> list[Fault]:
    """Kept, since a text is read again at every look at its Workspace, and YAML is slow to read."""
    return check_training_config(text, method) if method else check_inference_config(text, limit)


@lru_cache(maxsize=256)
def _default_tuning_config(model: Model, method: str, base: str) -> str:
    return tuning_config(model, method, base)


def _default_config(workspace: Workspace, base: str, method: str) -> str:
    preset = named_preset(workspace)
    model = find_model(preset.name) if preset else None
    if workspace.tuning and model:
        return _default_tuning_config(model, method or workspace.tuning.method.lower(), base)
    return EMPTY_INFERENCE_CONFIG


def _missing_secret(observed: Observed) -> Cause | None:
    for name, key in _wanted_keys(observed.workspace):
        secret = observed.secrets.get(name)
        if secret is None:
            message = f"The Secret {name} is not in the namespace {observed.workspace.metadata.namespace}"
            return Cause("SecretMissing", message, f"Create it with the key {key}.", "you")
        if key not in secret.data:
            message = f"The Secret {name} (type {secret.type or 'Opaque'}) has no key {key}"
            made = f"A Secret of type {DOCKER_CONFIG_TYPE} has it." if key == DOCKER_CONFIG_KEY else "Add it."
            return Cause("SecretInvalid", message, made, "you")
    return None


def _wanted_keys(workspace: Workspace) -> list[tuple[str, str]]:
    """Every Secret that a pod mounts, with the key that it needs of it."""
    wanted: list[tuple[str, str]] = []
    preset = named_preset(workspace)
    if preset:
        wanted += [(preset.presetOptions.modelAccessSecret, "HF_TOKEN")]
        wanted += [(name, DOCKER_CONFIG_KEY) for name in preset.presetOptions.imagePullSecrets]
    if workspace.inference:
        sources = [adapter.source for adapter in workspace.inference.adapters if adapter.source]
        wanted += [(name, DOCKER_CONFIG_KEY) for source in sources for name in source.imagePullSecrets]
    if workspace.tuning and workspace.tuning.input:
        wanted += [(name, DOCKER_CONFIG_KEY) for name in workspace.tuning.input.imagePullSecrets]
    if workspace.tuning and workspace.tuning.output:
        wanted += [(workspace.tuning.output.imagePushSecret, DOCKER_CONFIG_KEY)]
    wanted.append((data_secret(workspace), AUTHORIZATION_KEY))
    return [(name, key) for name, key in wanted if name]
