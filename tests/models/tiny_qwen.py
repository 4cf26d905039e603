"""A Qwen-Image-Edit checkpoint of 1 MB with random weights in the real layout: it runs, and its pictures are noise.

Its parts are the smallest that the libraries accept, but for the VAE: norms over a single channel would leave only
signs, and the picture would no longer depend on the seed. The facts that the pipeline relies on are real: the prompt's
template has 64 tokens, latents have 16 channels at an eighth of the size, the scheduler has the published values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from tests.models.seal import seal

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH = 32  # of the text encoder, and of the transformer: 2 heads of 16
_LAYERS = 2
_TEMPLATE_TOKENS = 64
_END, _TURN = "<|endoftext|>", "<|im_end|>"
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_BOXES = tuple(f"<|{what}_{side}|>" for what in ("object_ref", "box", "quad") for side in ("start", "end"))
_SPECIAL = (_END, "<|im_start|>", _TURN, *_BOXES, *_VISION)
_RANKS = {"removal": 4, "insertion": 8, "white-balance": 4}
LINEARS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *(f"{side}_mlp.net.{place}" for side in ("img", "txt") for place in ("0.proj", "2")),
)


def build(folder: Path, *, zero_cond_t: bool = False) -> None:
    """Write a checkpoint and three adapters; `zero_cond_t` makes it one of the layout of 2511 instead of 2509."""
    torch.manual_seed(7)
    tokenizer = make_tokenizer()
    pipeline = QwenImageEditPlusPipeline(
        scheduler=make_scheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=2, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
        ),
        text_encoder=_text_encoder(tokenizer),
        tokenizer=tokenizer,
        processor=make_processor(tokenizer),
        transformer=QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=64,
            out_channels=16,
            num_layers=_LAYERS,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=_WIDTH,
            axes_dims_rope=(4, 6, 6),
            zero_cond_t=zero_cond_t,
        ),
    )
    pipeline.to(torch.bfloat16)
    pipeline.save_pretrained(folder)
    for seed, (task, rank) in enumerate(_RANKS.items()):
        write_adapter(folder / "adapters" / f"{task}.safetensors", rank, seed)
    seal(folder)


def write_adapter(path: Path, rank: int, seed: int, prefix: str = "transformer.") -> None:
    """Write a LoRA adapter of all twelve linear layers of each block, strong enough to be seen."""
    path.parent.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Any] = {}
    for block in range(_LAYERS):
        for name in LINEARS:
            wide_in = 4 * _WIDTH if name.endswith("net.2") else _WIDTH
            wide_out = 4 * _WIDTH if name.endswith("net.0.proj") else _WIDTH
            key = f"{prefix}transformer_blocks.{block}.{name}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(rank, wide_in, generator=generator)
            tensors[f"{key}.lora_B.weight"] = torch.randn(wide_out, rank, generator=generator)
    save_file(tensors, path)


def make_tokenizer() -> Qwen2Tokenizer:
    """Train on the pipeline's own template, so that each of its words is one token, as with the real tokenizer."""
    template = _template()
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = trainers.BpeTrainer(vocab_size=1024, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    plain = template
    for token in _SPECIAL:
        plain = plain.replace(token, "\n")
    trained.train_from_iterator([plain, "Picture 1: Picture 2: Picture 3: "], words)
    learned = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        learned["vocab"],
        [tuple(merge) for merge in learned["merges"]],
        unk_token=_END,
        eos_token=_TURN,
        pad_token=_END,
        extra_special_tokens=[token for token in _SPECIAL if token not in {_END, _TURN}],
        model_max_length=131_072,
    )
    cut = len(tokenizer(template.partition("{}")[0])["input_ids"])
    assert cut == _TEMPLATE_TOKENS, cut
    return tokenizer


def _template() -> str:
    """Read the template where the pipeline has it."""
    bare = QwenImageEditPlusPipeline(None, None, None, None, None, None)
    return str(bare.prompt_template_encode)


def make_processor(tokenizer: Qwen2Tokenizer) -> Qwen2VLProcessor:
    """Return the published processor with that tokenizer."""
    images = Qwen2VLImageProcessor(
        min_pixels=56 * 56, max_pixels=28 * 28 * 1280, patch_size=14, merge_size=2, temporal_patch_size=2
    )
    return Qwen2VLProcessor(images, tokenizer, Qwen2VLVideoProcessor())


def token_ids(tokenizer: Qwen2Tokenizer) -> dict[str, dict[str, int]]:
    """Return the numbers of the special tokens: those for the configuration of the text, and of the whole model."""

    def number(token: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(token))

    ends = {"pad_token_id": number(_END), "bos_token_id": number(_END), "eos_token_id": number(_TURN)}
    marks = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    marks |= {f"vision_{side}_token_id": f"<|vision_{side}|>" for side in ("start", "end")}
    return {"text": ends, "model": {name: number(token) for name, token in marks.items()}}


def _text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    ids = token_ids(tokenizer)
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(tokenizer) + len(tokenizer) % 2,
                "hidden_size": _WIDTH,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "use_sliding_window": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
                **ids["text"],
            },
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "out_hidden_size": _WIDTH,
                "window_size": 112,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "fullatt_block_indexes": [1],
            },
            **ids["model"],
        )
    )


def make_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Return the published scheduler."""
    return FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=256,
        base_shift=0.5,
        max_image_seq_len=8192,
        max_shift=0.9,
        num_train_timesteps=1000,
        shift=1.0,
        shift_terminal=0.02,
        time_shift_type="exponential",
        use_dynamic_shifting=True,
    )
