"""Loads the engine for each memory plan, for compiled blocks and for each kind of attention, and times some passes."""

from __future__ import annotations

import gc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from shared.errors import ConfigError
from tests.benchmarks.measuring import gpu_passes
from tests.benchmarks.measuring.gpu_passes import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from services.a100worker.backend import PhaseReporter
    from services.a100worker.backends.qwen.engine import Qwen
    from services.a100worker.settings import Settings
    from tests.benchmarks.gpu_edit import Watch

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plan resident": {"qwen_plan": "resident"},
    "plan cast": {"qwen_plan": "cast"},
    "plan offload": {"qwen_plan": "offload"},
    "compiled": {"qwen_plan": "resident", "qwen_compile": True},
    **{
        f"attention {kind}": {"qwen_plan": "resident", "qwen_attention": kind}
        for kind in ("native", "_native_cudnn", "flash", "_flash_3", "sage")
    },
}


def sweep(
    settings: Settings,
    watch: Watch,
    open_engine: Callable[[Settings, PhaseReporter], Qwen],
    side: int,
    steps: int,
    variants: Mapping[str, Mapping[str, Any]] = VARIANTS,
) -> Iterator[Figure]:
    """Yield start, passes, windowed removal and peak memory of each variant; one that cannot be loaded has one line."""
    for name, changes in variants.items():
        changed = settings.model_copy(update=dict(changes))
        if watch.card is not None:
            torch.cuda.reset_peak_memory_stats(watch.card)
        begun = watch()
        try:
            engine = open_engine(changed, lambda _: None)
        except ConfigError as error:
            yield Figure(f"{name}: not here ({error.message})", 0.0, "")
            continue
        with closing(engine):
            yield Figure(f"{name}: start", watch() - begun, "s")
            for figure in _quick(engine, watch, side, steps):
                yield Figure(f"{name}: {figure.name}", figure.value, figure.unit, figure.target)
        del engine
        gc.collect()


def _quick(engine: Qwen, watch: Watch, side: int, steps: int) -> Iterator[Figure]:
    yield from gpu_passes.passes(engine, watch, side, steps, counts=(1,))
    yield from gpu_passes.windows(engine, watch, steps)
    if watch.card is not None:
        yield Figure("peak memory", torch.cuda.max_memory_allocated(watch.card) / 1e9, "GB")
