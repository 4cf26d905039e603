"""Weights in eight bits: how near the wide ones they are, and that adapters can be loaded on top."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.hooks import apply_layerwise_casting
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from services.a100worker.backends.qwen.memory.int8 import Int8Linear, store_small

CPU = torch.device("cpu")
WIDE = {"img_in", "txt_in", "proj_out", "norm_out.linear"}


@pytest.fixture(scope="module")
def transformer() -> Any:
    """Twelve blocks of normally distributed weights, in the type that the worker computes in."""
    torch.manual_seed(0)
    model = QwenImageTransformer2DModel(
        patch_size=2, in_channels=64, out_channels=16, num_layers=12, attention_head_dim=64, num_attention_heads=4,
        joint_attention_dim=64, axes_dims_rope=(16, 24, 24),
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.005)
    return model.to(torch.bfloat16).eval()


def run(model: Any) -> torch.Tensor:
    """One pass over random latents and a random prompt."""
    generator = torch.Generator().manual_seed(1)
    latents, prompt = (torch.randn(1, length, 64, generator=generator).to(torch.bfloat16) for length in (64, 16))
    with torch.no_grad():
        (passed,) = model(
            hidden_states=latents, encoder_hidden_states=prompt, encoder_hidden_states_mask=torch.ones(1, 16),
            timestep=torch.tensor([0.5]).to(torch.bfloat16), img_shapes=[[(1, 8, 8)]], return_dict=False,
        )  # fmt: skip
    return passed.float()


def psnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Peak signal to noise ratio in dB."""
    return 10 * math.log10(float(reference.abs().max() ** 2 / (reference - other).square().mean()))


def test_eight_bits_with_a_scale_a_row_are_near_the_wide_weights(transformer: Any) -> None:
    """At the same size, floats of eight bits without scales are 18 dB worse."""
    small, floats = copy.deepcopy(transformer), copy.deepcopy(transformer)
    store_small(small, CPU)
    apply_layerwise_casting(floats, storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    reference = run(transformer)

    assert psnr(reference, run(small)) >= 47.4
    assert psnr(reference, run(small)) >= psnr(reference, run(floats)) + 10


def test_only_matrices_in_the_blocks_are_small(transformer: Any) -> None:
    """Layers outside, biases and norms stay wide."""
    small = copy.deepcopy(transformer)
    store_small(small, CPU)

    stored = {name for name, module in small.named_modules() if isinstance(module, Int8Linear)}
    assert stored == {
        name for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("transformer_blocks.")
    }  # fmt: skip
    assert not stored & WIDE
    types = {name: parameter.dtype for name, parameter in small.named_parameters()}
    assert {name for name, kind in types.items() if kind == torch.int8} == {f"{name}.weight" for name in stored}
    assert small.dtype == torch.bfloat16


def test_a_row_of_zeros_stays_one() -> None:
    """It has no largest number to divide by."""
    linear = nn.Linear(8, 3)
    with torch.no_grad():
        linear.weight[1] = 0

    stored = Int8Linear.of(linear, CPU)

    inputs = torch.randn(5, 8)
    assert torch.isfinite(stored(inputs)).all()
    assert torch.equal(stored(inputs)[:, 1], linear.bias[1].expand(5))
    assert torch.allclose(stored(inputs), linear(inputs), atol=0.02)


@pytest.mark.parametrize("small_first", [True, False], ids=["then an adapter", "after an adapter"])
def test_an_adapter_counts_as_on_wide_weights(small_first: bool) -> None:  # noqa: FBT001
    """PEFT accepts the layer as a target, and one that it has wrapped already can be made small."""
    torch.manual_seed(5)
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.ModuleDict({"to_q": nn.Linear(16, 16)})])})
    config = LoraConfig(r=4, target_modules=["to_q"], init_lora_weights=False)
    wide = inject_adapter_in_model(config, copy.deepcopy(model), "task")
    small = copy.deepcopy(model)
    if small_first:
        store_small(small, CPU)
    small = inject_adapter_in_model(config, small, "task")
    if not small_first:
        store_small(small, CPU)
    small.load_state_dict({key: value for key, value in wide.state_dict().items() if "lora" in key}, strict=False)
    layer, reference = small["blocks"][0]["to_q"], wide["blocks"][0]["to_q"]

    inputs = torch.randn(5, 16)

    assert isinstance(layer.base_layer, Int8Linear)
    assert torch.allclose(layer(inputs), reference(inputs), atol=0.05)
    assert not torch.allclose(layer(inputs), layer.base_layer(inputs), atol=0.05)
