"""Manifests from files, folders, standard input and web addresses."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kaito.cli.errors import CommandError, UsageError

SUFFIXES = (".yaml", ".yml", ".json")
FETCH_SECONDS = 30.0
SERVER_SET = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp"}
)
"""Of metadata, what a server says of its own object; without it a dump (`get -o yaml`) can be applied anywhere."""


def read_manifests(sources: list[str], *, recursive: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, manifest) for every document of every source; `-` is standard input. Lists are opened.

    Raises UsageError that names the file and the line.
    """
    for source in sources:
        for where, text in _texts(source, recursive):
            try:
                documents = list(yaml.safe_load_all(text))
            except yaml.YAMLError as error:
                raise UsageError(f"{where} is not YAML: {_reason(error)}", "correct that line and try again") from error
            for document in documents:
                yield from _objects(where, document)


def _texts(source: str, recursive: bool) -> Iterator[tuple[str, str]]:
    if source == "-":
        yield "standard input", sys.stdin.read()
        return
    if not source:
        raise UsageError("-f names no file", "it takes a file, a folder, a web address, or - for standard input")
    if source.startswith(("https://", "http://")):
        yield source, _fetch(source)
        return
    for file in _files(Path(source), recursive):
        try:
            yield str(file), file.read_text()
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not text in UTF-8 (byte {error.start})") from error


def _files(path: Path, recursive: bool) -> list[Path]:
    if path.is_dir():
        inside = path.rglob("*") if recursive else path.iterdir()
        files = sorted(file for file in inside if file.suffix in SUFFIXES and file.is_file())
        if not files:
            deeper = any(file.suffix in SUFFIXES for file in path.rglob("*"))
            hint = "-R looks in the folders below, too" if deeper else ""
            raise UsageError(f"{path} holds no .yaml, .yml or .json file", hint)
        return files
    if not path.exists():
        raise UsageError(f"{path} does not exist", "-f takes a file, a folder, a web address, or - for standard input")
    return [path]


def _fetch(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - http(s) alone comes here
            return str(answer.read().decode())
    except (urllib.error.URLError, TimeoutError, UnicodeDecodeError, ValueError) as error:
        raise CommandError(f"{address} cannot be fetched: {getattr(error, 'reason', error)}") from error


def _objects(where: str, document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if document is None:
        return
    if not isinstance(document, dict) or not document.get("kind"):
        raise UsageError(f"{where}: a document is not a Kubernetes object (it needs apiVersion, kind and metadata)")
    if document["kind"] == "List":
        items = document.get("items") or []
        if not isinstance(items, list):
            raise UsageError(f"{where}: the items of the List are no list")
        for item in items:
            yield from _objects(where, item)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise UsageError(f"{where}: the {document['kind']} has no metadata.name")
    for field in ("name", "namespace"):
        value = metadata.get(field, "")
        if not isinstance(value, str) or "/" in value:
            raise UsageError(f"{where}: metadata.{field}: {value!r} is no name", f'a number is written as "{value}"')
    yield where, {**document, "metadata": {k: v for k, v in metadata.items() if k not in SERVER_SET}}


def _reason(error: yaml.YAMLError) -> str:
    """`line 3, column 5: mapping values are not allowed here`."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
