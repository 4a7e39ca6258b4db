"""Options that many commands share, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="The kubeconfig file to use.", show_default=False)
]
Context = Annotated[str | None, typer.Option("--context", help="The context of the kubeconfig.", show_default=False)]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The namespace to work in.", show_default=False)
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look in every namespace.")]
Files = Annotated[list[str], typer.Option("--filename", "-f", help="A manifest, a folder of them, or - for stdin.")]
Home = Annotated[
    Path | None,
    typer.Option("--home", help="The folder of the control plane's state; default $KAITO_HOME or ~/.kaito."),
]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]
LogJson = Annotated[bool, typer.Option("--log-json/--log-text", help="One JSON object a line, or text.")]
