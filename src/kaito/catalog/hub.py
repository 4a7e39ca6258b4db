"""A model that is not in the catalogue: its `config.json` and the size of its weights, from the Hub or from a folder.

Only the two small files are read, once a revision, and kept in a cache folder. The size is the index's `total_size`,
never a sum over the repository's files, some of which hold the same weights a second time.

HubError
├── ModelNotFound     there is no such model, revision or file
├── ModelGated        a token is needed, or this one has no access
├── HubUnreachable    no answer, or none that can be used
└── NotCached         offline, and never read before
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, cast

import msgspec

from kaito.catalog.architecture import ConfigIncomplete, parse_config
from kaito.catalog.models import Model, figures_of

ENDPOINT = "https://huggingface.co"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
LARGEST_FILE = 64 * 2**20


class HubError(Exception):
    """The text says what is wrong, `hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ModelNotFound(HubError):
    pass


class ModelGated(HubError):
    pass


class HubUnreachable(HubError):
    pass


class NotCached(HubError):
    pass


class Hub(msgspec.Struct, frozen=True):
    """Where models are looked up. `timeout` in seconds, for each request."""

    cache: Path
    endpoint: str = ENDPOINT
    token: str = ""
    timeout: float = 10.0
    is_offline: bool = False

    def read(self, model: Model) -> Model:
        """`model` with its figures. Raises HubError, ConfigIncomplete."""
        organisation, _, name = model.huggingface.partition("/")
        kept = self.cache / f"{organisation}--{name}" / f"{model.revision.replace('/', '--')}.json"
        if kept.is_file():
            facts = json.loads(kept.read_text())
        elif self.is_offline:
            message = f"the config of {model.huggingface} was never read on this machine, and nothing may be fetched"
            raise NotCached(message, "run once without --offline, or name a folder that has it with --model-folder")
        else:
            facts = {"config": self._json(model, "config.json"), "weights_bytes": self._weights_bytes(model)}
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(facts))
        return _described(model, facts["config"], facts["weights_bytes"])

    def _weights_bytes(self, model: Model) -> int:
        try:
            return _total_size(self._json(model, INDEX), model.huggingface)
        except ModelNotFound:
            return self._single_file(model)

    def _single_file(self, model: Model) -> int:
        try:
            with self._open(model, SINGLE) as answer:
                return int(answer.headers.get("Content-Length") or 0)
        except ModelNotFound as error:
            message = f"{model.huggingface} at {model.revision} has a config and no safetensors weights"
            raise ModelNotFound(
                message, "choose a repository with them, or convert it and use --model-folder"
            ) from error

    def _json(self, model: Model, file: str) -> dict[str, Any]:
        with self._open(model, file) as answer:
            return _mapping(answer.read(LARGEST_FILE), f"{file} of {model.huggingface}")

    def _open(self, model: Model, file: str) -> HTTPResponse:
        url = f"{self.endpoint.rstrip('/')}/{model.huggingface}/resolve/{model.revision}/{file}"
        if not url.startswith(("https://", "http://")):
            raise HubUnreachable(f"{self.endpoint} is not an http address", "correct HF_ENDPOINT")
        request = urllib.request.Request(url)  # noqa: S310  # the scheme has just been checked
        if self.token:
            # Not sent on when the answer leads to another host.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            return cast(HTTPResponse, urllib.request.urlopen(request, timeout=self.timeout))  # noqa: S310  # as above
        except urllib.error.HTTPError as error:
            error.close()
            raise _refused(model, file, error.code) from error
        except (OSError, HTTPException) as error:
            cause = getattr(error, "reason", error)
            message = f"{self.endpoint} does not answer: {cause}"
            raise HubUnreachable(message, "mend the network, or name a folder with --model-folder") from error


def hub_from_environment(*, is_offline: bool = False) -> Hub:
    """With HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kaito" / "hub"
    offline = is_offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes")
    endpoint = os.environ.get("HF_ENDPOINT") or ENDPOINT
    return Hub(cache, endpoint, os.environ.get("HF_TOKEN", ""), is_offline=offline)


def read_folder(model: Model, folder: Path) -> Model:
    """`model` with the figures of a Hugging Face folder. Raises HubError, ConfigIncomplete."""
    config, index, single = (folder / name for name in ("config.json", INDEX, SINGLE))
    if not config.is_file():
        raise ModelNotFound(f"{folder} has no config.json", "name a folder as save_pretrained writes it")
    if index.is_file():
        weights = _total_size(_mapping(index.read_bytes(), str(index)), str(folder))
    elif single.is_file():
        weights = single.stat().st_size
    else:
        raise ModelNotFound(f"{folder} has neither {INDEX} nor {SINGLE}", "add the safetensors weights")
    return _described(model, _mapping(config.read_bytes(), str(config)), weights)


def _described(model: Model, config: dict[str, Any], weights: int) -> Model:
    try:
        figures = figures_of(parse_config(config), weights or None)
    except ConfigIncomplete as error:
        raise ConfigIncomplete(f"{model.huggingface or model.name}: {error}") from error
    architectures = config.get("architectures") or [""]
    return msgspec.structs.replace(model, figures=figures, architecture=str(architectures[0]))


def _total_size(index: dict[str, Any], where: str) -> int:
    metadata = index.get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(size, int | float) or size <= 0:
        raise HubUnreachable(f"the index of {where} has no total_size", "ask its publisher for a whole index")
    return int(size)


def _mapping(data: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise HubUnreachable(f"{where} is not JSON", "look at what the address really answers") from error
    if not isinstance(found, dict):
        raise HubUnreachable(f"{where} is not a JSON object", "look at what the address really answers")
    return found


def _refused(model: Model, file: str, code: int) -> HubError:
    if code in (401, 403):
        hint = "set HF_TOKEN to a token whose account was granted access, or check the model's name"
        return ModelGated(f"{model.huggingface} is gated or private (HTTP {code})", hint)
    if code == 404:
        return ModelNotFound(f"{model.huggingface} at {model.revision} has no {file}", "check the name and revision")
    return HubUnreachable(f"the answer for {file} of {model.huggingface} is HTTP {code}", "try again later")
