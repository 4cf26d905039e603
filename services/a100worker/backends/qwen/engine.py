"""The engine for GPUs: Qwen-Image-Edit in bfloat16, one pipeline for all tasks, with a recipe for each."""

from __future__ import annotations

import gc
import logging
import threading
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from services.a100worker.backend import Edit, Engine, Provenance
from services.a100worker.backends.lama.fill import HoleFiller
from services.a100worker.backends.qwen import assembly, warm_up
from services.a100worker.backends.qwen.adapters import files as adapter_files
from services.a100worker.backends.qwen.card import is_lost
from services.a100worker.backends.qwen.memory.known_sizes import KnownSizes
from services.a100worker.backends.qwen.memory.oom_fallback import Fallback, is_shortage
from services.a100worker.backends.qwen.painter import LEAST_STEPS, Painter, PaintRequest
from services.a100worker.backends.qwen.preflight import look
from services.a100worker.backends.qwen.scenes import labels
from services.a100worker.backends.qwen.scenes.balance import BalanceScene
from services.a100worker.backends.qwen.scenes.insertion import InsertionScene, outline_of
from services.a100worker.backends.qwen.scenes.removal import RemovalScene
from services.a100worker.backends.qwen.scenes.scene import draw
from services.a100worker.backends.qwen.windowed import paint_windows
from services.a100worker.imaging import placement, windows
from services.a100worker.imaging.placement import Box
from services.a100worker.imaging.recolouring import recolour
from services.a100worker.imaging.windows import Window
from shared.errors import CardLost, EngineFailed
from shared.messages import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from services.a100worker.backend import (
        EditInputs,
        InsertionInputs,
        PhaseReporter,
        RemovalInputs,
        StepReporter,
        WhiteBalanceInputs,
    )
    from services.a100worker.backends.qwen.preflight import Preflight
    from services.a100worker.backends.qwen.scenes.scene import Scene
    from services.a100worker.settings import Settings
    from shared.image_codec import Grey, Rgb

_LITTLE_CONTEXT = "The mask covers nearly the whole photo: there is little left to continue from"
log = logging.getLogger(__name__)


