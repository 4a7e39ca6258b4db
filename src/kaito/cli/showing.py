"""What `kaito get` does: tables of one kind or several, whole objects, and what changes."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import typer

from kaito.cli.discovery import kinds_for
from kaito.cli.errors import UsageError
from kaito.cli.objects import Wanted, follow_list, get_objects, kind_words, table_of, wanted_objects
from kaito.cli.outputs import dump
from kaito.cli.tables import render_table
from kaito.kube.client import Client


@dataclass(frozen=True)
class Showing:
    output: str = ""
    labels: str = ""
    watch: bool = False
    headers: bool = True
    all_namespaces: bool = False


async def show(client: Client, namespace: str, words: list[str], showing: Showing) -> None:
    """Print what `words` mean; returns, unless it watches."""
    wanted = wanted_objects(await kinds_for(client, kind_words(words)), words)
    space = "" if showing.all_namespaces else namespace
    if showing.watch and len(wanted) > 1:
        raise UsageError("--watch follows one kind, or one object", "name one of them")
    if showing.output not in ("", "wide"):
        found = await get_objects(client, space, wanted, labels=showing.labels)
        typer.echo(dump(found, showing.output, [one.kind for one in wanted]))
        return
    shown: list[tuple[Wanted, dict[str, Any]]] = []
    for one in wanted:
        table = await table_of(client, one.kind, space, one.name, showing.labels)
        if shown and shown[-1][0].kind is one.kind:
            shown[-1][1]["rows"] += table["rows"]
        elif table.get("rows"):
            shown.append((one, table))
    if not shown:
        where = "" if showing.all_namespaces else f" in {namespace} namespace"
        typer.echo(f"No resources found{where}.", err=True)
    is_mixed = len({id(one.kind) for one in wanted}) > 1
    for number, (one, table) in enumerate(shown):
        if number and showing.headers:
            typer.echo()
        typer.echo(_text(table, showing, one if is_mixed else None))
    if showing.watch:
        await _follow(client, space, wanted[0], showing)


async def _follow(client: Client, space: str, one: Wanted, showing: Showing) -> None:
    """A row for each change; the server draws it, as it does for the whole table."""
    async with aclosing(follow_list(client, one.kind, space, name=one.name, labels=showing.labels)) as changes:
        async for obj in changes:
            metadata = obj["metadata"]
            table = await table_of(client, one.kind, metadata.get("namespace", ""), metadata["name"])
            typer.echo(_text(table, showing, None).splitlines()[-1])


def _text(table: dict[str, Any], showing: Showing, prefix: Wanted | None) -> str:
    if prefix is not None:
        for row in table["rows"]:
            row["cells"][0] = prefix.kind.title(row["cells"][0])
    return render_table(
        table, wide=showing.output == "wide", headers=showing.headers, namespaces=showing.all_namespaces
    )
