"""`kaito doctor`: what the `data` step would make of files, before anything is applied. Nothing is sent anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kaito.cli.errors import UsageError
from kaito.cli.teaching import Command

if TYPE_CHECKING:
    from kaito.runtime.data.shapes import Columns


def register(app: typer.Typer) -> None:
    app.command(cls=Command)(doctor)


def doctor(
    files: Annotated[list[Path], typer.Argument(help="Data files, or folders of them.", show_default=False)],
    config: Annotated[
        Path | None,
        typer.Option(help="A training_config.yaml, whose DatasetConfig names the columns.", show_default=False),
    ] = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            help="Count tokens: a tokenizer.json, a model's folder, or a built-in model's name.", show_default=False
        ),
    ] = "",
    max_length: Annotated[
        int, typer.Option(min=1, help="With --tokenizer: the longest row, in tokens; says what would be cut.")
    ] = 1024,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o")] = "text",
) -> None:
    """Examine data files as tuning would read them. Exit 2: no row can be used."""
    from kaito.runtime.data.doctor import Findings, examine_file, why_unusable

    columns = _columns(config)
    findings = Findings(_counter(tokenizer), max_length) if tokenizer else Findings()
    for path, name in _data_files(files):
        try:
            examine_file(path, name, findings, columns)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    typer.echo(
        json.dumps(findings.as_dict(), indent=2, ensure_ascii=False)
        if output == "json"
        else findings.as_text().rstrip()
    )
    if not findings.usable:
        _, hint = why_unusable(findings)
        raise UsageError("no row of the data can be used", hint)


def _columns(config: Path | None) -> Columns | None:
    """The columns that a training config names. Raises UsageError."""
    from kaito.runtime.errors import RuntimeFailure
    from kaito.runtime.tune.config import read_config

    if config is None:
        return None
    if not config.is_file():
        raise UsageError(f"there is no file {config}")
    try:
        return read_config(config).dataset.columns()
    except RuntimeFailure as error:
        raise UsageError(f"{config}: {error.message}", error.hint) from error


def _counter(given: str) -> Callable[[str], int]:
    """Counts the tokens of a text, without those that a chat template adds. Raises UsageError."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UsageError("--tokenizer needs the package tokenizers", "pip install 'kaito[tune]'") from error
    path = Path(given)
    if path.is_dir():
        path = path / "tokenizer.json"
    elif not path.exists():
        path = resources.files("kaito.runtime") / "builtin" / given / "tokenizer.json"  # type: ignore[assignment]  # installed as files
    if not path.is_file():
        raise UsageError(f"there is no tokenizer at {given}", "name a tokenizer.json, or a folder that holds one")
    try:
        loaded = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(f"{path} is not a tokenizer: {error}") from error
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def _data_files(given: list[Path]) -> list[tuple[Path, str]]:
    """Each file with the name that reports call it; folders are walked as the `data` step walks a volume."""
    found = []
    for path in given:
        if path.is_dir():
            inside = [one for one in sorted(path.rglob("*")) if one.is_file() and not _is_hidden(one.relative_to(path))]
            if not inside:
                raise UsageError(f"the folder {path} holds no data file", "hidden files and folders are left out")
            found += [(one, str(one)) for one in inside]
        elif path.is_file():
            found.append((path, str(path)))
        else:
            raise UsageError(f"there is no file {path}", "name data files, or folders of them")
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts) or path.name == "lost+found"