class Qwen(Engine):
    """Edits with a diffusion model. One job at a time: a second waits for the first."""

    name = "qwen"

    def __init__(
        self,
        settings: Settings,
        loading: PhaseReporter,
        ready: Preflight | None = None,
        make_part: assembly.MakePart = assembly.read_part,
        free_memory: Callable[[], object] | None = None,
    ) -> None:
        """Load all parts. Raises ConfigError for the first missing or wrong part.

        A benchmark passes its own `ready` and `make_part`, to run without a volume. `free_memory` returns the GPU's
        unused memory; on a lost GPU it raises RuntimeError.
        """
        ready = look(settings) if ready is None else ready
        self._free_memory = _free_memory if free_memory is None else free_memory
        self.settings = settings = ready.settings
        self._lock = threading.Lock()
        self.recipes = ready.recipes
        self.adapters = {adapter.name: adapter.sha256 for adapter in ready.adapters}
        self.known_sizes = KnownSizes()
        self.facts = {"model": ready.checkpoint.base, "device": settings.qwen_device}
        self.facts |= {f"recipe of {task}": name for task, name in ready.recipe_names.items()}
        self.obeys = _list_obeyed(self.recipes, guided=settings.qwen_lightning == "off")
        self.filler = HoleFiller(settings.model_dir, settings.qwen_device)
        with _on(settings.qwen_device):
            pipeline, fit = assembly.load(settings, ready.checkpoint, ready.adapters, loading, make_part)
            self.painter = Painter(pipeline, settings, offload_encoder=fit.offload_encoder)
            loading("warming up")
            requests = [self._warm_up_request(task, shape) for task, shape in warm_up.cases(settings, self.recipes)]
            warm_up.choose_attention(self.painter, settings, requests)

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Replace the marked region by a continuation of its surroundings."""
        planned = windows.plan(windows.boxes_of_marked(job.mask), job.image.shape)
        return self._run(partial(self._remove, job, step, planned), _size(Task.REMOVAL, planned), step)

    def insert(self, job: InsertionInputs, step: StepReporter) -> Edit:
        """Paint the reference's object into the marked region."""
        planned = windows.plan(placement.find_regions(job.mask), job.image.shape)
        return self._run(partial(self._insert, job, step, planned), _size(Task.INSERTION, planned), step)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """Paint the photo in balanced colours, and give these to the photo."""
        size = Task.WHITE_BALANCE, job.image.shape
        return self._run(partial(self._balance, job, step), size, step)

    def close(self) -> None:
        """Free the GPU's memory and end the child process. A lost GPU raises nothing."""
        self.filler.close()
        del self.painter
        with suppress(RuntimeError):
            self._free_memory()

    def _run(self, attempt: Callable[[Fallback], Edit], size: Hashable, step: StepReporter) -> Edit:
        """Run one job. After BadInput, EngineFailed or JobCancelled the next job can run; after CardLost no job can."""
        with self._lock, _reporting_loss(), _on(self.settings.qwen_device):
            for fallback in self.known_sizes.fallbacks(size):
                step(0, 0, fallback.sentence)
                try:
                    edit = attempt(fallback)
                except RuntimeError as error:
                    if not is_shortage(error):
                        raise
                    log.warning("qwen.out-of-memory", extra={"fallback": fallback.name})
                else:
                    self.known_sizes.record(size, fallback)
                    return edit
                # Only here: the exception is gone, and with it the stack frames that hold the tensors.
                self._free_memory()
        raise EngineFailed("The GPU's memory is too small for this job. Try a smaller mask or image.")

    def _remove(self, job: RemovalInputs, step: StepReporter, planned: list[Window], fallback: Fallback) -> Edit:
        fill, saliency, area = self.filler.of(job, step), job.fetch_saliency(), self._area(fallback)
        # The photo outside the region does not change, so stock weights get no fill there.
        wide = job.mask_tool == "brush" and self.recipes[Task.REMOVAL].adapter
        painted = paint_windows(
            job.image,
            planned,
            lambda image, window: RemovalScene(job, image, window, area, fill, saliency, wide=wide),
            partial(self._paint, Task.REMOVAL, job, fallback),
            job.seed,
            step,
            _LITTLE_CONTEXT if windows.leaves_no_context(job.mask) else None,
        )
        labelled = labels.of_removal(job, painted.windows) if job.debug else None
        return self._finish(Task.REMOVAL, painted.image, painted.region, painted.windows, labelled)

    def _insert(self, job: InsertionInputs, step: StepReporter, planned: list[Window], fallback: Fallback) -> Edit:
        outline, area = outline_of(job), self._area(fallback)
        painted = paint_windows(
            job.image,
            planned,
            lambda image, window: InsertionScene(job, image, window, area, outline),
            partial(self._paint, Task.INSERTION, job, fallback),
            job.seed,
            step,
            _LITTLE_CONTEXT if windows.leaves_no_context(job.mask) else None,
        )
        labelled = labels.of_insertion(job, painted.windows, outline) if job.debug else None
        return self._finish(Task.INSERTION, painted.image, painted.region, painted.windows, labelled)

    def _balance(self, job: WhiteBalanceInputs, step: StepReporter, fallback: Fallback) -> Edit:
        scene = BalanceScene(job.image, self._area(fallback))
        answer = self._paint(Task.WHITE_BALANCE, job, fallback, scene, job.seed, step)
        before, after = scene.frame.crop(scene.photo), scene.frame.crop(answer)
        image, aligned = recolour(job.image, before, after, job.strength)
        if not aligned:
            log.info("qwen.only-colours-used")
        whole = Window(Box(0, 0, job.image.shape[1], job.image.shape[0]), ())
        labelled = labels.of_balance(job.image, scene) if job.debug else None
        return self._finish(Task.WHITE_BALANCE, image, None, [(whole, scene)], labelled)

    def _finish(
        self,
        task: Task,
        image: Rgb,
        region: Grey | None,
        painted: Sequence[tuple[Window, Scene]],
        labelled: labels.Labelled | None,
    ) -> Edit:
        """Return the edit; `labelled` is None for a job without debugging."""
        shown = () if labelled is None else labels.of_shown([scene for _, scene in painted], self.recipes[task].views)
        boxes = tuple(window.box for window, _ in painted)
        adapters = {name: self.adapters[name] for name in self._adapters_for(task)}
        provenance = Provenance(self.recipes[task].name, boxes, adapters)
        return Edit(image, region, (*(labelled or ()), *shown), provenance, by_network=True)

    def _paint(
        self, task: Task, job: EditInputs, fallback: Fallback, scene: Scene, seed: int, step: StepReporter
    ) -> Rgb:
        return self.painter.paint(self._request(task, job, scene, seed), step, fallback)

    def _request(self, task: Task, job: EditInputs, scene: Scene, seed: int) -> PaintRequest:
        lightning, recipe = self.settings.qwen_lightning, self.recipes[task]
        paintable = None
        if scene.region is not None:
            paintable = scene.frame.enter_mask(np.where(scene.region > 0, np.uint8(255), np.uint8(0)))
        return PaintRequest(
            images=[draw(scene, view) for view in recipe.views],
            prompt=recipe.prompt(_escape(job.prompt)),
            negative_prompt=_escape(job.negative_prompt or "") or " ",
            steps=max(LEAST_STEPS, job.steps) if lightning == "off" else int(lightning),
            guidance=job.guidance if lightning == "off" else 1.0,  # distilled into the adapter
            seed=seed,
            adapters=self._adapters_for(task),
            flow_match=job.flow_match,
            inner=scene.frame.inner,
            photo=None if paintable is None else scene.photo,
            paintable=paintable,
        )

    def _area(self, fallback: Fallback) -> int:
        return round(self.settings.qwen_work_px**2 * fallback.area_share)

    def _adapters_for(self, task: Task) -> list[str]:
        names = [task.value] if self.recipes[task].adapter else []
        return [name for name in (*names, adapter_files.LIGHTNING) if name in self.adapters]

    def _warm_up_request(self, task: Task, shape: tuple[int, int]) -> PaintRequest:
        grey, recipe = np.full((*shape, 3), 127, np.uint8), self.recipes[task]
        return PaintRequest(
            [grey] * len(recipe.views), recipe.words, " ", LEAST_STEPS, 2.0, 0, self._adapters_for(task)
        )


def _list_obeyed(tasks: Iterable[Task], *, guided: bool) -> dict[Task, frozenset[str]]:
    """Return the parameters of these tasks. A distilled model has its own number of steps and no guidance."""
    drawing = frozenset({"prompt", "seed"}) | (frozenset({"negative_prompt", "steps", "guidance"}) if guided else set())
    return dict.fromkeys(tasks, drawing) | {Task.WHITE_BALANCE: drawing | {"strength"}}


def _size(task: Task, planned: list[Window]) -> Hashable:
    return task, tuple((window.box.width, window.box.height) for window in planned)


def _escape(words: str) -> str:
    """Break up words that the tokenizer would read as commands or as a further image."""
    return words.replace("<|", "< |").strip()


def _on(device: str) -> AbstractContextManager[object]:
    """Select the GPU for this thread, because the libraries use the current GPU."""
    return torch.cuda.device(device) if device.startswith("cuda:") else nullcontext()


@contextmanager
def _reporting_loss() -> Iterator[None]:
    """Raise CardLost if an error anywhere in a job leaves the GPU unusable for this process."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        log.critical("qwen.card-lost", exc_info=True)
        raise CardLost from error


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
