"""Runs the pipeline once: encodes the prompt, takes the steps, reports each, and stops inside a step when cancelled."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as library
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from services.a100worker.backends.qwen.adapters.switch import Switch
from services.a100worker.backends.qwen.latent_colours import LATENT_PX, LatentColours
from services.a100worker.backends.qwen.memory.oom_fallback import Fallback
from services.a100worker.backends.qwen.schedules import Schedules
from services.a100worker.backends.qwen.still_latents import StillLatents
from shared.errors import BadInput, EngineFailed, JobCancelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.a100worker.backend import StepReporter
    from services.a100worker.cancel_flag import CancelFlag
    from services.a100worker.settings import Settings
    from shared.image_codec import Grey, Rgb

LEAST_STEPS = 2  # with 1 step, the schedule divides zero by zero
_MANY_STEPS = 12  # with fewer steps, a step cache has none to skip


@dataclass(frozen=True, slots=True)
class PaintRequest:
    """One run of the pipeline. All images have one size, and its sides are multiples of 32."""

    images: Sequence[Rgb]
    prompt: str
    negative_prompt: str
    steps: int
    guidance: float  # at 1 or less there is no guidance, and each step runs the model once instead of twice
    seed: int
    adapters: list[str]
    flow_match: bool = False
    inner: tuple[int, int] | None = None  # width and height without the padding right and below, for previews
    photo: Rgb | None = None  # this photo stays unchanged outside `paintable`; None: everything may change
    paintable: Grey | None = None  # not 0 where the model may paint

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.images[0].shape[:2]
        return width, height


class Painter:
    """Owns the pipeline. Not for two threads: the library keeps a run's state in it."""

    def __init__(self, pipeline: Any, settings: Settings, *, offload_encoder: bool = False) -> None:
        self.pipeline = pipeline
        self.adapters = Switch(pipeline)
        self._settings = settings
        self._offload_encoder = offload_encoder
        self._device = torch.device(settings.qwen_device)
        self._schedules = Schedules(pipeline.scheduler, settings)
        self._colours = LatentColours.fit(pipeline)
        self._cancelled: CancelFlag | None = None
        self._encoder_device, self._encoder_on_cpu = pipeline.text_encoder.device, False
        # A hook would break the graph of a compiled block, so there a cancel waits for the end of a forward pass.
        watched = [pipeline.transformer] if settings.qwen_compile else pipeline.transformer.transformer_blocks
        for module in watched:
            module.register_forward_pre_hook(self._stop_if_cancelled)

    def _stop_if_cancelled(self, *_: object) -> None:
        if self._cancelled is not None and self._cancelled.is_set():
            raise JobCancelled

    def paint(self, request: PaintRequest, step: StepReporter, fallback: Fallback = Fallback.NONE) -> Rgb:
        """Return an image of the request's size; the same request gives the same image.

        After BadInput, JobCancelled, EngineFailed or torch.OutOfMemoryError the pipeline is as before.
        """
        self._refuse_long(request.prompt, request.negative_prompt)
        with torch.no_grad(), self._prepare(request, step, fallback):
            step(0, request.steps, "Reading the prompt")
            texts = self._encode(request)
            if self._offload_encoder or fallback >= Fallback.OFFLOAD:
                self._encoder_on_cpu = True
                self.pipeline.text_encoder.to("cpu")
            (pixels,) = self._run(request, texts, step)
            if step.cancel_flag.is_set():
                raise JobCancelled
            return _to_rgb(pixels, request)

    def _refuse_long(self, *texts: str) -> None:
        """Raise BadInput for a text above the model's limit; from about 3,500 tokens on it paints no usable image."""
        most = self.pipeline.tokenizer_max_length
        if any(len(self.pipeline.tokenizer(text)["input_ids"]) > most for text in texts):
            raise BadInput(f"The prompt is too long: the model reads {most:,} tokens, about {most // 100 * 70} words.")

    @contextmanager
    def _prepare(self, request: PaintRequest, step: StepReporter, fallback: Fallback) -> Iterator[None]:
        self._cancelled = step.cancel_flag
        pipeline = self.pipeline
        with ExitStack() as undo:
            undo.callback(setattr, self, "_cancelled", None)
            undo.push(self._clean_up)
            self._enter_cache(request, undo)
            if fallback >= Fallback.TILES:
                pipeline.vae.enable_tiling()
                undo.callback(pipeline.vae.disable_tiling)
            self._restore_encoder()
            width, height = request.size
            # Input images get the token grid of the painted one; the library has no argument for their size.
            library.VAE_IMAGE_SIZE = width * height
            pipeline.scheduler = self._schedules.of(flow_match=request.flow_match)
            self.adapters.to(request.adapters)
            yield

    def _restore_encoder(self) -> None:
        """Move the text encoder back at the next job, not when a job fails.

        At that moment the exception still holds the tensors that filled the GPU, and half of the encoder would stay
        on the CPU.
        """
        if self._encoder_on_cpu:
            self.pipeline.text_encoder.to(self._encoder_device)
            self._encoder_on_cpu = False

    def _clean_up(self, kind: type[BaseException] | None, *_: object) -> None:
        """Clear the caches after an aborted run: the pipeline clears them only after a complete one.

        Otherwise they hold a part of that run and fail for an image of another size.
        """
        if kind is not None:
            self.pipeline.maybe_free_model_hooks()

    def _enter_cache(self, request: PaintRequest, undo: ExitStack) -> None:
        if self._settings.qwen_cache == "off" or request.steps < _MANY_STEPS:
            return
        first_block = self._settings.qwen_cache == "first-block"
        threshold = self._settings.qwen_cache_threshold
        config = FirstBlockCacheConfig(threshold=threshold) if first_block else TaylorSeerCacheConfig()
        self.pipeline.transformer.enable_cache(config)
        undo.callback(self.pipeline.transformer.disable_cache)

    def _encode(self, request: PaintRequest) -> dict[str, Any]:
        """Encode prompt and negative prompt, each together with the small images that the text encoder gets."""
        pipeline = self.pipeline
        width, height = request.size
        seen_width, seen_height = library.calculate_dimensions(library.CONDITION_IMAGE_SIZE, width / height)
        seen = [
            pipeline.image_processor.resize(Image.fromarray(one), seen_height, seen_width) for one in request.images
        ]
        # Without the argument, diffusers searches for the device, which takes milliseconds.
        encode = partial(pipeline.encode_prompt, image=seen, device=self._device)
        embeds, mask = encode(request.prompt)
        texts = {"prompt_embeds": embeds, "prompt_embeds_mask": mask}
        if request.guidance > 1:
            embeds, mask = encode(request.negative_prompt)
            texts |= {"negative_prompt_embeds": embeds, "negative_prompt_embeds_mask": mask}
        return texts

    def _run(self, request: PaintRequest, texts: dict[str, Any], step: StepReporter) -> Any:
        width, height = request.size
        noise = self._draw_noise(request, texts["prompt_embeds"])
        still = None
        if request.photo is not None and request.paintable is not None:
            still = StillLatents.of(self.pipeline, request.photo, request.paintable, noise)
        return self.pipeline(
            image=[Image.fromarray(image) for image in request.images],
            **texts,
            true_cfg_scale=request.guidance,
            height=height,
            width=width,
            num_inference_steps=request.steps,
            latents=noise,
            output_type="pt",
            callback_on_step_end=_StepEnd(request, step, noise, self._colours, still),
        ).images

    def _draw_noise(self, request: PaintRequest, like: torch.Tensor) -> torch.Tensor:
        """Draw on the CPU, so that a seed means the same on every GPU."""
        pipeline = self.pipeline
        channels = pipeline.transformer.config.in_channels // 4
        width, height = (side // pipeline.vae_scale_factor for side in request.size)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        noise = randn_tensor((1, 1, channels, height, width), generator=generator, device=like.device, dtype=like.dtype)
        return pipeline._pack_latents(noise, 1, channels, height, width)  # noqa: SLF001


class _StepEnd:
    """Called by the pipeline after each step."""

    def __init__(
        self,
        request: PaintRequest,
        step: StepReporter,
        noise: torch.Tensor,
        colours: LatentColours,
        still: StillLatents | None,
    ) -> None:
        self._request = request
        self._step = step
        self._before = noise
        self._colours = colours
        self._still = still

    def __call__(self, pipeline: Any, index: int, _: object, tensors: dict[str, Any]) -> dict[str, Any]:
        """Report the step and keep the photo still. Raises JobCancelled, and EngineFailed for NaN in the last step."""
        done, total = index + 1, self._request.steps
        before, now = self._before, tensors["latents"]
        sigma, after = pipeline.scheduler.sigmas[index], pipeline.scheduler.sigmas[index + 1]
        if done == total:
            _refuse_nan(now)
        self._before = blended = now if self._still is None else self._still.blend(now, after)

        def preview() -> Rgb:
            clean = now - after * (now - before) / (after - sigma)  # the clean image that the last step predicts
            if self._still is not None:
                clean = self._still.blend(clean, torch.zeros_like(after))
            width, height = (max(1, round(side / LATENT_PX)) for side in self._request.inner or self._request.size)
            return self._colours.decode(clean, self._request.size)[:height, :width]

        self._step(done, total, "Developing the image" if done == total else None, preview)
        return {"latents": blended}


def _to_rgb(pixels: torch.Tensor, request: PaintRequest) -> Rgb:
    """Return pixels (3, height, width) of 0..1 as the library rounds them. Raises EngineFailed for NaN and black."""
    _refuse_nan(pixels)
    image = (pixels.float() * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    if not image.any() and any(shown.any() for shown in request.images):
        raise EngineFailed("The model returned a black image. Try again with another seed or prompt.")
    return np.ascontiguousarray(image)


def _refuse_nan(numbers: torch.Tensor) -> None:
    if not torch.isfinite(numbers).all():
        raise EngineFailed("The model returned NaN instead of an image. Try again with another seed or prompt.")
