"""The command line of vLLM's OpenAI server: what the model and the adapters need, overlaid by the user's `vllm:` map.

Parallelism (tensor, pipeline, data, Ray) comes in the map too: the operator writes what its estimate says into
`inference_config.yaml` beneath the user's own keys. Flags: vLLM's `vllm serve --help`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito.runtime.errors import InputError

MODULE = "vllm.entrypoints.openai.api_server"
UTILIZATION = 0.84  # of a GPU's memory; what the estimate plans with
# Ranks that vLLM can reserve room for (its `--max-lora-rank`).
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Keys that this server decides itself -> what to do instead.
OURS: Mapping[str, str] = {
    "model": "choose it by the preset",
    "host": "the engine listens on loopback, behind this server",
    "port": "the engine listens on a free port, behind this server",
    "uds": "the engine listens on loopback, behind this server",
    "api-key": "put the keys into the file that KAITO_API_KEYS names",
    "root-path": "clients reach it under /v1",
    "config": "write its keys below `vllm:`",
    "headless": "the operator starts the other nodes",
}
# Lists that vLLM wants as one JSON value; other lists are several values of one flag.
JSON_LISTS = frozenset({"allowed-origins", "allowed-methods", "allowed-headers"})
REPEATED = frozenset({"middleware"})  # one flag per value


@dataclass(frozen=True)
class LoraModule:
    """An adapter as vLLM is told of it."""

    name: str
    folder: Path
    rank: int


@dataclass(frozen=True)
class Launch:
    """What to start. `options` is the `vllm:` map with dashed keys."""

    model_dir: Path
    name: str
    port: int
    options: Mapping[str, Any] = field(default_factory=dict)
    adapters: Sequence[LoraModule] = ()
    has_cuda: bool = True
    has_bfloat16: bool = True


def render_command(python: str, launch: Launch) -> list[str]:
    """The whole command. Raises InputError for keys that the user may not set, or that no flag can carry."""
    return [python, "-m", MODULE, *render_flags(launch)]


def render_flags(launch: Launch) -> list[str]:
    refused = [key for key in launch.options if key in OURS]
    if refused:
        key = refused[0]
        raise _bad(key, "is not for the user to set", OURS[key])
    made = {**_defaults(launch), **launch.options}
    modules = _modules(launch)
    if modules:
        made = {**made, **_lora(launch, modules)}
    fixed = {"model": str(launch.model_dir), "host": "127.0.0.1", "port": launch.port}
    return [word for key, value in {**fixed, **made}.items() for word in _words(key, value)]


def served_names(launch: Launch) -> list[str]:
    """The names under which the base model answers."""
    given = launch.options.get("served-model-name") or launch.name
    return [str(one) for one in given] if isinstance(given, list) else [str(given)]


def _defaults(launch: Launch) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "served-model-name": launch.name,
        "max-model-len": "auto",
        "tensor-parallel-size": 1,
    }
    if launch.has_cuda:
        # The fused all-reduce is wrong on GPUs without NVLink peers, and gains little on the others.
        fused = {"compilation-config.pass_config.fuse_allreduce_rms": "False"}
        defaults |= {"gpu-memory-utilization": UTILIZATION, **fused}
    if not launch.has_bfloat16:
        defaults["dtype"] = "half"
    return defaults


def _modules(launch: Launch) -> list[str]:
    own = [json.dumps({"name": one.name, "path": str(one.folder)}) for one in launch.adapters]
    given = launch.options.get("lora-modules") or []
    return own + [_scalar("lora-modules", one) for one in (given if isinstance(given, list) else [given])]


def _lora(launch: Launch, modules: list[str]) -> dict[str, Any]:
    """Room for every adapter in one batch, up to the largest rank among them."""
    rank = max((one.rank for one in launch.adapters), default=16)
    room = next((allowed for allowed in RANKS if allowed >= max(rank, 16)), None)
    if room is None:
        raise InputError(
            "AdapterInvalid",
            f"an adapter has rank {rank}, and vLLM serves ranks up to {RANKS[-1]}",
            "tune with a smaller r",
        )
    wanted = {"enable-lora": True, "max-loras": len(modules), "max-lora-rank": room}
    made = {key: value for key, value in wanted.items() if key not in launch.options}
    if not launch.has_cuda:
        # On a CPU, vLLM takes what is in the last place for a request without an adapter: it has to stay empty.
        made["max-loras"] = max(len(modules) + 1, _whole(launch.options.get("max-loras")))
    return {**made, "lora-modules": modules}


def _whole(value: Any) -> int:
    return int(value) if str(value).isdecimal() else 0


def _words(key: str, value: Any) -> Iterator[str]:
    """One flag as words. True is the flag alone, False its negation, null leaves it out."""
    if not key or key.startswith("-") or any(letter.isspace() or letter == "=" for letter in key):
        raise _bad(key, "is not the name of a flag", "write the flag's name without dashes before it")
    if value is None:
        return
    if isinstance(value, bool):
        yield f"--{key}" if value else f"--no-{key}"
    elif isinstance(value, list) and key in REPEATED:
        yield from (f"--{key}={_scalar(key, one)}" for one in value)
    elif isinstance(value, list) and key not in JSON_LISTS:
        yield from _several(key, value)
    elif isinstance(value, (list, dict)):
        yield f"--{key}={_json(key, value)}"
    else:
        yield f"--{key}={value}"


def _several(key: str, values: list[Any]) -> Iterator[str]:
    words = [_scalar(key, one) for one in values]
    if not words:
        raise _bad(key, "is an empty list", "give it values, or leave it out")
    wrong = next((word for word in words if word.startswith("-")), None)
    if len(words) == 1:
        yield f"--{key}={words[0]}"
    elif wrong is not None:
        raise _bad(key, f"holds {wrong!r}, which would be read as a flag", "leave out the dash")
    else:
        yield from (f"--{key}", *words)


def _scalar(key: str, value: Any) -> str:
    return _json(key, value) if isinstance(value, (dict, list)) else str(value)


def _json(key: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:
        raise _bad(key, f"cannot be written as JSON: {error}", "write numbers, texts, lists and maps") from error


def _bad(key: str, what: str, hint: str) -> InputError:
    return InputError("ConfigInvalid", f"inference_config.yaml: vllm.{key} {what}", hint)
