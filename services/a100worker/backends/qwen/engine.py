"""The engine for A100s: Qwen-Image-Edit in bfloat16, one pipeline for all tasks, an adapter for each."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, assert_never

import numpy as np
import torch

from services.a100worker.backend import Edit, Engine, InsertionInputs, RemovalInputs, WhiteBalanceInputs, blend
from services.a100worker.backends.lama.fill import HoleFiller
from services.a100worker.backends.qwen import assembly, conditions
from services.a100worker.backends.qwen.adapters import files as adapter_files
from services.a100worker.backends.qwen.frames import Frame
from services.a100worker.backends.qwen.memory.oom_fallback import Rung, is_shortage
from services.a100worker.backends.qwen.painter import LEAST_STEPS, Order, Painter
from services.a100worker.backends.qwen.preflight import look
from services.a100worker.cancel_flag import CancelFlag
from shared.errors import ArtMancerError, ConfigError, EngineFailed
from shared.messages import Task

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from services.a100worker.backend import EditInputs, PhaseReporter, Preview, StepReporter, TaskInputs
    from services.a100worker.backends.qwen.conditions import Conditions
    from services.a100worker.settings import Settings
    from shared.image_codec import Rgb

_WARM_UP = ((256, 256), (256, 320))  # height, width
_STRIP_PX = 256  # rows computed with at once: of 64 megapixels the floats would fill gigabytes
log = logging.getLogger(__name__)


class Qwen(Engine):
    """Edits with a diffusion model. One job at a time: a second waits for the first."""

    name = "qwen"

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        """Load all there is. Raises ConfigError with the one thing that is missing or wrong."""
        ready = look(settings)
        self._settings = settings = ready.settings
        self._lock = threading.Lock()
        self._adapters = {adapter.name for adapter in ready.adapters}
        self.filler = HoleFiller(settings.model_dir, settings.qwen_device)
        with _on(settings.qwen_device):
            pipeline, fit = assembly.load(settings, ready.checkpoint, ready.adapters, loading)
            self.painter = Painter(pipeline, settings, encoder_leaves=fit.encoder_leaves)
            loading("warming up")
            self._warm_up()

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Paint what the mask marks by its surroundings."""
        return self._edit(Task.REMOVAL, job, step)

    def insert(self, job: InsertionInputs, step: StepReporter) -> Edit:
        """Paint the reference's object where the mask marks."""
        return self._edit(Task.INSERTION, job, step)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """Paint the image in balanced colours."""
        return self._edit(Task.WHITE_BALANCE, job, step)

    def _edit(self, task: Task, job: TaskInputs, step: StepReporter) -> Edit:
        """Run one job. Whatever it raises (BadInput, EngineFailed, JobCancelled), the next job can run."""
        with self._lock, _on(self._settings.qwen_device):
            for rung in Rung:
                try:
                    return self._attempt(task, job, step, rung)
                except RuntimeError as error:
                    if is_shortage(error):
                        log.warning("qwen.out-of-memory", extra={"rung": rung.name})
                    elif isinstance(error, torch.AcceleratorError):
                        # After, say, an illegal access the card refuses this process everything: only a new one works.
                        log.critical("qwen.card-lost")
                        raise SystemExit(1) from error
                    else:
                        raise
                # Only here, where the exception and with it the frames that hold the tensors are gone.
                _free_memory()
        raise EngineFailed("The GPU's memory is too small for this picture.")

    def close(self) -> None:
        """Give back the card's memory and the child process."""
        self.filler.close()
        del self.painter
        _free_memory()

    def _attempt(self, task: Task, job: TaskInputs, step: StepReporter, rung: Rung) -> Edit:
        step(0, 0, rung.sentence)
        frame = Frame.of(job.image, round(self._settings.qwen_work_px**2 * rung.area))
        seen = self._conditions(job, frame, step)
        painted = self.painter.paint(self._order(task, job, seen, frame), step, rung)
        if seen.region is not None:
            return Edit(blend(job.image, frame.leave(painted), seen.region), seen.region, seen.labelled)
        strength = job.strength if isinstance(job, WhiteBalanceInputs) else 1.0
        return Edit(_recoloured(job.image, strength, frame, painted), None, seen.labelled)

    def _conditions(self, job: TaskInputs, frame: Frame, step: StepReporter) -> Conditions:
        match job:
            case RemovalInputs():
                return conditions.removal(job, frame, self.filler.of(job, step))
            case InsertionInputs():
                return conditions.insertion(job, frame)
            case WhiteBalanceInputs():
                return conditions.white_balance(job, frame)
        assert_never(job)

    def _order(self, task: Task, job: EditInputs, seen: Conditions, frame: Frame) -> Order:
        lightning = self._settings.qwen_lightning
        return Order(
            pictures=seen.pictures,
            prompt=_plain(job.prompt) or _default_words(task),
            negative_prompt=_plain(job.negative_prompt or "") or " ",
            steps=max(LEAST_STEPS, job.steps) if lightning == "off" else int(lightning),
            guidance=job.guidance if lightning == "off" else 1.0,  # distilled into the adapter
            seed=job.seed,
            adapters=self._chosen(task),
            flow_match=job.flow_match,
            inner=frame.inner,
        )

    def _chosen(self, task: Task) -> list[str]:
        return [name for name in (task.value, adapter_files.LIGHTNING) if name in self._adapters]

    def _warm_up(self) -> None:
        """Paint what nobody sees: what is slow the first time is slow now, and what does not work does not start."""
        transformer = self.painter.pipeline.transformer
        for attention in assembly.attentions(self._settings):
            if assembly.attend(transformer, attention) and self._paints():
                log.info("qwen.attention", extra={"attention": attention})
                return
        raise ConfigError("The model was loaded, but its first picture failed.")

    def _paints(self) -> bool:
        tasks, shapes = [Task.REMOVAL], [*_WARM_UP[:1]]
        if self._settings.qwen_compile:
            # Each adapter is compiled once, and sizes only count as such from the second on.
            tasks, shapes = list(Task), [*_WARM_UP]
        try:
            for task, shape in itertools.product(tasks, shapes):
                grey = np.full((*shape, 3), 127, np.uint8)
                order = Order([grey] * 3, _default_words(task), " ", LEAST_STEPS, 2.0, 0, self._chosen(task))
                self.painter.paint(order, _Nobody())
        except (ArtMancerError, RuntimeError, ValueError, ImportError):
            log.warning("qwen.warm-up-failed", exc_info=True)
            return False
        return True


