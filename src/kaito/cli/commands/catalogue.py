"""What is known before anything is spent: models, instance types, plans. No cluster is needed."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer
import yaml

from kaito.catalog.engine import engine_flags
from kaito.catalog.gpus import find_gpu, what_it_runs
from kaito.catalog.instances import (
    OWN_TYPES,
    InstanceType,
    InstanceTypesInvalid,
    find_instance_type,
    instance_types,
    nearest_instance_types,
)
from kaito.catalog.lora import lora_targets
from kaito.catalog.models import Model, find_model, model_names, nearest_models
from kaito.catalog.prices import known_regions, price_of
from kaito.cli.completion import complete_instance_types, complete_models
from kaito.cli.connection import Connection, run_connected
from kaito.cli.errors import UsageError
from kaito.cli.options import Context, Files, Kubeconfig, Namespace
from kaito.cli.tables import align
from kaito.cli.teaching import Command

if TYPE_CHECKING:
    from kaito.cli.plan import World

Output = Annotated[Literal["text", "json", "yaml"], typer.Option("--output", "-o")]
Types = Annotated[
    Path | None,
    typer.Option(
        "--instance-types", help=f"A CSV or YAML file of your own types; also ${OWN_TYPES}.", show_default=False
    ),
]
Region = Annotated[str, typer.Option("--region", help="Prices of this region.", show_default=False)]
ContextLength = Annotated[
    int | None,
    typer.Option("--context-length", min=1, help="Tokens of one request, for serving.", show_default=False),
]
Tokens = Annotated[int | None, typer.Option("--tokens", min=1, help="Tokens of the training data.", show_default=False)]
ModelFolder = Annotated[
    Path | None, typer.Option("--model-folder", help="A folder with the model's config and weights.")
]
ModelImage = Annotated[
    str,
    typer.Option(
        "--model-image", help="An OCI artifact with the model's files, each a layer of its own.", show_default=False
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing of models that are not known.")]
FromCluster = Annotated[
    bool, typer.Option("--cluster", help="Read nodes and the ConfigMaps that are named from the cluster.")
]


def register(app: typer.Typer) -> None:
    app.command(cls=Command)(models)
    app.command(cls=Command)(skus)
    app.command(cls=Command)(plan)


def models(
    name: Annotated[
        str,
        typer.Argument(
            help="One model: a preset name or a Hugging Face id.", show_default=False, autocompletion=complete_models
        ),
    ] = "",
    output: Output = "text",
) -> None:
    """List the models that can be served and tuned by name; any other org/model of Hugging Face works too."""
    if name and find_model(name) is None:
        raise UsageError(f'no model is called "{name}"', _nearest(nearest_models(name)))
    names = [name] if name else [known for known in model_names() if "/" not in known]
    found = [(word, find_model(word)) for word in names]
    if output != "text":
        return _print_data([msgspec.to_builtins(model) for _, model in found], output)
    rows = [_model_row(word, model) for word, model in found if model is not None]
    typer.echo(align([["NAME", "MODEL", "ARCHITECTURE", "WEIGHTS", "CONTEXT", "LICENCE"], *rows]))
    if name and found[0][1] is not None:
        typer.echo("\n" + align([*_details(found[0][1]), *_more_of_model(found[0][1])]))
    return None


def _details(thing: Model | InstanceType) -> list[list[str]]:
    """One field a line; what is not known says so."""
    rows: list[list[str]] = []
    for field, value in msgspec.to_builtins(thing).items():
        if isinstance(value, dict):
            rows += [[name, _known(inner)] for name, inner in value.items() if name != "cache"]
        else:
            rows.append([field, _known(value)])
    return [[name.replace("_", " "), text] for name, text in rows]


def _more_of_model(model: Model) -> list[list[str]]:
    return [
        ["KV cache per token", _per_token(model)],
        ["vllm flags", " ".join(f"--{key}={value}" for key, value in engine_flags(model).items()) or "none of its own"],
        ["lora targets", ", ".join(lora_targets(model.architecture)) or "every linear layer, asked when it is loaded"],
    ]


def _per_token(model: Model) -> str:
    from kaito.estimate.kv import bytes_per_token

    return f"{bytes_per_token(model.figures)} bytes" if model.figures and model.figures.layers else "unknown"


def _more_of_type(type_: InstanceType, region: str) -> list[list[str]]:
    gpu, price = find_gpu(type_.gpu_model, type_.gpu_memory_mib), price_of(type_, region)
    where = f" ({price.region}, {price.dated}; {price.source})" if price and price.region else ""
    return [
        ["16-bit TFLOP/s", _known(gpu.tflops_16bit if gpu else None)],
        ["memory bandwidth GB/s", _known(gpu.bandwidth_gb_s if gpu else None)],
        ["runs", _known(", ".join(what_it_runs(type_)))],
        ["price", f"${price.usd_hour:g} an hour{where}" if price else "unknown"],
    ]


def _known(value: object) -> str:
    if value is None or value == "":
        return "unknown"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _model_row(name: str, model: Model) -> list[str]:
    figures = model.figures
    weights = f"{figures.weights_bytes / 2**30:.1f}Gi" if figures and figures.weights_bytes else "-"
    context = str(figures.context_length) if figures and figures.context_length else "-"
    return [name, model.huggingface or "(built in)", model.architecture or "-", weights, context, model.licence or "-"]


def skus(
    name: Annotated[
        str, typer.Argument(help="One instance type.", show_default=False, autocompletion=complete_instance_types)
    ] = "",
    cloud: Annotated[str, typer.Option(help="azure, aws, gcp or arc.", show_default=False)] = "",
    region: Region = "",
    output: Output = "text",
    instance_types_file: Types = None,
) -> None:
    """List the instance types that are known, with their GPUs and prices."""
    _take_own_types(instance_types_file)
    _check_region(region)
    if name and find_instance_type(name) is None:
        raise UsageError(f'no instance type is called "{name}"', _nearest(nearest_instance_types(name)))
    one = find_instance_type(name) if name else None
    found = [one] if one else [t for t in instance_types().values() if cloud in ("", t.cloud)]
    if output != "text":
        return _print_data([msgspec.to_builtins(t) for t in found], output)
    rows = [
        [t.name, t.cloud, t.gpu_model, str(t.gpu_count), f"{t.gpu_memory_mib}Mi", t.architecture, *_price(t, region)]
        for t in sorted(found, key=lambda t: (t.cloud, t.name))
    ]
    typer.echo(align([["NAME", "CLOUD", "GPU", "COUNT", "MEMORY", "ARCH", "USD/H", "REGION"], *rows]))
    if one:
        typer.echo("\n" + align([*_details(one), *_more_of_type(one, region)]))
    return None


def _price(type_: InstanceType, region: str) -> list[str]:
    price = price_of(type_, region)
    return [f"{price.usd_hour:.2f}", price.region or "-"] if price else ["-", "-"]


def _nearest(names: list[str]) -> str:
    return f"the nearest: {', '.join(names)}" if names else "without a name, all are listed"


def plan(
    filename: Files,
    context_length: ContextLength = None,
    tokens: Tokens = None,
    region: Region = "",
    output: Output = "text",
    instance_types_file: Types = None,
    model_folder: ModelFolder = None,
    model_image: ModelImage = "",
    offline: Offline = False,
    cluster: FromCluster = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say what a Workspace needs, whether its instance type has it, what it costs, and which others would do.

    Exit 0: it fits, 3: it does not, 2: the manifest is wrong.
    """
    from kaito.cli.plan import PlanOptions, make_plan, read_workspaces, world_of
    from kaito.cli.plan_nodes import DoesNotFit
    from kaito.cli.plan_text import as_data, as_text

    _take_own_types(instance_types_file)
    _check_region(region)
    workspaces, manifests = read_workspaces(filename)
    world = world_of(manifests)
    if cluster or kubeconfig or context:
        world = _with_cluster(world, manifests, Connection(kubeconfig, context, namespace))
    options = PlanOptions(context_length, model_folder, model_image, offline, region)
    plans = [make_plan(where, manifest, world, options) for where, manifest in workspaces]
    if output == "text":
        typer.echo("\n\n".join(as_text(one, tokens) for one in plans))
    else:
        _print_data([as_data(one, tokens) for one in plans], output)
    faults = [fault for one in plans for fault in one.faults]
    if faults:
        raise UsageError("; ".join(faults), "correct the manifest: as it is, it would be refused")
    unfit = [one for one in plans if not one.fits]
    if unfit:
        hint = "take one of the alternatives" if any(one.others for one in unfit) else "use more GPU memory"
        raise DoesNotFit(f"does not fit: {', '.join(one.workspace.metadata.name for one in unfit)}", hint)


