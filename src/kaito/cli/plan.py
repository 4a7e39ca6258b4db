"""`kaito plan`: what a Workspace needs and what its instance type has, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from kaito.api.validation import Rules, validate, warnings
from kaito.api.workspace import GROUP, Workspace
from kaito.catalog.architecture import ConfigIncomplete
from kaito.catalog.instances import (
    InstanceType,
    find_instance_type,
    instance_types,
    nearest_instance_types,
)
from kaito.catalog.models import Model, find_model, nearest_models
from kaito.cli.errors import CommandError, UsageError
from kaito.cli.manifests import read_manifests
from kaito.cli.plan_config import Asked, read_asked
from kaito.cli.tables import align
from kaito.estimate import DEFAULT_CONTEXT, Estimate, estimate_serving, estimate_tuning, in_words
from kaito.estimate.alternatives import alternatives

BAR = 50


class DoesNotFit(CommandError):
    code = 3


@dataclass(frozen=True)
class Plan:
    workspace: Workspace
    model: Model
    instance: InstanceType
    estimate: Estimate
    others: list[tuple[InstanceType, Estimate]]
    warnings: list[str]


@dataclass(frozen=True)
class PlanOptions:
    """`model_folder` holds the model's config and weights; `is_offline`: nothing is fetched."""

    context: int | None = None
    model_folder: Path | None = None
    is_offline: bool = False


def make_plans(sources: list[str], options: PlanOptions) -> list[Plan]:
    """A plan for each Workspace of the manifests. Raises UsageError for one that would be refused."""
    manifests = list(read_manifests(sources))
    workspaces = [
        (where, manifest)
        for where, manifest in manifests
        if manifest["kind"] == "Workspace" and str(manifest.get("apiVersion", "")).startswith(GROUP)
    ]
    if not workspaces:
        raise UsageError(f"{', '.join(sources)} holds no Workspace of {GROUP}")
    others = [manifest for _, manifest in manifests]
    return [_plan(where, manifest, others, options) for where, manifest in workspaces]


def _plan(where: str, manifest: dict[str, Any], manifests: list[dict[str, Any]], options: PlanOptions) -> Plan:
    workspace = _valid(where, manifest)
    work = workspace.tuning or workspace.inference
    preset = work.preset if work else None
    found = find_model(preset.name) if preset else None
    instance = find_instance_type(workspace.resource.instanceType)
    if found is None or instance is None:
        raise UsageError(
            f"{where}: only a preset on a known instance type can be planned",
            "`kaito models` and `kaito skus` list them",
        )
    model = _described(found, options)
    asked = read_asked(workspace, manifests)
    estimate = _estimator(workspace, model, asked, options)
    others = alternatives(instance, instance_types().values(), estimate)
    chosen = estimate(instance)
    extra = [asked.warning] if asked.warning else []
    if instance.architecture != "amd64":
        extra.append(f"{instance.name} is {instance.architecture}: every image has to be built for it")
    if asked.tuning and chosen.fits and chosen.batch_size < asked.tuning.batch:
        extra.append(f"a batch of {asked.tuning.batch} does not fit: the run will halve it until it does")
    return Plan(workspace, model, instance, chosen, others, [*warnings(workspace), *extra, *chosen.notes])


def _valid(where: str, manifest: dict[str, Any]) -> Workspace:
    try:
        workspace = msgspec.convert(manifest, Workspace)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error
    faults = validate(workspace, _rules())
    if faults:
        raise UsageError(f"{where}: " + "; ".join(str(fault) for fault in faults))
    return workspace


def _described(model: Model, options: PlanOptions) -> Model:
    """With the figures of its config, where the catalogue has none."""
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


def _estimator(
    workspace: Workspace, model: Model, asked: Asked, options: PlanOptions
) -> Callable[[InstanceType], Estimate]:
    def estimate(type_: InstanceType) -> Estimate:
        if workspace.tuning is None:
            context = options.context or asked.context or DEFAULT_CONTEXT
            adapters = len(workspace.inference.adapters) if workspace.inference else 0
            return estimate_serving(model, type_, context=context, cache_bytes=asked.cache_bytes, adapters=adapters)
        method = workspace.tuning.method.lower()
        found = estimate_tuning(model, type_, method=method, settings=asked.tuning)
        if found.fits or asked.tuning is None or asked.tuning.batch == 1:
            return found
        one = replace(asked.tuning, batch=1)  # what the run ends at, since it halves the batch
        return estimate_tuning(model, type_, method=method, settings=one)

    return estimate