class _Nobody:
    """Hears the steps of the warm-up."""

    def __init__(self) -> None:
        self.cancel_flag = CancelFlag()

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """Not even look."""


def _default_words(task: Task) -> str:
    """Return the words for a job without a prompt."""
    match task:
        case Task.REMOVAL:
            return "remove object"
        case Task.INSERTION:
            return "insert object"
        case Task.WHITE_BALANCE:
            return "white balance this image"
    assert_never(task)


def _plain(words: str) -> str:
    """Take the sense out of what the tokenizer would read as a command, or as one picture more."""
    return words.replace("<|", "< |").strip()


def _recoloured(image: Rgb, strength: float, frame: Frame, painted: Rgb) -> Rgb:
    """Return the upload in the new colours, as far as `strength` says.

    A picture that was made smaller gets the difference only, or it would come back blurred.
    """
    after, before = frame.leave(painted), image
    if frame.inner != (frame.width, frame.height):
        before = frame.leave(frame.enter(image))
    result = np.empty_like(image)
    for top in range(0, frame.height, _STRIP_PX):
        rows = slice(top, top + _STRIP_PX)
        change = after[rows].astype(np.float32) - before[rows]
        result[rows] = np.clip(np.rint(image[rows] + np.float32(strength) * change), 0, 255)
    return result


def _on(device: str) -> AbstractContextManager[object]:
    """Make a card other than the first this thread's own: the libraries' streams and their waits name none."""
    return torch.cuda.device(device) if device.startswith("cuda:") else nullcontext()


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
