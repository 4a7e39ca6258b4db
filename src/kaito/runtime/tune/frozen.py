"""Frozen linear layers through oneDNN where torch's own way is slow.

On a CPU torch gives matrices in float32 to MKL, which uses the widest instructions of Intel's processors only; oneDNN,
which torch brings along, uses those of any maker: on an AMD EPYC it is twice as fast, at the same precision and without
a copy of the weights. `benchmarks/tuning.py` shows what it brings. The operator is torch's own, though not a documented
one: torch is pinned, and where the operator is missing the layers stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kaito.runtime.tune.device import Device, cpu_maker

MAKERS = frozenset({"AuthenticAMD", "HygonGenuine"})


class _FrozenProduct(torch.autograd.Function):
    """`x W^T + b`, differentiable in x alone."""

    @staticmethod
    def forward(context: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        context.save_for_backward(weight)
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return made

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        if not context.needs_input_grad[0]:
            return None, None, None
        (weight,) = context.saved_tensors
        return torch.ops.mkldnn._linear_pointwise(gradients[0], weight.t(), None, "none", [], ""), None, None


class FrozenLinear(nn.Linear):
    """A linear layer whose weight is not trained. A layer is made one by its class; its weight stays where it is."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        is_frozen = not self.weight.requires_grad and (self.bias is None or not self.bias.requires_grad)
        if not is_frozen or rows.dtype != torch.float32 or rows.numel() == 0:
            return super().forward(rows)
        made: torch.Tensor = _FrozenProduct.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]  # torch
        return made


def speed_up_frozen_layers(model: nn.Module, device: Device) -> int:
    """Call it before the adapter is put on. Returns how many layers were changed."""
    if device.is_cuda or device.dtype is not torch.float32 or cpu_maker() not in MAKERS:
        return 0
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return 0
    layers = [one for one in model.modules() if type(one) is nn.Linear and one.weight.dtype == torch.float32]
    for layer in layers:
        layer.__class__ = FrozenLinear
        layer.requires_grad_(requires_grad=False)
    return len(layers)
