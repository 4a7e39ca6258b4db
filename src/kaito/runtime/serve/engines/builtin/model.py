"""Loading the model and its tokenizer, and one step of it over several sequences.

At the end of loading, the replaced attention is checked against the model's own on a few tokens: an architecture that
keeps state of another kind (recurrent layers, shared keys) is refused in words, not served wrongly.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from kaito.runtime.errors import InputError
from kaito.runtime.limits import free_memory
from kaito.runtime.serve.engines.builtin.attention import Segment, SegmentedAttention
from kaito.runtime.serve.engines.builtin.kv import BlockPool, SequenceCache, blocks_for
from kaito.runtime.serve.engines.builtin.lora import Adapter, Group, LoraLayers
from kaito.runtime.serve.engines.builtin.packed import byte_product, can_pack, computes_bfloat16, pack_linear_layers
from kaito.runtime.serve.engines.builtin.pooling import Pooling, read_pooling
from kaito.runtime.serve.engines.builtin.scheduler import Share

_NUMBERS = itertools.count()
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = 256 << 20  # bytes of float32 weights up to which little of a step is spent on them, so that exactness is free
MEDIUM = 4 << 30  # up to which a CPU that has to convert bfloat16 computes in float32
FLOAT32_SHARE = 0.6  # of the memory that is free, for weights
BFLOAT16_MAJOR = 8  # compute capability of CUDA devices from which on they compute in bfloat16; V100 and T4 are below
CHECK_TOKENS = 12
INT8_TOLERANCE = 0.3
CHANGING_ROPE = ("dynamic", "longrope")  # rotate by the longest sequence of a step, which here is someone else's


@dataclass
class StepModel:
    """A causal language model that runs steps."""

    model: Any
    tokenizer: Any
    attention: SegmentedAttention
    lora: LoraLayers
    context_length: int
    ends: frozenset[int]
    parameters: int
    sampling_defaults: Mapping[str, float]
    pooling: Pooling | None

    @property
    def device(self) -> torch.device:
        found: torch.device = self.model.device
        return found

    @property
    def vocabulary_size(self) -> int:
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def like(self) -> torch.Tensor:
        """A parameter, for its device and dtype."""
        parameter: torch.Tensor = next(self.model.parameters())
        return parameter

    @torch.inference_mode()
    def run(self, shares: Sequence[Share]) -> torch.Tensor:
        """Run the tokens of all shares; returns the logits [results, vocabulary] of those that have one, in order."""
        ids: list[int] = []
        positions: list[int] = []
        segments: list[Segment] = []
        adapters: list[Adapter | None] = []
        for share in shares:
            segments.append(Segment(share.sequence.cache, len(ids), len(ids) + len(share.tokens)))
            ids.extend(share.tokens)
            positions.extend(range(share.position, share.position + len(share.tokens)))
            adapters.append(share.sequence.adapter)
        results = [segment.end - 1 for segment, share in zip(segments, shares, strict=True) if share.has_result]
        self.lora.groups = _groups([(a, s.start, s.end) for a, s in zip(adapters, segments, strict=True)])
        with_result = [a for a, share in zip(adapters, shares, strict=True) if share.has_result]
        self.lora.head_groups = _groups([(a, row, row + 1) for row, a in enumerate(with_result)])
        return self._forward(ids, positions, segments, results)

    def _forward(
        self, ids: list[int], positions: list[int], segments: list[Segment], results: list[int]
    ) -> torch.Tensor:
        self.attention.begin(segments, self.device)
        rows = torch.tensor(results or [len(ids) - 1], device=self.device)
        out = self.model(
            input_ids=torch.tensor([ids], device=self.device),
            position_ids=torch.tensor([positions], device=self.device),
            use_cache=False,
            logits_to_keep=rows,
        )
        self.attention.end()
        logits: torch.Tensor = out.logits[0]
        return logits[: len(results)]

    @property
    def embedding_size(self) -> int:
        return 0 if self.pooling is None else int(self.model.get_input_embeddings().embedding_dim)

    @torch.inference_mode()
    def embed(self, tokens: Sequence[int], adapter: Adapter | None) -> torch.Tensor:
        """The vector of one text, float32, on the CPU."""
        assert self.pooling is not None
        self.lora.groups = [] if adapter is None else [Group(adapter, 0, len(tokens))]
        self.attention.begin([Segment(None, 0, len(tokens))], self.device)
        out = self.model.base_model(
            input_ids=torch.tensor([list(tokens)], device=self.device),
            position_ids=torch.arange(len(tokens), device=self.device)[None],
            use_cache=False,
        )
        self.attention.end()
        return self.pooling(out.last_hidden_state[0]).cpu()

    @torch.inference_mode()
    def own_logits(self) -> torch.Tensor:
        """Logits after the tokens of `check`, by the model as it came: its own attention, its own layers."""
        self.model.set_attn_implementation("eager")
        out = self.model(input_ids=torch.tensor([self._check_ids()], device=self.device), use_cache=False)
        logits: torch.Tensor = out.logits[0, -1].float()
        return logits

    def _check_ids(self) -> list[int]:
        return [(7 * n + 3) % self.vocabulary_size for n in range(CHECK_TOKENS)]

    @torch.inference_mode()
    def check(self, expected: torch.Tensor, tolerance: float | None = None) -> None:
        """Compare with the model's own logits; `tolerance` is a part of the largest. Raises InputError."""
        ids = self._check_ids()
        self.model.set_attn_implementation(self.attention.name)
        cache, logits = SequenceCache(), expected
        half = CHECK_TOKENS // 2
        for span in (range(half), range(half, CHECK_TOKENS - 1), range(CHECK_TOKENS - 1, CHECK_TOKENS)):
            tokens = [ids[place] for place in span]
            segment = Segment(cache, 0, len(tokens))
            logits = self._forward(tokens, list(span), [segment], [len(tokens) - 1])[0].float()
        self.attention.pool.release(cache)
        tolerance = tolerance or (1e-3 if self.like.dtype == torch.float32 else 0.1)
        tolerance *= float(expected.abs().max().clamp(min=1.0))
        if not self.attention.pool.bytes_per_token or not torch.allclose(logits, expected, atol=tolerance, rtol=0):
            raise _unsupported(self.model, "its attention is not of a kind that this engine can split by request")