def _rules() -> Rules:
    return Rules(
        node_mode="gpu-provisioner",
        is_model=lambda name: find_model(name) is not None,
        nearest_models=nearest_models,
        is_instance_type=lambda name: find_instance_type(name) is not None,
        nearest_instance_types=nearest_instance_types,
        allow_data_from=("0.0.0.0/0",),
    )


def as_data(plan: Plan) -> dict[str, Any]:
    """For -o json and yaml."""
    return {
        "workspace": plan.workspace.metadata.name,
        "model": plan.model.name,
        "instanceType": plan.instance.name,
        "estimate": msgspec.to_builtins(plan.estimate),
        "alternatives": [
            {
                "instanceType": type_.name,
                "nodes": result.nodes,
                "perGPU": result.per_gpu_bytes,
                "priceUSDPerHour": _price(type_, result),
            }
            for type_, result in plan.others
        ],
        "warnings": plan.warnings,
    }


def as_text(plan: Plan) -> str:
    estimate, instance = plan.estimate, plan.instance
    what = f"tuning ({plan.workspace.tuning.method})" if plan.workspace.tuning else "serving"
    lines = [
        f"{plan.workspace.metadata.name}: {what} {plan.model.name} on {instance.name}",
        f"  {'fits' if estimate.fits else 'does not fit'}: {estimate.why}",
        "",
        _indent(align(_rows(plan))),
        "",
        f"  one GPU  {_bar(estimate)}",
        *(f"    {name:<12} {in_words(size)}" for name, size in estimate.parts.items() if size),
    ]
    lines += ["", f"  {_order(plan)}:", _indent(align(_other_rows(plan)))] if plan.others else []
    lines += [f"  warning: {warning}" for warning in plan.warnings]
    return "\n".join(lines)


def _rows(plan: Plan) -> list[list[str]]:
    estimate = plan.estimate
    rows = [
        ["weights", in_words(estimate.weights_bytes)],
        ["KV cache", in_words(estimate.kv_cache_bytes)] if plan.workspace.inference else None,
        ["beside them, per GPU", in_words(estimate.overhead_bytes)],
        ["fullest GPU", f"{in_words(estimate.per_gpu_bytes)} of {in_words(estimate.usable_bytes)} usable"],
        ["nodes", str(estimate.nodes)],
    ]
    parallel = [
        f"{word} {size}"
        for word, size in (
            ("tensor", estimate.tensor_parallel),
            ("pipeline", estimate.pipeline_parallel),
            ("data", estimate.data_parallel),
        )
        if size > 1
    ]
    rows.append(["parallelism", ", ".join(parallel)] if parallel else None)
    rows.append(["longest context", f"{estimate.longest_context} tokens"] if estimate.longest_context else None)
    rows.append(["requests at once", str(estimate.requests_at_once)] if estimate.requests_at_once else None)
    rows.append(["largest batch", str(estimate.batch_size)] if estimate.batch_size else None)
    if estimate.tokens_per_second:
        minutes = 1e6 / estimate.tokens_per_second / 60
        rows.append(["a million tokens", f"about {minutes:.1f} minutes of training"])
    return [row for row in rows if row is not None]


def _bar(estimate: Estimate) -> str:
    if not estimate.usable_bytes:
        return "unknown"
    share = estimate.per_gpu_bytes / estimate.usable_bytes
    filled = min(BAR, round(share * BAR))
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {share:.0%}"


def _other_rows(plan: Plan) -> list[list[str]]:
    return [
        [
            type_.name,
            f"{result.nodes} node(s)",
            f"{type_.gpu_count} x {type_.gpu_model}",
            f"{in_words(result.per_gpu_bytes)} of {in_words(result.usable_bytes)}",
            f"${price:.2f}/h" if (price := _price(type_, result)) is not None else "price unknown",
        ]
        for type_, result in plan.others
    ]


def _price(type_: InstanceType, result: Estimate) -> float | None:
    return None if type_.price_usd_hour is None else type_.price_usd_hour * result.nodes


def _order(plan: Plan) -> str:
    priced = [type_ for type_, _ in plan.others if type_.price_usd_hour is not None]
    if not priced:
        return "alternatives, by GPU memory (no price is known; --instance-types brings your own)"
    return "alternatives, the cheapest first, then those whose price is not known"


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
