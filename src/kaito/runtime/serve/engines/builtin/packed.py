"""Linear layers whose weights lie as the CPU's matrix kernels read them.

torch hands a small batch of float32 rows to MKL, which on many CPUs reads the weights again for every few rows. oneDNN,
which torch brings along, packs the weights once and then takes eight rows in little more time than one; that is where
batching pays on a CPU. The packed copy takes the place of the weight, so that memory stays the same.

oneDNN's operators are torch's own, though not documented ones: torch is pinned, and where they are missing, or the CPU
has no kernels for the dtype, the layers stay as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ROWS = 8  # the batch that the layout is chosen for; others run well with it too
LARGEST = 127  # of a signed byte
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

    Each row has a scale of its own, so that a request's answer does not depend on who shares the step.
    """

    whole: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        scales = weight.detach().float().abs().amax(1).clamp(min=TINY) / LARGEST
        whole = (weight.detach().float() / scales[:, None]).round().to(torch.int8)
        self.register_buffer("whole", whole.T.contiguous())
        self.register_buffer("scales", scales)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, self.in_features).float()
        scales = flat.abs().amax(1, keepdim=True).clamp_(min=TINY).div_(LARGEST)
        product = torch._int_mm((flat / scales).round_().to(torch.int8), self.whole)
        made = (product * scales).mul_(self.scales)
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
