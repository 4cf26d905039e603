"""From files to a pipeline on its device: part by part, so that an operator sees which one takes its time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from diffusers.hooks import apply_layerwise_casting
from diffusers.models import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from safetensors import SafetensorError

from services.a100worker.backends.qwen.adapters import files as lora
from services.a100worker.backends.qwen.memory.plans import Plan, chosen
from shared.errors import ConfigError

if TYPE_CHECKING:
    from services.a100worker.backend import PhaseReporter
    from services.a100worker.backends.qwen.adapters.files import Adapter
    from services.a100worker.backends.qwen.checkpoint import Checkpoint
    from services.a100worker.settings import Settings

_NEVER_SMALL = ("embed", "norm", "rotary", "lm_head", "lora_", "^proj_out$")
# What the libraries make of a file that is not what it should be.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
_FULL = "The card has not enough memory left for the model."
_PARTS: dict[str, Any] = {
    "transformer": QwenImageTransformer2DModel,
    "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration,
    "vae": AutoencoderKLQwenImage,
}
_REST: dict[str, Any] = {
    "scheduler": diffusers.FlowMatchEulerDiscreteScheduler,
    "tokenizer": transformers.Qwen2Tokenizer,
    "processor": transformers.Qwen2VLProcessor,
}
log = logging.getLogger(__name__)


def load(settings: Settings, checkpoint: Checkpoint, adapters: list[Adapter], loading: PhaseReporter) -> Any:
    """Return the pipeline, its adapters loaded and off. Raises ConfigError when it cannot be, or does not fit."""
    diffusers.utils.logging.set_verbosity_error()  # it warns of what we do on purpose, in each job
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    device, dtype = torch.device(settings.qwen_device), getattr(torch, settings.qwen_dtype)
    plan = chosen(settings.qwen_plan, checkpoint, sum(adapter.size for adapter in adapters), _free(device))
    log.info("qwen.plan", extra={"plan": plan.value, "device": str(device)})
    if settings.qwen_compile and plan is not Plan.RESIDENT:
        raise ConfigError(f"A100WORKER_QWEN_COMPILE needs the memory plan resident, not {plan}: set it to false.")
    # Straight to the card, unless it cannot hold what the files do. The library knows no such way to the CPU.
    straight = {"device_map": str(device)} if plan is Plan.RESIDENT and device.type == "cuda" else {}
    parts = {}
    for name, kind in _PARTS.items():
        loading(f"loading the {name.replace('_', ' ')}")
        parts[name] = _part(kind, checkpoint, name, dtype=dtype, use_safetensors=True, **straight).eval()
    rest = {name: _part(kind, checkpoint, name) for name, kind in _REST.items()}
    pipeline = diffusers.QwenImageEditPlusPipeline(**parts, **rest)
    pipeline.set_progress_bar_config(disable=True)
    loading("loading the adapters")
    try:
        lora.load(pipeline, adapters)
        if plan is Plan.CAST:
            _store_small(pipeline, dtype)
        _place(pipeline, plan, device)
    except torch.OutOfMemoryError as error:
        raise ConfigError(_FULL) from error
    if settings.qwen_compile:
        pipeline.transformer.compile_repeated_blocks(fullgraph=True, dynamic=True)  # at its first pass
    return pipeline


def _part(kind: Any, checkpoint: Checkpoint, name: str, **how: Any) -> Any:
    try:
        return kind.from_pretrained(checkpoint.folder / name, local_files_only=True, **how)
    except torch.OutOfMemoryError as error:
        raise ConfigError(_FULL) from error
    except _UNREADABLE as error:
        raise ConfigError(f"The model part qwen/{name} cannot be loaded; is it damaged?") from error


def _free(device: torch.device) -> int | None:
    """Return the free bytes of a card. Raises ConfigError where there is none."""
    if device.type == "cpu":
        return None
    if not torch.cuda.is_available():
        raise ConfigError("There is no CUDA device; with A100WORKER_QWEN_DEVICE=cpu the engine runs, slowly, without.")
    return int(torch.cuda.mem_get_info(device)[0])


def _store_small(pipeline: Any, dtype: torch.dtype) -> None:
    """Keep the weights of the two large parts in eight bits; each layer's are widened while it computes.

    The adapters, loaded before, stay as they are: PEFT computes with them where no hook would widen them.
    """
    for part in (pipeline.transformer, pipeline.text_encoder):
        apply_layerwise_casting(
            part,
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=dtype,
            skip_modules_pattern=_NEVER_SMALL,
        )


def _place(pipeline: Any, plan: Plan, device: torch.device) -> None:
    if plan is not Plan.OFFLOAD:
        pipeline.to(device)
        return
    pipeline.vae.to(device)
    for part, how in ((pipeline.transformer, "block_level"), (pipeline.text_encoder, "leaf_level")):
        diffusers.hooks.apply_group_offloading(
            part,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type=how,
            num_blocks_per_group=1,
            use_stream=device.type == "cuda",
        )


def attentions(settings: Settings) -> list[str]:
    """Return the ways to compute attention that are worth a try on this machine, the fastest first."""
    if settings.qwen_attention != "auto":
        return [settings.qwen_attention]
    if settings.qwen_device == "cpu":
        return ["native"]
    hopper = torch.cuda.get_device_capability(settings.qwen_device)[0] == 9  # noqa: PLR2004
    return ["_flash_3", "flash", "native"] if hopper else ["flash", "native"]


def attend(transformer: Any, name: str) -> bool:
    """Compute attention in that way from now on; False where the machine lacks what it needs."""
    try:
        transformer.set_attention_backend(name)
    except (ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        log.info("qwen.attention-lacking", extra={"attention": name, "reason": type(error).__name__})
        return False
    return True
