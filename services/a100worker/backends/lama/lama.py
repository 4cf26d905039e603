"""LaMa (Suvorov 2022) as ONNX: a network that paints a hole to fit its context; PatchMatch only copies patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from shared.errors import ConfigError, EngineFailed
from shared.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from shared.image_codec import Grey, Rgb

MODEL, FILE = "lama", "lama.onnx"
_INPUTS = ("image", "mask")
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_STEP_PX = 8  # sides are multiples of this, if the file accepts any size


class Lama:
    """Runs one file: image (1, 3, h, w) of 0..1 and mask (1, 1, h, w) of 0 and 1 give an image of 0..255."""

    def __init__(self, session: Any) -> None:
        self._session = session
        shape = session.get_inputs()[0].shape
        self._size = (shape[3], shape[2]) if isinstance(shape[2], int) and isinstance(shape[3], int) else None

    @classmethod
    def find(cls, models: Path, device: str) -> Self | None:
        """Open the file on the volume; return None if there is none. Raises ConfigError if it cannot be used."""
        if not (models / MODEL / FILE).is_file():
            return None
        path = Volume(models, MODEL).verify(FILE)
        try:
            import onnxruntime  # noqa: PLC0415 (only with the file)
        except ImportError as error:
            raise ConfigError("LaMa needs the package onnxruntime, which is not installed.") from error
        try:
            session = onnxruntime.InferenceSession(
                str(path), providers=providers(device, onnxruntime.get_available_providers())
            )
        except Exception as error:  # the library has no base class for the errors of a damaged file
            raise ConfigError(f"The model file {MODEL}/{FILE} cannot be used: it is damaged.") from error
        if tuple(entry.name for entry in session.get_inputs()) != _INPUTS:
            raise ConfigError(f"The model file {MODEL}/{FILE} cannot be used: it has other inputs than image and mask.")
        return cls(session)

    def fill(self, image: Rgb, hole: Grey, avoid: Grey) -> Rgb:
        """Return the image with every nonzero pixel of `hole` filled. The network ignores the pixels of `avoid`, too.

        Raises EngineFailed.
        """
        height, width = hole.shape
        size = self._size or (_up(width), _up(height))
        scaled = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32) / 255
        unknown = np.asarray(cv2.resize(cv2.bitwise_or(hole, avoid), size, interpolation=cv2.INTER_NEAREST)) > 0
        fed = {"image": scaled.transpose(2, 0, 1)[None], "mask": unknown.astype(np.float32)[None, None]}
        (answer,) = self._session.run(None, fed)
        if answer.shape != (1, 3, size[1], size[0]) or not np.isfinite(answer).all():
            raise EngineFailed("LaMa returned NaN or an image of another size.")
        painted = np.clip(np.rint(answer[0].transpose(1, 2, 0)), 0, 255).astype(np.uint8)
        restored = np.asarray(cv2.resize(painted, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
        return np.where(hole[..., None] > 0, restored, image)


def providers(device: str, available: Sequence[str]) -> list[str | tuple[str, dict[str, str]]]:
    """Return the execution providers: the GPU of this number if onnxruntime supports CUDA, and the CPU."""
    kind, _, number = device.partition(":")
    if kind != "cuda" or _CUDA not in available:
        return [_CPU]
    return [(_CUDA, {"device_id": number or "0"}), _CPU]


def _up(side: int) -> int:
    return -(-side // _STEP_PX) * _STEP_PX
