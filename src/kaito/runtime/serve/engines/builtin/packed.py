"""Linear layers whose weights lie as the CPU's matrix kernels read them.

torch hands a small batch of float32 rows to MKL, which on many CPUs reads the weights again for every few rows. oneDNN,
which torch brings along, packs the weights once and then takes eight rows in little more time than one; that is where
batching pays on a CPU. The packed copy takes the place of the weight, so that memory stays the same.

oneDNN's operators are torch's own, though not documented ones: torch is pinned, and where they are missing, or the CPU
has no kernels for the dtype, the layers stay as they were.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ByteProduct:
    """How this CPU multiplies bytes exactly: with packed weights or as they are, and weights up to `largest`."""

    is_packed: bool
    largest: int

    def pack(self, whole: torch.Tensor) -> Any:
        """`whole` [out, in], signed bytes, as `multiply` takes it."""
        return torch.ops.onednn.qlinear_prepack(whole, None) if self.is_packed else whole.T.contiguous()

    def multiply(self, rows: torch.Tensor, packed: Any, scales: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
        """`rows` [rows, in], unsigned bytes around 128, times the weights, each output times its scale: float32."""
        if not self.is_packed:
            return torch._int_mm((rows.to(torch.int16) - MIDDLE).to(torch.int8), packed) * scales
        made: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, MIDDLE, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return made

    def is_exact(self) -> bool:
        """Whether the largest products come out right."""
        weight = torch.full((16, 64), self.largest, dtype=torch.int8)
        weight[1::2] *= -1
        rows = torch.full((8, 64), 2 * MIDDLE - 1, dtype=torch.uint8)
        try:
            made = self.multiply(rows, self.pack(weight), torch.ones(16), torch.zeros(16, dtype=torch.int64))
        except (RuntimeError, AttributeError):  # not in this torch, or not for this CPU
            return False
        return torch.equal(made, (rows.float() - MIDDLE) @ weight.T.float())


@functools.cache
def byte_product() -> ByteProduct | None:
    """The best that this CPU has. Without instructions for products of bytes (VNNI), sums of two are kept in 16 bits
    and cut off there, so that weights may have 7 bits only. None where even these come out wrong."""
    ways = (ByteProduct(is_packed, largest) for largest in (LARGEST, LARGEST // 2) for is_packed in (True, False))
    return next((way for way in ways if way.is_exact()), None)


class Int8Linear(nn.Module):
    """A linear layer in whole numbers: weights with a scale for each output, rows with a scale for each.

    Each row has a scale of its own, so that a request's answer does not depend on who shares the step. Kernels multiply
    unsigned bytes with signed ones, so rows are moved up by 128, which is taken out again.
    """

    scales: torch.Tensor
    zeros: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, product: ByteProduct) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        scales = weight.detach().float().abs().amax(1).clamp(min=TINY) / product.largest
        whole = (weight.detach().float() / scales[:, None]).round().to(torch.int8)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(self.out_features, dtype=torch.int64))
        self._product = product
        self._weight: Any = product.pack(whole)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, self.in_features)
        scales = flat.abs().amax(1, keepdim=True).float().clamp_(min=TINY).div_(LARGEST)
        # Half is added because the conversion to bytes cuts off.
        whole = (flat / scales).add_(MIDDLE + 0.5).to(torch.uint8)
        made = self._product.multiply(whole, self._weight, self.scales, self.zeros).mul_(scales)
        if self.bias is not None:
            made += self.bias
        return made.to(rows.dtype).view(*rows.shape[:-1], self.out_features)


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


def pack_linear_layers(model: nn.Module, *, product: ByteProduct | None = None) -> int:
    """Replace the linear layers of `model` in place; returns how many. With `product` all but the head, which decides,
    become int8."""
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
        if product is not None and module is not head:
            setattr(model.get_submodule(parent), child, Int8Linear(weight, bias, product))
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
