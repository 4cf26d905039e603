"""Loads the pipeline from files onto its device, part by part, so that an operator sees which part takes long."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from diffusers.models import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from safetensors import SafetensorError

from services.a100worker.backends.qwen.adapters import loading as lora
from services.a100worker.backends.qwen.memory.int8 import store_small
from services.a100worker.backends.qwen.memory.plans import Budget, Fit, Plan, check_capability, choose
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.a100worker.backend import PhaseReporter
    from services.a100worker.backends.qwen.adapters.files import Adapter
    from services.a100worker.backends.qwen.checkpoint import Checkpoint
    from services.a100worker.settings import Settings

    MakePart = Callable[..., Any]
    """Returns a part of the pipeline by its class, the checkpoint, its name and the options of `from_pretrained`."""

# The libraries raise any of these for a damaged file.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
_PIN_EXACTLY = "pinned_max_round_threshold_mb:1"
_FULL = (
    "The GPU does not have enough free memory for the model. Stop other programs on it, "
    "or set A100WORKER_QWEN_PLAN=offload."
)
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


def read_part(kind: Any, checkpoint: Checkpoint, name: str, **how: Any) -> Any:
    """Read one part of the pipeline from its folder. Raises ConfigError."""
    try:
        return kind.from_pretrained(checkpoint.folder / name, local_files_only=True, **how)
    except torch.OutOfMemoryError as error:
        raise ConfigError(_FULL) from error
    except _UNREADABLE as error:
        raise ConfigError(
            f"The model part qwen/{name} cannot be loaded; check it with `python -m services.models verify qwen`, "
            f"then run `pull qwen`."
        ) from error


def load(
    settings: Settings,
    checkpoint: Checkpoint,
    adapters: list[Adapter],
    loading: PhaseReporter,
    make_part: MakePart = read_part,
) -> tuple[Any, Fit]:
    """Return the pipeline with its adapters loaded and off, and its memory plan.

    Raises ConfigError when a file cannot be loaded or the model does not fit.
    """
    diffusers.utils.logging.set_verbosity_error()  # it warns in each job about intended settings
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    device, dtype = torch.device(settings.qwen_device), getattr(torch, settings.qwen_dtype)
    budget = Budget(checkpoint, sum(adapter.size for adapter in adapters), dtype.itemsize)
    fit = choose(settings.qwen_plan, budget, _free_bytes(device))
    plan = fit.plan
    log.info("qwen.plan", extra={"plan": plan.value, "device": str(device), "offload_encoder": fit.offload_encoder})
    if settings.qwen_compile and plan is not Plan.RESIDENT:
        raise ConfigError(f"A100WORKER_QWEN_COMPILE needs the memory plan resident, not {plan}: set it to false.")
    # Load directly onto the GPU if all weights fit; diffusers cannot do this for the CPU.
    straight = {"device_map": str(device)} if plan is Plan.RESIDENT and device.type == "cuda" else {}
    parts = {}
    for name, kind in _PARTS.items():
        loading(f"loading the {name.replace('_', ' ')}")
        parts[name] = make_part(kind, checkpoint, name, dtype=dtype, use_safetensors=True, **straight).eval()
    rest = {name: make_part(kind, checkpoint, name) for name, kind in _REST.items()}
    pipeline = diffusers.QwenImageEditPlusPipeline(**parts, **rest)
    pipeline.set_progress_bar_config(disable=True)
    loading("loading the adapters")
    try:
        lora.load(pipeline, adapters, checkpoint.layers)
        if plan is Plan.CAST:
            for part in (pipeline.transformer, pipeline.text_encoder):
                store_small(part, device)
        _place(pipeline, plan, device)
    except torch.OutOfMemoryError as error:
        raise ConfigError(_FULL) from error
    if settings.qwen_compile:
        pipeline.transformer.compile_repeated_blocks(fullgraph=True, dynamic=True)  # at its first pass
    return pipeline, fit


def _free_bytes(device: torch.device) -> int | None:
    """Return the free bytes of the GPU; None on the CPU. Raises ConfigError if there is no GPU, or only an old one."""
    if device.type == "cpu":
        return None
    if not torch.cuda.is_available():
        raise ConfigError("No CUDA GPU was found. Install the driver, or set A100WORKER_QWEN_DEVICE=cpu (slow).")
    check_capability(torch.cuda.get_device_capability(device))
    return int(torch.cuda.mem_get_info(device)[0])


def _place(pipeline: Any, plan: Plan, device: torch.device) -> None:
    if plan is not Plan.OFFLOAD:
        pipeline.to(device)
        return
    _pin_exact_sizes()
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


def _pin_exact_sizes() -> None:
    """Stop the allocator of pinned memory from rounding: weights of 58 GB would take 96 GB of powers of two."""
    settings = torch._C._accelerator_getAllocatorSettings()  # noqa: SLF001 (the only way after torch is imported)
    torch._C._accelerator_setAllocatorSettings(",".join(filter(None, (settings, _PIN_EXACTLY))))  # noqa: SLF001


def attention_backends(settings: Settings) -> list[str]:
    """Return the attention backends to try on this machine, the fastest first."""
    if settings.qwen_attention != "auto":
        return [settings.qwen_attention]
    if settings.qwen_device == "cpu":
        return ["native"]
    hopper = torch.cuda.get_device_capability(settings.qwen_device)[0] == 9  # noqa: PLR2004
    return ["_flash_3", "flash", "native"] if hopper else ["flash", "native"]


def use_attention(transformer: Any, name: str) -> bool:
    """Use an attention backend from now on; return False if the machine does not support it."""
    try:
        transformer.set_attention_backend(name)
    except (ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        log.info("qwen.attention-lacking", extra={"attention": name, "reason": type(error).__name__})
        return False
    return True
