"""The engine on a pipeline that only prepares, to read the token grids that a job gives to the transformer.

Engine, painter and the library's pipeline are real. The parts that would compute return zeros, and the transformer ends
the job when it is called, so that a reading takes milliseconds.
"""

from __future__ import annotations

from contextlib import closing, contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import QwenImageEditPlusPipeline

from services.a100worker.backend import edit
from services.a100worker.backends.lama.fill import HoleFiller
from services.a100worker.backends.qwen.engine import Qwen
from services.a100worker.backends.qwen.painter import Painter
from services.a100worker.backends.qwen.recipes.choice import choose
from shared.errors import JobCancelled
from shared.messages import Task
from shared.volumes import AdapterFacts
from tests.models import tiny_qwen
from tests.unit.services.a100worker.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from services.a100worker.backend import TaskInputs
    from services.a100worker.backends.lama.fill import Fill
    from services.a100worker.backends.qwen.painter import PaintRequest
    from services.a100worker.settings import Settings

    Grid = tuple[int, int, int]

_CHANNELS, _SIDE_PX, _TOKEN_PX = 16, 8, 16
_STOCK, _ADAPTERS = choose({}), choose({task.value: AdapterFacts() for task in Task})


class GridReader:
    """Reads the grids of jobs."""

    def __init__(self, engine: Qwen, transformer: _Transformer) -> None:
        self._engine = engine
        self._transformer = transformer

    def read(self, job: TaskInputs, *, adapters: bool) -> list[Grid]:
        """Return the grids of the painted picture and of each shown one, for the job's first window."""
        self._engine.recipes = _ADAPTERS if adapters else _STOCK
        try:
            edit(self._engine, job, Recorder())
        except JobCancelled:
            return self._transformer.grids
        raise AssertionError("The transformer was not called.")

    def shown(self, task: Task) -> int:
        """Return how many pictures the recipe of the last reading shows."""
        return len(self._engine.recipes[task].views)


@contextmanager
def open_reader(settings: Settings, work_px: int) -> Iterator[GridReader]:
    """Open a reader with a working area of `work_px` squared, on the tiny checkpoint of the settings."""
    transformer = _Transformer()
    pipeline = QwenImageEditPlusPipeline(
        tiny_qwen.make_scheduler(), _Vae(), _TextEncoder(), lambda _: {"input_ids": []}, None, transformer
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.image_processor = _Sizes()
    with closing(Qwen(settings, lambda _: None)) as engine:
        engine.settings = engine.settings.model_copy(update={"qwen_work_px": work_px})
        engine.adapters = {}
        engine.filler.close()
        engine.filler = _NoFill()
        engine.painter = _Painter(pipeline, engine.settings)
        yield GridReader(engine, transformer)


class _Painter(Painter):
    def _encode(self, request: PaintRequest) -> dict[str, Any]:
        del request
        return {"prompt_embeds": torch.zeros(1, 4, 8), "prompt_embeds_mask": torch.ones(1, 4, dtype=torch.long)}


class _NoFill(HoleFiller):
    """Leaves holes as they are: PatchMatch would take most of a reading's time."""

    def __init__(self) -> None:
        pass  # no files and no child process

    def of(self, *_: object) -> Fill:
        """Return a function that returns the image."""
        return lambda image, *_: image

    def close(self) -> None:
        """Do nothing."""


class _Sizes:
    """Makes tensors of the sizes that the pipeline wants, and leaves the resampling out."""

    def resize(self, image: Image.Image, height: int, width: int) -> Image.Image:
        """Return the image; only the text encoder would see it."""
        del height, width
        return image

    def preprocess(self, image: Image.Image, height: int, width: int) -> torch.Tensor:
        """Return zeros of that size."""
        del image
        return torch.zeros(1, 1, 1, 1).expand(1, 3, height, width)


class _Module(torch.nn.Module):  # type: ignore[misc]  # torch is not there where types are checked
    dtype, device = torch.float32, torch.device("cpu")


class _TextEncoder(_Module):
    """Is not called."""


class _Vae(_Module):
    """Encodes to zeros at an eighth of the size."""

    config = SimpleNamespace(latents_mean=[0.0] * _CHANNELS, latents_std=[1.0] * _CHANNELS, z_dim=_CHANNELS)
    temperal_downsample = (False, True, True)

    def encode(self, pixels: torch.Tensor) -> Any:
        """Return latents."""
        count, _, frames, height, width = pixels.shape
        return SimpleNamespace(latents=torch.zeros(count, _CHANNELS, frames, height // _SIDE_PX, width // _SIDE_PX))


class _Transformer(_Module):
    """Keeps the grids of a call, compares them with the tokens that it got, and ends the job."""

    config = SimpleNamespace(in_channels=4 * _CHANNELS, guidance_embeds=False)

    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = torch.nn.ModuleList()
        self.grids: list[Grid] = []

    def cache_context(self, name: str) -> Any:
        """Do nothing."""
        del name
        return nullcontext()

    def forward(self, hidden_states: torch.Tensor, img_shapes: list[list[Grid]], **_: object) -> Any:
        """See the class."""
        (self.grids,) = img_shapes
        assert sum(frames * down * across for frames, down, across in self.grids) == hidden_states.shape[1]
        raise JobCancelled
