"""What is known before anything is spent: models, instance types, plans. No cluster is needed."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer
import yaml

from kaito.catalog.instances import find_instance_type, instance_types, nearest_instance_types
from kaito.catalog.models import Model, find_model, model_names, nearest_models
from kaito.cli.errors import UsageError
from kaito.cli.options import Files
from kaito.cli.tables import align


def register(app: typer.Typer) -> None:
    app.command()(models)
    app.command()(skus)
    app.command()(plan)


def models(
    name: Annotated[
        str, typer.Argument(help="One model: a preset name or a Hugging Face id.", show_default=False)
    ] = "",
) -> None:
    """List the models that can be served and tuned by name; any other org/model of Hugging Face works too."""
    if name and find_model(name) is None:
        raise UsageError(f'no model is called "{name}"', _nearest(nearest_models(name)))
    names = [name] if name else [known for known in model_names() if "/" not in known]
    found = [(word, find_model(word)) for word in names]
    rows = [_model_row(word, model) for word, model in found if model is not None]
    typer.echo(align([["NAME", "MODEL", "ARCHITECTURE", "WEIGHTS", "CONTEXT", "LICENCE"], *rows]))


def _model_row(name: str, model: Model) -> list[str]:
    figures = model.figures
    weights = f"{figures.weights_bytes / 2**30:.1f}Gi" if figures and figures.weights_bytes else "-"
    context = str(figures.context_length) if figures and figures.context_length else "-"
    return [name, model.huggingface or "(built in)", model.architecture or "-", weights, context, model.licence or "-"]


def skus(
    name: Annotated[str, typer.Argument(help="One instance type.", show_default=False)] = "",
    cloud: Annotated[str, typer.Option(help="azure, aws, gcp or arc.", show_default=False)] = "",
) -> None:
    """List the instance types that are known, with their GPUs."""
    if name and find_instance_type(name) is None:
        raise UsageError(f'no instance type is called "{name}"', _nearest(nearest_instance_types(name)))
    one = find_instance_type(name) if name else None
    found = [one] if one else [t for t in instance_types().values() if cloud in ("", t.cloud)]
    rows = [
        [t.name, t.cloud, t.gpu_model, str(t.gpu_count), f"{t.gpu_memory_mib}Mi", t.resource, t.architecture]
        for t in sorted(found, key=lambda t: (t.cloud, t.name))
    ]
    typer.echo(align([["NAME", "CLOUD", "GPU", "COUNT", "MEMORY", "RESOURCE", "ARCH"], *rows]))


def _nearest(names: list[str]) -> str:
    return f"the nearest: {', '.join(names)}" if names else "without a name, all are listed"


def plan(
    filename: Files,
    context: Annotated[
        int | None, typer.Option("--context-length", help="Tokens of one request, for serving.", show_default=False)
    ] = None,
    output: Annotated[Literal["text", "json", "yaml"], typer.Option("--output", "-o")] = "text",
) -> None:
    """Say what a Workspace needs, whether its instance type has it, and which others have. Exit 3: it does not fit."""
    from kaito.cli.plan import DoesNotFit, as_data, as_text, make_plans

    plans = make_plans(filename, context)
    if output == "text":
        typer.echo("\n\n".join(as_text(one) for one in plans))
    else:
        data = [as_data(one) for one in plans]
        typer.echo(json.dumps(data, indent=2) if output == "json" else yaml.safe_dump(data, sort_keys=False).rstrip())
    unfit = [one.workspace.metadata.name for one in plans if not one.estimate.fits]
    if unfit:
        raise DoesNotFit(f"does not fit: {', '.join(unfit)}", "take one of the alternatives")