def _with_cluster(world: World, manifests: list[dict[str, Any]], connection: Connection) -> World:
    """What the manifests hold, over what the cluster has."""
    from kaito.cli.plan import World
    from kaito.cli.plan_nodes import read_cluster

    work = [manifest.get("tuning") or manifest.get("inference") or {} for manifest in manifests]
    names = {str(one.get("config")) for one in work if isinstance(one, dict) and one.get("config")}
    nodes, configs, region = run_connected(connection, lambda client, space: read_cluster(client, space, names))
    return World({**configs, **world.configs}, (*(world.nodes or ()), *nodes), is_cluster=True, region=region)


def _check_region(region: str) -> None:
    if region and region.lower() not in (known := known_regions()):
        near = difflib.get_close_matches(region.lower(), known, n=3, cutoff=0.5)
        hint = f"the nearest: {', '.join(near)}" if near else f"known ones are {', '.join(known[:6])}, ..."
        raise UsageError(f'no price of a region "{region}" is known', hint)


def _take_own_types(path: Path | None) -> None:
    """The catalogue reads the file of $KAITO_INSTANCE_TYPES; the option stands in for it."""
    if path is not None:
        os.environ[OWN_TYPES] = str(path)
    try:
        instance_types()
    except InstanceTypesInvalid as error:
        raise UsageError(str(error)) from error


def _print_data(data: object, output: str) -> None:
    typer.echo(json.dumps(data, indent=2) if output == "json" else yaml.safe_dump(data, sort_keys=False).rstrip())
