"""Options that many commands share, said once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from kaito.cli.completion import complete_contexts, complete_namespaces, complete_workspaces
from kaito.cli.errors import UsageError

Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="The kubeconfig file to use.", show_default=False)
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context", help="The context of the kubeconfig.", show_default=False, autocompletion=complete_contexts
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="The namespace to work in.", show_default=False, autocompletion=complete_namespaces
    ),
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look in every namespace.")]
Files = Annotated[
    list[str], typer.Option("--filename", "-f", help="A manifest, a folder of them, a web address, or - for stdin.")
]
Recursive = Annotated[bool, typer.Option("--recursive", "-R", help="Also the folders below a folder.")]
Selector = Annotated[str, typer.Option("--selector", "-l", help="A label selector.", show_default=False)]
WorkspaceName = Annotated[str, typer.Argument(help="The Workspace.", autocompletion=complete_workspaces)]
Home = Annotated[
    Path | None,
    typer.Option("--home", help="The folder of the control plane's state; default $KAITO_HOME or ~/.kaito."),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="The least that is logged.")
]
LogJson = Annotated[bool, typer.Option("--log-json/--log-text", help="One JSON object a line, or text.")]

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|m|s))+|\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|)")


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `5m` or `1h30m`. Raises UsageError."""
    if not _DURATION.fullmatch(text.strip()):
        raise UsageError(f'"{text}" is no length of time', "write it as 90s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text.strip()))


def plain_name(word: str) -> str:
    """`tiny` of `tiny`, `wk/tiny` or `workspace.kaito.sh/tiny`: commands about Workspaces take all three.

    Raises UsageError where there is no name.
    """
    name = word.rpartition("/")[2]
    if not name:
        raise UsageError(f'"{word}" names no Workspace', "`kaito get` lists them")
    return name
