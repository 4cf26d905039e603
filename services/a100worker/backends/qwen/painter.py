"""One run of the pipeline: reads the prompt, takes the steps and tells each, and stops inside a step when cancelled."""

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
from services.a100worker.backends.qwen.memory.oom_fallback import Rung
from services.a100worker.backends.qwen.schedules import Schedules
from shared.errors import BadInput, EngineFailed, JobCancelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.a100worker.backend import StepReporter
    from services.a100worker.cancel_flag import CancelFlag
    from services.a100worker.settings import Settings
    from shared.image_codec import Rgb

LEAST_STEPS = 2  # with one, the schedule divides nought by nought
_GLANCE = 0.375  # the text encoder sees the pictures so much smaller than the VAE does
_MANY_STEPS = 12  # fewer leave a step cache nothing to skip
_LEAST_SIDE_PX = 20  # of a condition; the library rounds it to 32, but below 16 to nought


@dataclass(frozen=True, slots=True)
class Order:
    """What to paint. The pictures are all of one size, whose sides are multiples of 16."""

    pictures: Sequence[Rgb]
    prompt: str
    negative_prompt: str
    steps: int
    guidance: float  # up to 1: none, and half the work
    seed: int
    adapters: list[str]
    flow_match: bool = False
    inner: tuple[int, int] | None = None  # width and height without the padding right and below: what a preview shows

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.pictures[0].shape[:2]
        return width, height


