"""The engine at its published sizes with random weights: seconds and gigabytes are real, the pictures are noise.

Nothing is read from a volume. 20.4 + 8.3 + 0.13 billion numbers are drawn on the card in seconds, and adapters of rank
32 are written to a scratch folder, from where the engine's own loader reads them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from services.a100worker.backends.qwen.adapters.files import Adapter
from services.a100worker.backends.qwen.checkpoint import BASES, IN_BLOCKS, Checkpoint, Part
from services.a100worker.backends.qwen.engine import Qwen
from services.a100worker.backends.qwen.preflight import Preflight
from services.a100worker.backends.qwen.recipes.choice import choose
from shared.messages import Task
from shared.volumes import digest
from tests.models import tiny_qwen

if TYPE_CHECKING:
    from pathlib import Path

    from services.a100worker.backend import PhaseReporter
    from services.a100worker.settings import Settings

_RANK = 32
_LIGHTNING = "lightning"
# https://huggingface.co/Qwen/Qwen-Image-Edit-2511, files config.json of its folders.
PUBLISHED: dict[str, dict[str, Any]] = {
    "transformer": {
        "patch_size": 2, "in_channels": 64, "out_channels": 16, "num_layers": 60, "attention_head_dim": 128,
        "num_attention_heads": 24, "joint_attention_dim": 3584, "axes_dims_rope": (16, 56, 56), "zero_cond_t": True,
    },
    "text": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000, "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "vae": {},
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "transformer": {
        **PUBLISHED["transformer"], "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 32, "axes_dims_rope": (4, 6, 6),
    },
    "text": {
        **PUBLISHED["text"], "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    },
    "vision": {
        **PUBLISHED["vision"], "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
        "out_hidden_size": 32, "fullatt_block_indexes": [1],
    },
    "vae": {"base_dim": 2, "num_res_blocks": 1},
}  # fmt: skip


class RandomQwen(Qwen):
    """The engine, with parts that are drawn instead of read."""

    def __init__(
        self, settings: Settings, loading: PhaseReporter, scratch: Path, sizes: dict[str, dict[str, Any]] = PUBLISHED
    ) -> None:
        parts = RandomParts(sizes, torch.device("cpu" if settings.qwen_plan == "offload" else settings.qwen_device))
        adapters = [_write_adapter(scratch, task, sizes["transformer"]) for task in Task]
        lightning = "off" if settings.qwen_lightning == "auto" else settings.qwen_lightning
        ready = Preflight(
            settings.model_copy(update={"qwen_lightning": lightning}),
            parts.checkpoint(scratch),
            adapters,
            choose({adapter.name: adapter.facts for adapter in adapters}, settings.qwen_removal_recipe),
        )
        super().__init__(settings, loading, ready, parts.make)


class RandomParts:
    """Makes the parts of a pipeline from their configurations."""

    def __init__(self, sizes: dict[str, dict[str, Any]], device: torch.device) -> None:
        self._sizes = sizes
        self._device = device
        self._tokenizer = tiny_qwen.make_tokenizer()

    def checkpoint(self, folder: Path) -> Checkpoint:
        """Count the numbers of all parts, without memory for them."""
        made = {name: self._module(name, torch.device("meta")) for name in ("transformer", "text_encoder", "vae")}
        linear = {
            name: (module.out_features, module.in_features)
            for name, module in made["transformer"].named_modules()
            if isinstance(module, nn.Linear)
        }
        blocks = self._sizes["transformer"]["num_layers"]
        counts = {name: _count(module) for name, module in made.items()}
        return Checkpoint(folder, BASES[1], blocks, **counts, layers=linear)

    def make(self, kind: Any, checkpoint: Checkpoint, name: str, **how: Any) -> Any:
        """Return a part as `assembly.read_part` does."""
        del kind, checkpoint
        match name:
            case "scheduler":
                return tiny_qwen.make_scheduler()
            case "tokenizer":
                return self._tokenizer
            case "processor":
                return tiny_qwen.make_processor(self._tokenizer)
        module = self._module(name, self._device)
        if name == "transformer":  # the default initialisation grows over 60 blocks; the published weights do not
            with torch.no_grad():
                for weight in module.parameters():
                    if weight.dim() == 2:
                        weight.mul_(0.5)
        return module.to(how["dtype"])

    def _module(self, name: str, device: torch.device) -> Any:
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(device):
                if name == "transformer":
                    return diffusers.QwenImageTransformer2DModel(**self._sizes["transformer"])
                if name == "vae":
                    return diffusers.AutoencoderKLQwenImage(**self._sizes["vae"])
                return transformers.Qwen2_5_VLForConditionalGeneration(self._text_config())
        finally:
            torch.set_default_dtype(torch.float32)

    def _text_config(self) -> Any:
        ids = tiny_qwen.token_ids(self._tokenizer)
        return transformers.Qwen2_5_VLConfig(
            text_config=self._sizes["text"] | ids["text"], vision_config=self._sizes["vision"], **ids["model"]
        )


def _count(module: Any) -> Part:
    numbers = sum(weight.numel() for weight in module.parameters())
    in_blocks = sum(
        weight.numel() for name, weight in module.named_parameters() if weight.dim() == 2 and IN_BLOCKS.search(name)
    )
    return Part(numbers, in_blocks)


def _write_adapter(scratch: Path, task: Task, sizes: dict[str, Any]) -> Adapter:
    """Write a LoRA file of all linear layers of the blocks."""
    width, random = sizes["attention_head_dim"] * sizes["num_attention_heads"], torch.Generator().manual_seed(len(task))
    tensors = {}
    for block in range(sizes["num_layers"]):
        for name in tiny_qwen.LINEARS:
            inner = 4 * width if name.endswith("net.2") else width
            outer = 4 * width if name.endswith("net.0.proj") else width
            for half, shape in (("lora_A", (_RANK, inner)), ("lora_B", (outer, _RANK))):
                values = torch.randn(math.prod(shape), generator=random).view(shape) * 0.01
                tensors[f"transformer.transformer_blocks.{block}.{name}.{half}.weight"] = values.bfloat16()
    path = scratch / f"{task}.safetensors"
    save_file(tensors, path)
    return Adapter(task.value, path, digest(path))
