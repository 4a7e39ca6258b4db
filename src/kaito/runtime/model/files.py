"""Which files of a model's folder are wanted, and whether they came whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from kaito.runtime.errors import InputError

SIDE = ("*.json", "*.model", "*.jinja", "*.txt", "*.tiktoken", "*.py")
# Folders beside the weights that belong to the model; others hold it once more for other programs (onnx, original ...).
SIDE_FOLDERS = re.compile(r"\d+_\w+|additional_chat_templates|chat_templates")
MISTRAL = "consolidated*.safetensors"  # the weights once more, in Mistral's own names
HOLDS_CODE = re.compile(r"\.(bin|pt|pth|ckpt|pkl|h5|msgpack)$")


def wanted_files(names: Iterable[str], what: str) -> list[str]:
    """The files to fetch of those there are. Raises InputError when there are no safetensors among them."""
    top = [name for name in names if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    plain = [name for name in weights if not fnmatch(name, MISTRAL)]
    if not weights:
        found = sorted(name for name in top if HOLDS_CODE.search(name))
        raise InputError(
            "ModelInvalid",
            f"the weights of {what} are not in safetensors" + (f", but in {found[0]}" if found else ""),
            "use a revision with safetensors; pickled weights are never loaded, because they can run code",
        )
    beside = [name for name in names if _is_beside(PurePosixPath(name))]
    return sorted({*(plain or weights), *beside})


def _is_beside(path: PurePosixPath) -> bool:
    if not any(fnmatch(path.name, pattern) for pattern in SIDE):
        return False
    return len(path.parts) == 1 or (len(path.parts) == 2 and bool(SIDE_FOLDERS.fullmatch(path.parts[0])))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sizes_of(folder: Path, mark: str) -> dict[str, int]:
    """Size of each file in `folder`, without hidden folders and the mark."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.name != mark and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = path.stat().st_size
    return found


def is_whole(folder: Path, sizes: Mapping[str, Any]) -> bool:
    """Whether every file is there with its size: what a disk that filled up, or a hand, has taken away."""
    try:
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False


def check_shards(folder: Path, what: str) -> None:
    """Raises InputError unless every part that the index names is there."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            names = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                "ModelInvalid", f"{index.name} of {what} cannot be read: {error}", "fetch it again"
            ) from error
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing and not (folder / "model.safetensors").is_file():
            raise InputError(
                "ModelInvalid",
                f"the weights of {what} lack {len(missing)} files that {index.name} names, {missing[0]} the first",
                "fetch them again, or correct the source",
            )
