"""`kaito plan`: what a Workspace needs and what its instance type has, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kaito.api.config_validation import check_inference_config, check_training_config
from kaito.api.core import Node
from kaito.api.validation import METHODS, Rules, match_labels, validate, warnings
from kaito.api.workspace import GROUP, Preset, Workspace
from kaito.catalog.architecture import ConfigIncomplete
from kaito.catalog.instances import InstanceType, find_instance_type, instance_types, nearest_instance_types
from kaito.catalog.models import Model, find_model, nearest_models
from kaito.catalog.prices import Price, price_of
from kaito.cli.errors import CommandError, UsageError
from kaito.cli.manifests import read_manifests
from kaito.cli.plan_nodes import Nodes, nodes_for
from kaito.estimate import Estimate
from kaito.estimate.advice import advise, remarks
from kaito.estimate.alternatives import alternatives
from kaito.estimate.request import Request, epochs_of, estimate_request, read_request
from kaito.workspace.names import DEFAULT_CONFIGS

KEYS = {True: "training_config.yaml", False: "inference_config.yaml"}
Other = tuple[InstanceType, Estimate, Price | None]


@dataclass(frozen=True)
class World:
    """What is there already: ConfigMaps by name, and nodes; None where nobody looked."""

    configs: Mapping[str, Mapping[str, str]]
    nodes: tuple[Node, ...] | None = None
    is_cluster: bool = False
    region: str = ""


@dataclass(frozen=True)
class Plan:
    workspace: Workspace
    instance: InstanceType
    model: Model | None
    """None for a template, which says itself what it runs."""
    request: Request | None
    estimate: Estimate | None
    price: Price | None
    """Of one node."""
    others: list[Other]
    nodes: Nodes | None
    """Nodes that exist; None where nobody looked."""
    epochs: float
    warnings: list[str]
    faults: list[str]
    """For which the Workspace would be refused, though it can be planned."""

    @property
    def fits(self) -> bool:
        enough = self.nodes is None or not self.nodes.is_all or self.nodes.count >= self.node_count
        return (self.estimate is None or self.estimate.fits) and enough

    @property
    def node_count(self) -> int:
        return self.estimate.nodes if self.estimate else self.workspace.resource.count or 1


@dataclass(frozen=True)
class PlanOptions:
    """`model_folder` or `model_image` hold the model's config and weights; `is_offline`: nothing is fetched."""

    context: int | None = None
    model_folder: Path | None = None
    model_image: str = ""
    is_offline: bool = False
    region: str = ""


def read_workspaces(sources: list[str]) -> tuple[list[tuple[str, dict[str, Any]]], list[dict[str, Any]]]:
    """(where, Workspace) of the manifests, and all their objects. Raises UsageError where there is no Workspace."""
    manifests = list(read_manifests(sources))
    found = [
        (where, manifest)
        for where, manifest in manifests
        if manifest["kind"] == "Workspace" and str(manifest.get("apiVersion", "")).startswith(GROUP)
    ]
    if not found:
        raise UsageError(f"{', '.join(sources)} holds no Workspace of {GROUP}")
    return found, [manifest for _, manifest in manifests]


def world_of(manifests: list[dict[str, Any]]) -> World:
    """What the manifests themselves hold beside Workspaces."""
    configs = {m["metadata"]["name"]: m.get("data") or {} for m in manifests if m["kind"] == "ConfigMap"}
    nodes = tuple(msgspec.convert(m, Node) for m in manifests if m["kind"] == "Node")
    return World(configs, nodes or None)


def make_plan(where: str, manifest: dict[str, Any], world: World, options: PlanOptions) -> Plan:
    """Raises UsageError for a Workspace that would be refused, CommandError where the model cannot be read."""
    workspace, faults = _checked(where, manifest)
    nodes = nodes_for(workspace, world.nodes, is_cluster=world.is_cluster)
    instance = nodes.instance if nodes and nodes.instance else find_instance_type(workspace.resource.instanceType)
    if instance is None:
        if not workspace.resource.instanceType:
            raise _without_nodes(where, workspace)
        raise CommandError(
            f"{where}: {workspace.resource.instanceType} is not known, so nothing can be planned on it",
            "`kaito skus` lists the known ones; --instance-types FILE brings your own",
        )
    region = options.region or world.region
    preset = _preset(workspace)
    if preset is None:
        price = price_of(instance, region)
        return Plan(workspace, instance, None, None, None, price, [], nodes, 0, warnings(workspace), faults)
    return _planned(workspace, preset, instance, nodes, world, region, options, faults)