def load_step_model(folder: Path, dtype: str, max_length: int | None, *, int8: bool = False) -> StepModel:
    """Load what is in `folder` onto the GPU if there is one, else the CPU. Raises InputError."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            dtype=choose_dtype(dtype, config, folder, device),
            attn_implementation="eager",
        )
    except (OSError, ValueError, ImportError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            "ModelInvalid", f"the model in {folder} cannot be loaded: {first_line}", "check the weights"
        ) from error
    if int8 and device.type != "cpu":
        raise InputError(
            "ConfigInvalid", "int8 weights are for CPUs, and this pod has a GPU", "leave vllm.quantization out"
        )
    product = byte_product() if int8 else None
    if int8 and product is None:
        raise InputError(
            "ConfigInvalid", "this CPU does not multiply bytes exactly enough for int8", "leave vllm.quantization out"
        )
    model.to(device).eval()
    attention = SegmentedAttention(f"kaito_segmented_{next(_NUMBERS)}", BlockPool(blocks_for(CHECK_TOKENS)))
    attention.register()
    made = StepModel(
        model=model,
        tokenizer=tokenizer,
        attention=attention,
        lora=LoraLayers(model),
        context_length=_context_length(config, max_length),
        ends=_ends(model, tokenizer),
        parameters=int(model.num_parameters()),
        sampling_defaults=_sampling_defaults(folder),
        pooling=read_pooling(folder),
    )
    try:
        expected = made.own_logits()
        if device.type == "cpu":
            pack_linear_layers(model, product=product)
            made.lora = LoraLayers(model)
        made.check(expected, INT8_TOLERANCE if int8 else None)
    except (TypeError, AttributeError, ValueError, NotImplementedError, IndexError, RuntimeError, KeyError) as error:
        raise _unsupported(model, f"{type(error).__name__}: {error}") from error
    return made


def _groups(rows: list[tuple[Adapter | None, int, int]]) -> list[Group]:
    """Neighbours of the same adapter become one group."""
    groups: list[Group] = []
    for adapter, start, end in rows:
        if adapter is None:
            continue
        if groups and groups[-1].adapter is adapter and groups[-1].end == start:
            groups[-1] = Group(adapter, groups[-1].start, end)
        else:
            groups.append(Group(adapter, start, end))
    return groups


def choose_dtype(name: str, config: Any, folder: Path, device: torch.device) -> torch.dtype | str:
    """What to load the weights in `folder` as: what `name` says, and for `auto` what this device computes best. Raises
    ValueError for a name that is none."""
    if name in DTYPES:
        return DTYPES[name]
    if name in ("half", "float"):
        return torch.float16 if name == "half" else torch.float32
    if name not in ("auto", ""):
        raise ValueError(f"dtype {name!r} is not one of auto, {', '.join(DTYPES)}, half, float")
    if device.type == "cpu":
        stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        is_bfloat16 = getattr(config.get_text_config(), "dtype", None) == torch.bfloat16
        if 2 * stored > SMALL and is_bfloat16 and computes_bfloat16():
            return torch.bfloat16
        if 2 * stored <= MEDIUM:
            return torch.float32
        # Without instructions for bfloat16 the CPU computes it many times slower: float32 while it fits.
        fits = 2 * stored <= free_memory() * FLOAT32_SHARE
        return torch.float32 if fits and not can_pack(torch.bfloat16) else torch.bfloat16
    return "auto" if torch.cuda.get_device_capability(device)[0] >= BFLOAT16_MAJOR else torch.float16


def _context_length(config: Any, wanted: int | None) -> int:
    text = config.get_text_config()
    most = int(getattr(text, "max_position_embeddings", 0) or 2048)
    rope = getattr(text, "rope_parameters", None) or {}
    if isinstance(rope, dict) and rope.get("rope_type") in CHANGING_ROPE:
        original = rope.get("original_max_position_embeddings") or getattr(
            text, "original_max_position_embeddings", most
        )
        most = min(most, int(original or most))
    return min(most, wanted) if wanted else most


def _sampling_defaults(folder: Path) -> Mapping[str, float]:
    """What generation_config.json itself says; the library fills in values of its own that nobody meant."""
    try:
        given = json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    known = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return {key: given[key] for key in known if isinstance(given.get(key), (int, float))}


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    declared = getattr(model.generation_config, "eos_token_id", None)
    ends = set(declared) if isinstance(declared, list) else {declared}
    return frozenset(int(end) for end in {*ends, tokenizer.eos_token_id} if end is not None)


def _unsupported(model: Any, why: str) -> InputError:
    name = type(model).__name__
    return InputError(
        "ArchitectureUnsupported", f"the built-in engine cannot serve {name}: {why}", "use the vllm engine"
    )
