"""`kaito plan`: what a Workspace needs and what its instance type has, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from kaito.api.validation import Rules, validate, warnings
from kaito.api.workspace import GROUP, Workspace
from kaito.catalog.instances import (
    InstanceType,
    find_instance_type,
    instance_types,
    nearest_instance_types,
)
from kaito.catalog.models import Model, find_model, nearest_models
from kaito.cli.errors import CommandError, UsageError
from kaito.cli.manifests import read_manifests
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


def make_plans(sources: list[str], context: int | None) -> list[Plan]:
    """A plan for each Workspace of the manifests. Raises UsageError for one that would be refused."""
    workspaces = [
        (where, manifest)
        for where, manifest in read_manifests(sources)
        if manifest["kind"] == "Workspace" and str(manifest.get("apiVersion", "")).startswith(GROUP)
    ]
    if not workspaces:
        raise UsageError(f"{', '.join(sources)} holds no Workspace of {GROUP}")
    return [_plan(where, manifest, context) for where, manifest in workspaces]


def _plan(where: str, manifest: dict[str, Any], context: int | None) -> Plan:
    try:
        workspace = msgspec.convert(manifest, Workspace)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error
    faults = validate(workspace, _rules())
    if faults:
        raise UsageError(f"{where}: " + "; ".join(str(fault) for fault in faults))
    work = workspace.tuning or workspace.inference
    preset = work.preset if work else None
    model = find_model(preset.name) if preset else None
    instance = find_instance_type(workspace.resource.instanceType)
    if model is None or instance is None:
        raise UsageError(
            f"{where}: only a preset on a known instance type can be planned",
            "`kaito models` and `kaito skus` list them",
        )

    def estimate(type_: InstanceType) -> Estimate:
        if workspace.tuning is not None:
            return estimate_tuning(model, type_, method=workspace.tuning.method.lower())
        return estimate_serving(model, type_, context=context or DEFAULT_CONTEXT)

    others = alternatives(instance, instance_types().values(), estimate)
    return Plan(workspace, model, instance, estimate(instance), others, warnings(workspace))


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
            {"instanceType": type_.name, "nodes": result.nodes, "perGPU": result.per_gpu_bytes}
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
    ]
    lines += ["", "  alternatives, the smallest first:", _indent(align(_other_rows(plan)))] if plan.others else []
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
        ]
        for type_, result in plan.others
    ]


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
