"""Linear layers that store their weights in eight bits, with one scale for each row."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from services.a100worker.backends.qwen.checkpoint import IN_BLOCKS

_ADAPTER = re.compile(r"\.lora_")
_LARGEST = 127


class Int8Linear(nn.Linear):  # type: ignore[misc]  # torch is not there where types are checked
    """A linear layer with an int8 weight, a scale for each row, and a wide bias.

    PEFT accepts it as a target because it is an nn.Linear. Integers up to 127 are exact in bfloat16, so the product is
    computed with them and scaled afterwards; one layer at a time is widened. On a CPU `torch._weight_int8pack_mm` has
    the same error and takes 2.6 times as long for 1,024 tokens; on CUDA the two were not compared.
    """

    @classmethod
    def of(cls, linear: Any, device: torch.device) -> Int8Linear:
        """Return a layer on `device` with the rounded weights of a wide one; the largest of each row becomes 127."""
        with torch.device("meta"):
            layer = cls(linear.in_features, linear.out_features, bias=False, dtype=linear.weight.dtype)
        weight = linear.weight.detach().to(device).float()
        scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
        rounded = (weight / scale[:, None]).round_().to(torch.int8)
        layer.weight = nn.Parameter(rounded, requires_grad=False)
        layer.register_buffer("scale", scale.to(linear.weight.dtype))
        layer.bias = linear.bias
        return layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Compute in the type of the inputs."""
        outputs = functional.linear(inputs, self.weight.to(inputs.dtype)).mul_(self.scale)
        return outputs if self.bias is None else outputs.add_(self.bias)


def store_small(part: Any, device: torch.device) -> None:
    """Replace the linear layers in the blocks of a model; adapters that were loaded before stay as they are.

    Wide weights come to the device one at a time, where rounding them is fast.
    """
    layers = [
        (name, module)
        for name, module in part.named_modules()
        if type(module) is nn.Linear and IN_BLOCKS.search(name) and not _ADAPTER.search(name)
    ]
    for name, module in layers:
        parent, _, own = name.rpartition(".")
        setattr(part.get_submodule(parent), own, Int8Linear.of(module, device))
