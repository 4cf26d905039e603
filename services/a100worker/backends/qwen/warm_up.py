"""Paints the first images of a new process, to choose the kernels, compile, and test the model."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from services.a100worker.backends.qwen import assembly
from services.a100worker.cancel_flag import CancelFlag
from shared.errors import ArtMancerError, ConfigError
from shared.messages import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from services.a100worker.backend import Preview
    from services.a100worker.backends.qwen.painter import Painter, PaintRequest
    from services.a100worker.settings import Settings

_SHAPES = ((256, 256), (256, 320))  # height, width
_FAILURES = (ArtMancerError, RuntimeError, ValueError, ImportError, LookupError, TypeError)
log = logging.getLogger(__name__)


def cases(settings: Settings, tasks: Iterable[Task]) -> Iterator[tuple[Task, tuple[int, int]]]:
    """Return the given tasks and the shapes to paint. Blocks are compiled again for each adapter and a second shape."""
    if settings.qwen_compile:
        return itertools.product(tasks, _SHAPES)
    return iter([(Task.REMOVAL, _SHAPES[0])])


def choose_attention(painter: Painter, settings: Settings, requests: Sequence[PaintRequest]) -> None:
    """Use the fastest attention that paints all requests. Raises ConfigError with the cause if none does."""
    cause = "no kind of attention that was tried is available"
    for attention in assembly.attention_backends(settings):
        if not assembly.use_attention(painter.pipeline.transformer, attention):
            continue
        try:
            for request in requests:
                painter.paint(request, _NoReport())
        except _FAILURES as error:
            log.warning("qwen.warm-up-failed", exc_info=True)
            cause = _describe(error)
        else:
            log.info("qwen.attention", extra={"attention": attention})
            return
    raise ConfigError(f"The model was loaded, but its first image failed: {cause}.")


def _describe(error: Exception) -> str:
    if isinstance(error, ArtMancerError):
        return error.message.rstrip(".")
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}".rstrip(".") if lines else type(error).__name__


class _NoReport:
    """Ignores the steps of the warm-up."""

    def __init__(self) -> None:
        self.cancel_flag = CancelFlag()

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """Do nothing."""
