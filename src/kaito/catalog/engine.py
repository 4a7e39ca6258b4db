"""What vLLM has to be told of a model: parsers of its answers, tokenizer, cache format. Data: `data/engine.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from kaito.catalog.models import Model


def engine_flags(model: Model) -> dict[str, Any]:
    """Flags of `vllm serve`; those of the architecture, then those of the longest beginning of the name.

    Names are matched by the Hugging Face id's last part, so that an alias gets what its model gets.
    """
    data = _data()
    name = (model.huggingface.rpartition("/")[2] or model.name).lower()
    flags: dict[str, Any] = dict(data["architectures"].get(model.architecture, {}))
    for beginning in sorted(data["names"], key=len):
        if name.startswith(beginning):
            flags |= data["names"][beginning]
    given = {key: value for key, value in flags.items() if value is not None}
    return given | ({"enable-auto-tool-choice": True} if "tool-call-parser" in given else {})


@cache
def _data() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    text = resources.files("kaito.catalog").joinpath("data/engine.yaml").read_text()
    loaded: Mapping[str, Mapping[str, Mapping[str, Any]]] = yaml.safe_load(text)
    return loaded
