"""Linear layers whose weights lie as the CPU's matrix kernels read them.

torch hands a small batch of float32 rows to MKL, which on many CPUs reads the weights again for every few rows. oneDNN,
which torch brings along, packs the weights once and then takes eight rows in little more time than one; that is where
batching pays on a CPU. The packed copy takes the place of the weight, so that memory stays the same.

oneDNN's operators are torch's own, though not documented ones: torch is pinned, and where they are missing, or the CPU
has no kernels for the dtype, the layers stay as they were.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

ROWS = 8  # the batch that the layout is chosen for; others run well with it too
LARGEST = 127  # of a signed byte
MIDDLE = 128  # where zero is in an unsigned byte
TINY = 1e-8
MAX_SHARED = 512 << 20  # bytes; a head that shares its weight with the embeddings is packed only if the copy is smaller


class PackedLinear(nn.Module):
    """Takes the place of a linear layer: `y = x W^T + b`, for inference only."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, "none", [], "")
        return made


class Int8Linear(nn.Module):
    """A linear layer in whole numbers: weights with a scale for each output, rows with a scale for each.

    Each row has a scale of its own, so that a request's answer does not depend on who shares the step. oneDNN's kernel
    multiplies unsigned bytes with signed ones, so rows are moved up by 128, which it takes out again.
    """

    scales: torch.Tensor
    zeros: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, is_packed: bool | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        scales = weight.detach().float().abs().amax(1).clamp(min=TINY) / LARGEST
        whole = (weight.detach().float() / scales[:, None]).round().to(torch.int8)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(self.out_features, dtype=torch.int64))
        self._is_packed = can_pack_bytes() if is_packed is None else is_packed
        self._weight: Any = torch.ops.onednn.qlinear_prepack(whole, None) if self._is_packed else whole.T.contiguous()
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, self.in_features)
        scales = flat.abs().amax(1, keepdim=True).float().clamp_(min=TINY).div_(LARGEST)
        # Half is added because the conversion to bytes cuts off.
        made = self._product((flat / scales).add_(MIDDLE + 0.5).to(torch.uint8)).mul_(scales)
        if self.bias is not None:
            made += self.bias
        return made.to(rows.dtype).view(*rows.shape[:-1], self.out_features)

    def _product(self, rows: torch.Tensor) -> torch.Tensor:
        """`rows` [rows, in], bytes around 128, times the weights: [rows, out], float32."""
        if not self._is_packed:
            return torch._int_mm((rows.to(torch.int16) - MIDDLE).to(torch.int8), self._weight) * self.scales
        return _multiply_bytes(rows, self._weight, self.scales, self.zeros)


def _multiply_bytes(rows: torch.Tensor, packed: Any, scales: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, MIDDLE, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return made


@functools.cache
def can_pack_bytes() -> bool:
    """Whether this torch and this CPU multiply bytes exactly: without instructions for it, sums of two products are
    kept in 16 bits and cut off there."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return False
    weight = torch.full((16, 64), LARGEST, dtype=torch.int8)
    rows = torch.full((8, 64), 2 * MIDDLE - 1, dtype=torch.uint8)
    exact = (2 * MIDDLE - 1 - MIDDLE) * LARGEST * weight.shape[1]
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        made = _multiply_bytes(rows, packed, torch.ones(16), torch.zeros(16, dtype=torch.int64))
    except RuntimeError:
        return False
    return bool((made == exact).all())


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch and this CPU have kernels for packed weights of `dtype`."""
    is_built: bool = torch._C._has_mkldnn
    if not is_built or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def computes_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16, so that they are faster than those of float32."""
    has = torch.cpu.get_capabilities()
    return can_pack(torch.bfloat16) and any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def linear_weight(module: nn.Module) -> torch.Tensor | None:
    """[out, in] of a linear layer, GPT-2's Conv1D among them, which keeps its weight the other way round."""
    if type(module) is nn.Linear:
        return module.weight
    weight = getattr(module, "weight", None)
    if type(module).__name__ == "Conv1D" and isinstance(weight, torch.Tensor):
        return weight.T
    return None


def pack_linear_layers(model: nn.Module, *, int8: bool = False) -> int:
    """Replace the linear layers of `model` in place; returns how many. With `int8` all but the head, which decides."""
    getter: Any = getattr(model, "get_input_embeddings", None)
    shared = getattr(getter() if getter else None, "weight", None)
    getter = getattr(model, "get_output_embeddings", None)
    head = getter() if getter else None
    count = 0
    for name, module in list(model.named_modules()):
        weight = linear_weight(module)
        if weight is None:
            continue
        bias = getattr(module, "bias", None)
        parent, _, child = name.rpartition(".")
        if int8 and module is not head:
            setattr(model.get_submodule(parent), child, Int8Linear(weight, bias))
            count += 1
            continue
        if not can_pack(weight.dtype):
            continue
        if getattr(module, "weight", None) is shared and weight.numel() * weight.element_size() > MAX_SHARED:
            continue
        setattr(model.get_submodule(parent), child, PackedLinear(weight, bias))
        count += 1
    for parameter in model.parameters():
        # What is left are views of the mapped file, which as a whole would stay in memory for them.
        parameter.data = parameter.data.clone()
    return count
