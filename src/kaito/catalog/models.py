"""Models by preset name, alias or Hugging Face id. Data: `data/models.csv`, `data/presets.yaml`, `data/tuning/`."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec
import yaml

from kaito.catalog.architecture import Architecture
from kaito.catalog.attention import CacheGroup, parse_groups
from kaito.catalog.lora import adapter_width
from kaito.catalog.parameters import active_parameters

GATED_LICENCES = ("llama", "gemma")


class Figures(msgspec.Struct, frozen=True):
    """What the architecture says of memory. Bytes and counts; None where not known."""

    weights_bytes: int | None = None
    context_length: int | None = None
    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    kv_lora_rank: int | None = None
    qk_rope_head_dim: int | None = None
    quantization_bits: int | None = None
    vocabulary: int | None = None
    intermediate: int | None = None
    cache: tuple[CacheGroup, ...] = ()
    """What groups of layers keep of each token; empty where all layers keep alike, as the fields above say."""
    sliding_layers: int | None = None
    """Layers that keep KV for no more than `window` tokens."""
    window: int | None = None
    linear_layers: int | None = None
    """Layers that keep no KV: Mamba, linear attention, or a feed-forward part alone."""
    state_bytes: int | None = None
    """What the linear layers keep for one request, whatever its length; all of them together."""
    active_parameters: int | None = None
    """Of a mixture of experts, what one token goes through, as its publisher states it."""
    mixture: bool = False
    """A mixture of experts: adapters then go on attention only."""
    tied: bool = False
    """Whether the output layer is the embedding table, and no second one."""
    adapter_width: int | None = None
    """The sum of in + out over all linear layers; None: as the other figures say."""


def figures_of(shape: Architecture, weights_bytes: int | None) -> Figures:
    """The figures of a model whose `config.json` has been parsed; `weights_bytes` from the index of its weights."""
    latent = shape.latent
    return Figures(
        weights_bytes=weights_bytes,
        context_length=shape.context_length,
        hidden_size=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        kv_lora_rank=latent.kv_rank if latent else None,
        qk_rope_head_dim=latent.rope_dim if latent else None,
        quantization_bits=shape.quantization_bits,
        vocabulary=shape.vocabulary,
        intermediate=_inner_width(shape),
        cache=shape.cache,
        sliding_layers=shape.sliding_layers,
        window=shape.window,
        linear_layers=shape.linear_layers,
        state_bytes=shape.state_bytes,
        mixture=shape.experts is not None,
        tied=shape.tied,
        adapter_width=adapter_width(shape),
        active_parameters=max(0, active_parameters(shape)) or None if shape.experts else None,
    )


def _inner_width(shape: Architecture) -> int:
    """What one token's feed-forward part is wide at most: the dense layers', or its experts' together."""
    if shape.experts is None:
        return shape.intermediate
    experts = shape.experts.active * shape.experts.width + shape.experts.shared_width
    return max(experts, shape.intermediate if shape.experts.dense_layers else 0)


class Model(msgspec.Struct, frozen=True):
    """A model that can be served or tuned. Exactly one of `huggingface` and `builtin` says where the weights are."""

    name: str
    """The short, lower-case name: under it the model is served."""
    huggingface: str = ""
    revision: str = "main"
    """A commit where KAITO's list of supported models pins one, for what was tried is then what is run."""
    image: str = ""
    """The public image that holds the weights too, where Microsoft's registry has one."""
    builtin: str = ""
    architecture: str = ""
    licence: str = ""
    quantization: str = ""
    figures: Figures | None = None
    """None for a model that is not in the catalogue: its config has to be read first."""

    @property
    def is_gated(self) -> bool:
        """Whether its publisher lets nobody fetch the weights who has not agreed to a licence first."""
        return bool(self.huggingface) and self.licence.startswith(GATED_LICENCES)

    @property
    def source(self) -> dict[str, str]:
        """Where the weights come from, as the runtime's `KAITO_MODEL` wants it."""
        if self.builtin:
            return {"builtin": self.builtin}
        return {"huggingface": self.huggingface, "revision": self.revision}


def find_model(name: str) -> Model | None:
    """The model of a preset name, an alias, or any `org/model` id of Hugging Face; None for what is neither."""
    known = _models().get(name.lower())
    if known is not None:
        return known
    organisation, slash, model = name.partition("/")
    if slash and organisation and model and "/" not in model:
        return Model(name=model.lower(), huggingface=name)
    return None


def nearest_models(name: str, count: int = 3) -> list[str]:
    """Known names that look like `name`, the most alike first."""
    names = _models()
    return difflib.get_close_matches(name.lower(), names, n=count, cutoff=0.5)


def model_names() -> list[str]:
    """Every name that `find_model` knows, short names and ids."""
    return sorted(_models())


def base_tuning_config(method: str) -> str:
    """The default `training_config.yaml` for a method ("lora" or "qlora"), whatever the model. Raises ValueError."""
    if method not in ("lora", "qlora"):
        raise ValueError(f'tuning method "{method}" is not one of lora, qlora')
    return resources.files("kaito.catalog").joinpath("data/tuning", f"{method}.yaml").read_text()


def tuning_config(model: Model, method: str, base_text: str = "") -> str:
    """The default `training_config.yaml` for a method, with the model's own settings if it has any.

    `base_text` stands in for the suite's own defaults of the method. Raises ValueError for another method.
    """
    base = yaml.safe_load(base_text or base_tuning_config(method))
    folder = resources.files("kaito.catalog").joinpath("data/tuning")
    own = folder.joinpath(f"{model.name}.yaml")
    if own.is_file():
        sections = yaml.safe_load(own.read_text())["training_config"]
        for section, settings in sections.items():
            if section != "QuantizationConfig" or method == "qlora":
                base["training_config"].setdefault(section, {}).update(settings or {})
    text: str = yaml.safe_dump(base, sort_keys=False)
    return text


@cache
def _models() -> Mapping[str, Model]:
    data = resources.files("kaito.catalog").joinpath("data")
    by_id = {
        row["huggingface"].lower(): _parse(row)
        for row in csv.DictReader(data.joinpath("models.csv").read_text().splitlines())
    }
    presets = yaml.safe_load(data.joinpath("presets.yaml").read_text())
    models = {model.name: model for model in by_id.values()} | by_id
    models |= {name: _preset(name, entry) for name, entry in presets["presets"].items()}
    models |= {
        alias: msgspec.structs.replace(by_id[id_.lower()], name=alias) for alias, id_ in presets["aliases"].items()
    }
    return models


_NOT_NUMBERS = frozenset({"cache", "mixture", "tied"})


def _parse(row: Mapping[str, str]) -> Model:
    numbers = (name for name in Figures.__struct_fields__ if name not in _NOT_NUMBERS and row.get(name))
    figures: dict[str, Any] = {name: int(row[name]) for name in numbers}
    return Model(
        name=row["huggingface"].rpartition("/")[2].lower(),
        huggingface=row["huggingface"],
        revision=row["revision"] or "main",
        image=row["image"],
        architecture=row["architecture"],
        licence=row["licence"],
        quantization=row["quantization"],
        figures=Figures(
            **figures, cache=parse_groups(row["cache"]), mixture=row["mixture"] == "yes", tied=row["tied"] == "yes"
        ),
    )


def _preset(name: str, entry: Mapping[str, Any]) -> Model:
    return Model(
        name=name,
        builtin=entry["builtin"],
        architecture=entry["architecture"],
        licence=entry["licence"],
        figures=Figures(**entry["figures"]),
    )
