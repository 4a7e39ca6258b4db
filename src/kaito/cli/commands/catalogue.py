"""What is known before anything is spent: models, instance types, plans. No cluster is needed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
import yaml

from kaito.catalog.gpus import tflops_16bit, what_it_runs
from kaito.catalog.instances import (
    OWN_TYPES,
    InstanceType,
    InstanceTypesInvalid,
    find_instance_type,
    instance_types,
    nearest_instance_types,
)
from kaito.catalog.models import Model, find_model, model_names, nearest_models
from kaito.cli.completion import complete_instance_types, complete_models
from kaito.cli.errors import UsageError
from kaito.cli.options import Files
from kaito.cli.tables import align
from kaito.cli.teaching import Command

Output = Annotated[Literal["text", "json", "yaml"], typer.Option("--output", "-o")]
Types = Annotated[
    Path | None,
    typer.Option(
        "--instance-types", help=f"A CSV or YAML file of your own types; also ${OWN_TYPES}.", show_default=False
    ),
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
        typer.echo("\n" + align(_details(found[0][1])))
    return None


def _details(thing: Model | InstanceType) -> list[list[str]]:
    """One field a line; what is not known says so."""
    rows: list[list[str]] = []
    for field, value in msgspec.to_builtins(thing).items():
        if isinstance(value, dict):
            rows += [[name, _known(inner)] for name, inner in value.items()]
        else:
            rows.append([field, _known(value)])
    return [[name.replace("_", " "), text] for name, text in rows]


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
    output: Output = "text",
    instance_types_file: Types = None,
) -> None:
    """List the instance types that are known, with their GPUs."""
    _take_own_types(instance_types_file)
    if name and find_instance_type(name) is None:
        raise UsageError(f'no instance type is called "{name}"', _nearest(nearest_instance_types(name)))
    one = find_instance_type(name) if name else None
    found = [one] if one else [t for t in instance_types().values() if cloud in ("", t.cloud)]
    if output != "text":
        return _print_data([msgspec.to_builtins(t) for t in found], output)
    rows = [
        [t.name, t.cloud, t.gpu_model, str(t.gpu_count), f"{t.gpu_memory_mib}Mi", t.resource, t.architecture]
        for t in sorted(found, key=lambda t: (t.cloud, t.name))
    ]
    typer.echo(align([["NAME", "CLOUD", "GPU", "COUNT", "MEMORY", "RESOURCE", "ARCH"], *rows]))
    if one:
        more = [["16-bit TFLOP/s", _known(tflops_16bit(one.gpu_model))], ["runs", _known(", ".join(what_it_runs(one)))]]
        typer.echo("\n" + align([*_details(one), *more]))
    return None


def _nearest(names: list[str]) -> str:
    return f"the nearest: {', '.join(names)}" if names else "without a name, all are listed"


def plan(
    filename: Files,
    context: Annotated[
        int | None,
        typer.Option("--context-length", min=1, help="Tokens of one request, for serving.", show_default=False),
    ] = None,
    output: Output = "text",
    instance_types_file: Types = None,
    model_folder: Annotated[
        Path | None, typer.Option("--model-folder", help="A folder with the model's config and weights.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing of models that are not known.")] = False,
) -> None:
    """Say what a Workspace needs, whether its instance type has it, and which others have. Exit 3: it does not fit."""
    from kaito.cli.plan import DoesNotFit, PlanOptions, as_data, as_text, make_plans

    _take_own_types(instance_types_file)
    plans = make_plans(filename, PlanOptions(context, model_folder, offline))
    if output == "text":
        typer.echo("\n\n".join(as_text(one) for one in plans))
    else:
        _print_data([as_data(one) for one in plans], output)
    unfit = [one.workspace.metadata.name for one in plans if not one.estimate.fits]
    if unfit:
        raise DoesNotFit(f"does not fit: {', '.join(unfit)}", "take one of the alternatives")


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
