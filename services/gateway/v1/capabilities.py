"""Unites the announcements of the workers into the body of /v1/capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.v1.schemas import Capabilities, TaskCapability
from shared.image_formats import FORMATS, missing_decoders
from shared.messages import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.messages import WorkerAbilities

RESULT_FORMATS = ("image/png", "image/jpeg", "image/webp", "image/avif")


def capabilities_of(workers: Sequence[WorkerAbilities]) -> Capabilities:
    """Return the union over the workers, by task."""
    missing = missing_decoders()
    return Capabilities(
        tasks={task: _unite(task, workers) for task in Task},
        upload_formats=[name for name in FORMATS if name not in missing],
    )


def _unite(task: Task, workers: Sequence[WorkerAbilities]) -> TaskCapability:
    able = [(worker.engine, worker.tasks[task]) for worker in workers if task in worker.tasks]
    typical_ms = [ability.typical_ms for _, ability in able if ability.typical_ms is not None]
    return TaskCapability(
        engines=sorted({engine for engine, _ in able}),
        parameters=sorted({name for _, ability in able for name in ability.parameters}),
        typical_s=min(typical_ms) / 1000 if typical_ms else None,
        formats=list(RESULT_FORMATS),
    )