def _planned(
    workspace: Workspace,
    preset: Preset,
    instance: InstanceType,
    nodes: Nodes | None,
    world: World,
    region: str,
    options: PlanOptions,
    faults: list[str],
) -> Plan:
    found = find_model(preset.name)
    assert found is not None, "validated before"
    model = _described(found, options)
    text, missing = _config(workspace, model, world)
    request = read_request(workspace, model, text, options.context)
    estimate = estimate_request(request, model, instance)
    extra = [*advise(workspace, model, instance, request, estimate), *remarks(model, instance, request, estimate)]
    others = alternatives(instance, instance_types().values(), _estimator(request, model), region=region)
    return Plan(
        workspace,
        instance,
        model,
        request,
        estimate,
        price_of(instance, region),
        others,
        nodes,
        epochs_of(workspace, model, text),
        list(dict.fromkeys([*missing, *warnings(workspace), *extra])),
        faults,
    )


def _estimator(request: Request, model: Model) -> Callable[[InstanceType], Estimate]:
    return lambda type_: estimate_request(request, model, type_)


def _preset(workspace: Workspace) -> Preset | None:
    work = workspace.tuning or workspace.inference
    return work.preset if work else None


def _checked(where: str, manifest: dict[str, Any]) -> tuple[Workspace, list[str]]:
    """The Workspace and its faults. Raises UsageError where they leave nothing to plan."""
    try:
        workspace = msgspec.convert(manifest, Workspace)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error
    faults = [str(fault) for fault in validate(workspace, _rules(workspace))]
    if faults and not _is_plannable(workspace):
        raise UsageError(f"{where}: " + "; ".join(faults))
    return workspace, [f"{where}: {fault}" for fault in faults]


def _is_plannable(workspace: Workspace) -> bool:
    work, preset = workspace.tuning or workspace.inference, _preset(workspace)
    if work is None or (workspace.tuning and workspace.inference) or (preset and find_model(preset.name) is None):
        return False
    if workspace.tuning and (preset is None or workspace.tuning.method.lower() not in METHODS):
        return False
    name = workspace.resource.instanceType
    return bool(match_labels(workspace.resource.labelSelector)) and (not name or find_instance_type(name) is not None)


def _rules(workspace: Workspace) -> Rules:
    """Without an instance type the Workspace is for nodes that exist."""
    return Rules(
        node_mode="gpu-provisioner" if workspace.resource.instanceType else "byo",
        is_model=lambda name: find_model(name) is not None,
        nearest_models=nearest_models,
        is_instance_type=lambda name: find_instance_type(name) is not None,
        nearest_instance_types=nearest_instance_types,
        allow_data_from=("0.0.0.0/0",),
    )


def _without_nodes(where: str, workspace: Workspace) -> CommandError:
    labels = ",".join(f"{k}={v}" for k, v in match_labels(workspace.resource.labelSelector).items())
    return CommandError(
        f"{where}: no instance type is given, and no nodes are known that carry {labels}",
        "name resource.instanceType; or, for nodes that exist, add --cluster, or their manifests with -f",
    )


def _described(model: Model, options: PlanOptions) -> Model:
    """With the figures of its config, where the catalogue has none."""
    if options.model_image:
        from kaito.cli.plan_image import read_image  # aiohttp, which no other plan needs

        return read_image(model, options.model_image)
    if options.model_folder is None and model.figures is not None:
        return model
    from kaito.catalog import hub  # its HTTP client is not needed for a model of the catalogue

    try:
        if options.model_folder is not None:
            return hub.read_folder(model, options.model_folder)
        return hub.hub_from_environment(is_offline=options.is_offline).read(model)
    except hub.HubError as error:
        raise CommandError(str(error), error.hint) from error
    except ConfigIncomplete as error:
        raise CommandError(str(error), "choose a model whose config.json describes a language model") from error


def _config(workspace: Workspace, model: Model, world: World) -> tuple[str, list[str]]:
    """The text that the Workspace's ConfigMap holds, or a warning. Raises UsageError for one that would be refused."""
    work = workspace.tuning or workspace.inference
    name = work.config if work else ""
    if not name:
        return "", []
    if name not in world.configs and name in DEFAULT_CONFIGS:
        return "", []  # the suite's own, which it takes without being told
    if name not in world.configs:
        hint = "defaults are planned with" if world.is_cluster else "defaults are planned with; --cluster reads it"
        where = "neither among the manifests nor in the cluster" if world.is_cluster else "not among the manifests"
        return "", [f"the ConfigMap {name} is {where}, so {hint}"]
    key = KEYS[workspace.tuning is not None]
    text = world.configs[name].get(key)
    if not isinstance(text, str):
        raise UsageError(f"the ConfigMap {name} has no key {key}", "add it, or correct the name in the Workspace")
    if workspace.tuning is not None:
        faults = check_training_config(text, workspace.tuning.method.lower())
    else:
        faults = check_inference_config(text, model.figures.context_length if model.figures else None)
    if faults:
        raise UsageError(f"the ConfigMap {name}: " + "; ".join(str(fault) for fault in faults))
    return text, []
