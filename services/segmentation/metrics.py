"""Metrics of the segmentation service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Histogram

if TYPE_CHECKING:
    from shared.messages import MaskRequest

MASK_SECONDS = Histogram(
    "artmancer_mask_seconds",
    "Seconds from a request to its mask, waiting for a turn included",
    ("engine", "prompt"),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30),
)


def prompt_of(request: MaskRequest) -> str:
    """Return the kind of prompt, by the precedence of MaskRequest."""
    if request.points or request.box:
        return "points" if request.points else "box"
    if request.strokes:
        return "strokes"
    return "auto" if request.mask is None else "mask"