class Painter:
    """Owns the pipeline. Not for two threads: the library keeps a run's state in it."""

    def __init__(self, pipeline: Any, settings: Settings, *, encoder_leaves: bool = False) -> None:
        self.pipeline = pipeline
        self.adapters = Switch(pipeline)
        self._settings = settings
        self._encoder_leaves = encoder_leaves
        self._device = torch.device(settings.qwen_device)
        self._schedules = Schedules(pipeline.scheduler, settings)
        self._colours = LatentColours.fitted(pipeline)
        self._cancelled: CancelFlag | None = None
        self._reader_home, self._reader_is_away = pipeline.text_encoder.device, False
        # A hook would break the graph of a compiled block, so there a cancel waits for the end of a forward.
        watched = [pipeline.transformer] if settings.qwen_compile else pipeline.transformer.transformer_blocks
        for module in watched:
            module.register_forward_pre_hook(self._look)

    def _look(self, *_: object) -> None:
        if self._cancelled is not None and self._cancelled.is_set():
            raise JobCancelled

    def paint(self, order: Order, step: StepReporter, rung: Rung = Rung.GROUND) -> Rgb:
        """Return a picture of the order's size; the same order gives the same picture.

        Whatever it raises (BadInput, JobCancelled, EngineFailed, torch.OutOfMemoryError), the pipeline is as before.
        """
        self._measure(order.prompt, order.negative_prompt)
        with torch.no_grad(), self._prepared(order, step, rung):
            step(0, order.steps, "Reading the prompt")
            texts = self._read(order)
            if self._encoder_leaves or rung >= Rung.OFFLOAD:
                self._reader_is_away = True
                self.pipeline.text_encoder.to("cpu")
            images = self._run(order, texts, step)
            if step.cancel_flag.is_set():
                raise JobCancelled
            return np.asarray(images[0], np.uint8)

    def _measure(self, *texts: str) -> None:
        """Raise BadInput for more words than the model was made for; from about 3,500 tokens on it breaks down."""
        most = self.pipeline.tokenizer_max_length
        if any(len(self.pipeline.tokenizer(text)["input_ids"]) > most for text in texts):
            raise BadInput(f"The prompt is too long: the model reads {most:,} tokens, about {most // 100 * 70} words.")

    @contextmanager
    def _prepared(self, order: Order, step: StepReporter, rung: Rung) -> Iterator[None]:
        self._cancelled = step.cancel_flag
        pipeline = self.pipeline
        with ExitStack() as undo:
            undo.callback(setattr, self, "_cancelled", None)
            undo.push(self._clean_up)
            self._enter_cache(order, undo)
            if rung >= Rung.TILES:
                pipeline.vae.enable_tiling()
                undo.callback(pipeline.vae.disable_tiling)
            self._bring_reader_back()
            self._size_conditions(order, rung)
            pipeline.scheduler = self._schedules.of(flow_match=order.flow_match)
            self.adapters.to(order.adapters)
            yield

    def _bring_reader_back(self) -> None:
        """Put the text encoder where it belongs: here, and not when the job that sent it away fails.

        There the exception still holds what filled the card, and half of the encoder would stay outside.
        """
        if self._reader_is_away:
            self.pipeline.text_encoder.to(self._reader_home)
            self._reader_is_away = False

    def _clean_up(self, kind: type[BaseException] | None, *_: object) -> None:
        """Do what the pipeline does at its own end only.

        Caches hold a piece of the run that broke off, and would refuse a picture of another size.
        """
        if kind is not None:
            self.pipeline.maybe_free_model_hooks()

    def _size_conditions(self, order: Order, rung: Rung) -> None:
        """Set how large the model sees the pictures; the library has no argument for it, and looks here in each run."""
        area = self._settings.qwen_condition_px**2 * rung.area
        least = _LEAST_SIDE_PX**2 * max(order.size) / min(order.size)
        library.VAE_IMAGE_SIZE = max(area, least)
        library.CONDITION_IMAGE_SIZE = max(area * _GLANCE**2, least)

    def _enter_cache(self, order: Order, undo: ExitStack) -> None:
        if self._settings.qwen_cache == "off" or order.steps < _MANY_STEPS:
            return
        first_block = self._settings.qwen_cache == "first-block"
        threshold = self._settings.qwen_cache_threshold
        config = FirstBlockCacheConfig(threshold=threshold) if first_block else TaylorSeerCacheConfig()
        self.pipeline.transformer.enable_cache(config)
        undo.callback(self.pipeline.transformer.disable_cache)

    def _read(self, order: Order) -> dict[str, Any]:
        """Encode prompt and negative prompt together with what the text encoder sees of the pictures."""
        pipeline = self.pipeline
        width, height = order.size
        seen_width, seen_height = library.calculate_dimensions(library.CONDITION_IMAGE_SIZE, width / height)
        seen = [
            pipeline.image_processor.resize(Image.fromarray(one), seen_height, seen_width) for one in order.pictures
        ]
        encode = partial(pipeline.encode_prompt, image=seen, device=self._device)  # looking for it takes milliseconds
        embeds, mask = encode(order.prompt)
        texts = {"prompt_embeds": embeds, "prompt_embeds_mask": mask}
        if order.guidance > 1:
            embeds, mask = encode(order.negative_prompt)
            texts |= {"negative_prompt_embeds": embeds, "negative_prompt_embeds_mask": mask}
        return texts

    def _run(self, order: Order, texts: dict[str, Any], step: StepReporter) -> Any:
        width, height = order.size
        noise = self._noise(order, texts["prompt_embeds"])
        return self.pipeline(
            image=[Image.fromarray(picture) for picture in order.pictures],
            **texts,
            true_cfg_scale=order.guidance,
            height=height,
            width=width,
            num_inference_steps=order.steps,
            latents=noise,
            callback_on_step_end=_Teller(order, step, noise, self._colours),
        ).images

    def _noise(self, order: Order, like: torch.Tensor) -> torch.Tensor:
        """Draw on the CPU, so that a seed means the same on every card."""
        pipeline = self.pipeline
        channels = pipeline.transformer.config.in_channels // 4
        width, height = (side // pipeline.vae_scale_factor for side in order.size)
        generator = torch.Generator("cpu").manual_seed(order.seed)
        noise = randn_tensor((1, 1, channels, height, width), generator=generator, device=like.device, dtype=like.dtype)
        return pipeline._pack_latents(noise, 1, channels, height, width)  # noqa: SLF001


class _Teller:
    """Called by the pipeline after each step."""

    def __init__(self, order: Order, step: StepReporter, noise: torch.Tensor, colours: LatentColours) -> None:
        self._order = order
        self._step = step
        self._before = noise
        self._colours = colours

    def __call__(self, pipeline: Any, index: int, _: object, tensors: dict[str, Any]) -> dict[str, Any]:
        """Tell the step. Raises JobCancelled, and EngineFailed when the model has lost its way."""
        done, total = index + 1, self._order.steps
        before, now = self._before, tensors["latents"]
        self._before = now
        if done == total and not torch.isfinite(now).all():
            raise EngineFailed("The model gave no picture, but numbers without a meaning.")

        def preview() -> Rgb:
            sigma, after = pipeline.scheduler.sigmas[index], pipeline.scheduler.sigmas[index + 1]
            clean = now - after * (now - before) / (after - sigma)  # where the last step was heading
            width, height = (max(1, round(side / LATENT_PX)) for side in self._order.inner or self._order.size)
            return self._colours.picture(clean, self._order.size)[:height, :width]

        self._step(done, total, "Developing the picture" if done == total else None, preview)
        return {}
