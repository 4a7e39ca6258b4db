"""`kaito-runtime model`: the weights in KAITO_MODEL_DIR, from the package, a hub, an image or a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kaito.runtime.errors import InputError
from kaito.runtime.model.cache import entry_of, is_complete, locked, mark_complete
from kaito.runtime.model.files import check_shards
from kaito.runtime.model.hub import download
from kaito.runtime.model.image import fetch_image
from kaito.runtime.step import Step, run_step

BUILTIN = Path(__file__).parents[1] / "builtin"


class Source(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of builtin, huggingface, image, path. `revision` goes with huggingface."""

    builtin: str = ""
    huggingface: str = ""
    revision: str = ""
    image: str = ""
    path: str = ""

    def kind(self) -> str:
        given = [name for name in ("builtin", "huggingface", "image", "path") if getattr(self, name)]
        return given[0] if len(given) == 1 else ""


class ModelRequest(msgspec.Struct):
    """KAITO_MODEL: the preset's name, and where its weights come from."""

    source: Source
    name: str = ""


def run() -> int:
    return run_step("model", fetch_model)


def fetch_model(step: Step) -> Mapping[str, Any]:
    """The step. A folder that was completed from the same source is left as it is.

    With KAITO_MODEL_CACHE, a folder that pods share, what comes over the network goes there once, and the model's
    folder holds links to it.
    """
    request = _parse(step.require("KAITO_MODEL"))
    target = step.path("KAITO_MODEL_DIR")
    cache = step.optional_path("KAITO_MODEL_CACHE")
    source = msgspec.to_builtins(request.source)
    is_remote = request.source.kind() in ("huggingface", "image")
    if cache is not None and is_remote and not is_complete(target, source):
        entry = entry_of(cache, source)
        _complete(step, request, source, entry)
        with locked(step, target):
            _copy(entry, target)
            mark_complete(target, source, "")
    else:
        _complete(step, request, source, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    step.say("model is ready", model=request.name, bytes=size)
    return {"model": request.name, "bytes": size}


def _complete(step: Step, request: ModelRequest, source: Mapping[str, Any], folder: Path) -> None:
    """Bring the weights into `folder`, unless they are there; one pod at a time."""
    if is_complete(folder, source):
        return
    with locked(step, folder):
        if is_complete(folder, source):  # another pod has been at it
            return
        step.progress.running(f"bringing the weights of {request.name}")
        step.say("bringing the model", model=request.name, source=request.source.kind())
        version = _bring(step, request.source, folder)
        check_model(folder, request.name)
        mark_complete(folder, source, version)


def _parse(text: str) -> ModelRequest:
    try:
        request = msgspec.json.decode(text, type=ModelRequest)
    except msgspec.DecodeError as error:
        raise InputError("EnvironmentInvalid", f"KAITO_MODEL cannot be read: {error}") from error
    if not request.source.kind():
        raise InputError("EnvironmentInvalid", "KAITO_MODEL's source must be one of builtin, huggingface, image, path")
    return request


def _bring(step: Step, source: Source, target: Path) -> str:
    """Returns the version that came: a commit or a digest, where the source has one."""
    target.mkdir(parents=True, exist_ok=True)
    match source.kind():
        case "builtin":
            _copy(find_builtin(source.builtin), target)
        case "path":
            _copy(_existing(Path(source.path)), target)
        case "huggingface":
            return download(step, source.huggingface, source.revision or "main", target)
        case "image":
            return fetch_image(step, source.image, target)
    return ""


def find_builtin(name: str) -> Path:
    """The folder of a built-in model. Raises InputError, which names those there are."""
    folder = BUILTIN / name
    if "/" in name or name.startswith(".") or not (folder / "config.json").is_file():
        there = sorted(path.parent.name for path in BUILTIN.glob("*/config.json"))
        raise InputError(
            "ModelNotFound", f"there is no built-in model {name!r}", f"built-in models: {', '.join(there) or 'none'}"
        )
    return folder


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError("ModelNotFound", f"the model folder {folder} does not exist", "mount it, or correct the path")
    return folder


def _copy(source: Path, target: Path) -> None:
    """Links to the files where the source stays readable; the folder itself is ours, so that it can hold the mark."""
    for path in sorted(source.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
        if hidden or not path.is_file():
            continue
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        if path.stat().st_size > 1 << 20:
            place.symlink_to(path.resolve())
        else:
            shutil.copyfile(path, place)


def check_model(folder: Path, name: str) -> None:
    """Raises InputError unless this is a Hugging Face folder with safetensors weights."""
    if not (folder / "config.json").is_file():
        raise InputError(
            "ModelInvalid", f"the weights of {name} have no config.json", "use a Hugging Face model folder"
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            "ModelInvalid",
            f"the weights of {name} are not in safetensors",
            "use a revision with safetensors; pickled weights are never loaded",
        )
    check_shards(folder, name)
