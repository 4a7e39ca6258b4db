"""What `kaito delete` does: ask for deletions, then wait until the objects are gone, and say what holds them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import typer

from kaito.cli.discovery import kinds_for, listed
from kaito.cli.objects import Wanted, all_of, delete_wanted, kind_words, manifest_objects, wanted_objects
from kaito.cli.progress import Watcher
from kaito.cli.waiting import wait_gone
from kaito.kube.client import Client


@dataclass(frozen=True)
class Deletion:
    words: Sequence[str] = ()
    files: list[str] = field(default_factory=list)
    recursive: bool = False
    selector: str = ""
    everything: bool = False
    ignore_absent: bool = False
    patience: float | None = None
    """Seconds to wait until they are gone; None does not wait."""


async def delete_all(client: Client, namespace: str, deletion: Deletion) -> None:
    going: list[tuple[Wanted, str]] = []
    for space, wanted in await _by_namespace(client, namespace, deletion):
        ignore = deletion.ignore_absent or bool(deletion.selector) or deletion.everything
        found = await delete_wanted(client, space, wanted, typer.echo, ignore_absent=ignore)
        going += [(one, space) for one in found]
    if deletion.patience is None:
        return
    with Watcher(sys.stderr) as watcher:
        for one, space in going:
            await wait_gone(client, space, [one], patience=deletion.patience, on_change=watcher.show)


async def _by_namespace(client: Client, namespace: str, deletion: Deletion) -> list[tuple[str, list[Wanted]]]:
    found: list[tuple[str, list[Wanted]]] = []
    if deletion.files:
        named = await manifest_objects(client, namespace, deletion.files, recursive=deletion.recursive)
        found = [(space, [one for one, _ in group]) for space, group in groupby(named, key=lambda pair: pair[1])]
    if deletion.words:
        words = list(deletion.words)
        kinds = await kinds_for(client, kind_words(words))
        if deletion.selector or deletion.everything:
            found.append((namespace, await all_of(client, namespace, listed(kinds, words[0]), deletion.selector)))
        else:
            found.append((namespace, wanted_objects(kinds, words)))
    return found
