"""Manifests from files, folders and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kaito.cli.errors import UsageError

SUFFIXES = (".yaml", ".yml", ".json")


def read_manifests(sources: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, manifest) for every document of every source; `-` is standard input. Lists are opened.

    Raises UsageError that names the file and the line.
    """
    for source in sources:
        for where, text in _texts(source):
            try:
                documents = list(yaml.safe_load_all(text))
            except yaml.YAMLError as error:
                raise UsageError(f"{where} is not YAML: {_one_line(error)}") from error
            for document in documents:
                yield from _objects(where, document)


def _texts(source: str) -> Iterator[tuple[str, str]]:
    if source == "-":
        yield "standard input", sys.stdin.read()
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not files:
            raise UsageError(f"{path} holds no .yaml, .yml or .json file")
    elif path.exists():
        files = [path]
    else:
        raise UsageError(f"{path} does not exist")
    for file in files:
        yield str(file), file.read_text()


def _objects(where: str, document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if document is None:
        return
    if not isinstance(document, dict) or not document.get("kind"):
        raise UsageError(f"{where}: a document is not a Kubernetes object (it needs apiVersion, kind and metadata)")
    if document["kind"] == "List":
        for item in document.get("items", []):
            yield from _objects(where, item)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise UsageError(f"{where}: the {document['kind']} has no metadata.name")
    yield where, document


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
