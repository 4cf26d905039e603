"""LoRA files of every trainer: loaded by us they change each layer by the same numbers as loaded by the library."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import QwenImageEditPlusPipeline, QwenImageTransformer2DModel
from safetensors.torch import save_file

from services.a100worker.backends.qwen.adapters import loading
from services.a100worker.backends.qwen.adapters.files import MAX_RANK, Adapter, check
from shared.errors import ConfigError
from shared.safetensors_header import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tensors = dict[str, torch.Tensor]
BLOCKS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "to_add_out")),
    *(f"{side}_{part}" for side in ("img", "txt") for part in ("mlp.net.0.proj", "mlp.net.2", "mod.1")),
)
OUTER = ("img_in", "txt_in", "proj_out", "norm_out.linear")
LAYERS = (*(f"transformer_blocks.{block}.{layer}" for block in (0, 1) for layer in BLOCKS), *OUTER)
RANK = 4


@pytest.fixture(scope="session")
def transformer() -> Any:
    """Return a tiny transformer of single precision, so that rounding hides nothing."""
    torch.manual_seed(3)
    return QwenImageTransformer2DModel(
        patch_size=2, in_channels=64, out_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


@pytest.fixture
def pipeline(transformer: Any) -> Any:
    """Return a pipeline of which only the transformer is there."""
    return QwenImageEditPlusPipeline(None, None, None, None, None, copy.deepcopy(transformer))


def shapes(transformer: Any) -> dict[str, tuple[int, int]]:
    """Its linear layers: outputs and inputs."""
    return {name: tuple(transformer.get_submodule(name).weight.shape) for name in LAYERS}


def pairs(transformer: Any, rank: int = RANK) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return a random pair of matrices for each layer."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: (torch.randn(rank, wide_in, generator=generator), torch.randn(wide_out, rank, generator=generator))
        for name, (wide_out, wide_in) in shapes(transformer).items()
    }


def naming(
    form: str, *, down: str = "lora_A", alpha: float | None = None, flat: bool = False
) -> Callable[[Any], Tensors]:
    """Write the pairs under the names of a trainer; `form` has a gap for the layer, and alpha stands beside it."""
    up = down.replace("_A", "_B").replace("down", "up")

    def write(matrices: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> Tensors:
        tensors: Tensors = {}
        for layer, (first, second) in matrices.items():
            stem = form.format(layer.replace(".", "_") if flat else layer)
            tensors |= {f"{stem}.{down}.weight": first, f"{stem}.{up}.weight": second}
            if alpha is not None:
                tensors[f"{stem}.alpha"] = torch.tensor(alpha)
        return tensors

    return write


OF_ALL = {"transformer.r": RANK, "transformer.lora_alpha": 16, "transformer.target_modules": list(LAYERS)}
DIFFUSERS = naming("transformer.{}")
# Its names, its metadata, its strength, and whether the library reads it by itself.
FORMS: dict[str, tuple[Callable[[Any], Tensors], dict[str, object], float, bool]] = {
    "diffusers": (DIFFUSERS, {}, 1, True),
    "diffusers, alpha in the metadata": (DIFFUSERS, OF_ALL, 4, True),
    "diffusers and alphas": (naming("transformer.{}", alpha=2), {}, 0.5, False),
    "diffusers before PEFT": (naming("transformer.{}", down="lora.down"), {}, 1, True),
    "PEFT": (naming("base_model.model.{}"), {}, 1, False),
    "PEFT with an adapter's own name": (naming("base_model.model.{}", down="lora_A.remover_v2"), {}, 1, False),
    "PEFT with an adapter's name (DiffSynth, ModelScope)": (naming("{}", down="lora_A.default"), {}, 1, True),
    "kohya, musubi": (naming("lora_unet_{}", down="lora_down", alpha=2, flat=True), {}, 0.5, True),
    "ai-toolkit": (naming("diffusion_model.{}"), {}, 1, True),
    "ai-toolkit, down and up with alphas": (naming("diffusion_model.{}", down="lora_down", alpha=16), {}, 4, True),
    "lightx2v": (naming("{}", down="lora_down", alpha=8), {}, 2, True),
    "bare A and B": (naming("{}"), {}, 1, False),
    "bare A and B with alphas": (naming("{}", alpha=16), {}, 4, True),
    "bare down and up": (naming("{}", down="lora_down"), {}, 1, False),
}


def changes(transformer: Any, adapter: str) -> dict[str, torch.Tensor]:
    """By layer the matrix that an adapter adds to the weights."""
    found = {}
    for name, module in transformer.named_modules():
        if adapter in getattr(module, "lora_A", ()):
            product = module.lora_B[adapter].weight @ module.lora_A[adapter].weight
            found[name] = product.detach() * module.scaling[adapter]
    return found


def load_ours(pipeline: Any, path: Path) -> dict[str, torch.Tensor]:
    """Check and load a file as the engine does; return the changes."""
    layers = shapes(pipeline.transformer)
    check(read_header(path), layers)
    loading.load(pipeline, [Adapter("white-balance", path)], layers)
    return changes(pipeline.transformer, "white_balance")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_any_trainer_changes_the_weights_as_by_the_library(pipeline: Any, tmp_path: Path, form: str) -> None:
    """To a millionth; where the library cannot read a form, the same numbers in its own form are the measure."""
    write, settings, strength, readable = FORMS[form]
    matrices = pairs(pipeline.transformer)
    metadata = {"format": "pt"} | ({"lora_adapter_metadata": json.dumps(settings)} if settings else {})
    save_file(write(matrices), tmp_path / "file.safetensors", metadata)
    bare = QwenImageEditPlusPipeline(None, None, None, None, None, copy.deepcopy(pipeline.transformer))
    if readable:
        bare.load_lora_weights(tmp_path, weight_name="file.safetensors", adapter_name="theirs")
    else:
        scaled = {name: (strength * first, second) for name, (first, second) in matrices.items()}
        bare.load_lora_weights(DIFFUSERS(scaled), adapter_name="theirs")

    ours, theirs = load_ours(pipeline, tmp_path / "file.safetensors"), changes(bare.transformer, "theirs")

    assert set(ours) == set(theirs) == set(LAYERS)
    for layer, (first, second) in matrices.items():
        assert torch.allclose(ours[layer], theirs[layer], rtol=1e-6, atol=1e-6), layer
        assert torch.allclose(ours[layer], strength * second @ first, rtol=1e-5, atol=1e-5), layer


@pytest.mark.parametrize("by_root", [False, True])
def test_layers_may_differ_in_strength_and_rank(pipeline: Any, tmp_path: Path, by_root: bool) -> None:  # noqa: FBT001
    """By patterns in the metadata; also where the strength falls with the root of the rank."""
    matrices = pairs(pipeline.transformer)
    matrices["transformer_blocks.0.attn.to_k"] = pairs(pipeline.transformer, 8)["transformer_blocks.0.attn.to_k"]
    alphas, ranks = {"attn.to_q": 2.0, "img_in": 8}, {"transformer_blocks.0.attn.to_k": 8}
    patterns = {"transformer.alpha_pattern": alphas, "transformer.rank_pattern": ranks}
    settings = json.dumps(OF_ALL | patterns | {"transformer.use_rslora": by_root})
    save_file(DIFFUSERS(matrices), tmp_path / "file.safetensors", {"lora_adapter_metadata": settings})
    bare = QwenImageEditPlusPipeline(None, None, None, None, None, copy.deepcopy(pipeline.transformer))
    bare.load_lora_weights(tmp_path, weight_name="file.safetensors", adapter_name="theirs")

    ours, theirs = load_ours(pipeline, tmp_path / "file.safetensors"), changes(bare.transformer, "theirs")

    for layer, change in theirs.items():
        assert torch.allclose(ours[layer], change, rtol=1e-6, atol=1e-5), layer


def test_the_largest_rank_is_loaded(pipeline: Any, tmp_path: Path) -> None:
    """Some Lightning files have it."""
    save_file(DIFFUSERS(pairs(pipeline.transformer, MAX_RANK)), tmp_path / "file.safetensors")

    assert set(load_ours(pipeline, tmp_path / "file.safetensors")) == set(LAYERS)


def test_adapters_have_the_type_of_the_model(transformer: Any, tmp_path: Path) -> None:
    """Single precision would cost twice the time and memory of each product."""
    narrow = copy.deepcopy(transformer).to(torch.bfloat16)
    pipeline = QwenImageEditPlusPipeline(None, None, None, None, None, narrow)
    save_file(naming("{}", alpha=2)(pairs(narrow)), tmp_path / "file.safetensors")

    load_ours(pipeline, tmp_path / "file.safetensors")

    types = {parameter.dtype for name, parameter in narrow.named_parameters() if "lora_" in name}
    assert types == {torch.bfloat16}


def test_a_layer_that_the_library_would_leave_out_is_an_error(pipeline: Any, tmp_path: Path) -> None:
    """It is named by the file alone: an edit would be weaker than the adapter, without a reason."""
    matrices = pairs(pipeline.transformer)
    matrices["txt_norm"] = torch.ones(4, 32), torch.ones(32, 4)
    save_file(DIFFUSERS(matrices), tmp_path / "file.safetensors")

    with pytest.raises(ConfigError, match="does not fit the model"):
        loading.load(pipeline, [Adapter("removal", tmp_path / "file.safetensors")], {*LAYERS, "txt_norm"})
