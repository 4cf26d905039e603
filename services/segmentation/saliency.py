"""Saliency maps by U²-Net in its small form (u2netp, 4.6 MB) on the CPU.

Qin et al., "U²-Net: Going deeper with nested U-structure for salient object detection", 2020. Weights: Apache-2.0.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from services.segmentation.backends.onnx_sessions import cancellable_by
from services.segmentation.geometry import resize
from shared.errors import ConfigError, EngineFailed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures, Checkpoint
    from services.segmentation.geometry import Box
    from shared.image_codec import Grey, Rgb

SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
SIDE_PX = 320
_THREADS = 2  # of a laptop's cores; one thread gives the same map
_EMPTY_BELOW = 0.5  # raw maximum: 0.002 on plain grey, 0.24 on gravel, 1.0 on photos with a subject
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, as in training
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Saliency:
    """Predicts saliency maps. Threads may share it."""

    def __init__(self, weights: bytes, threads: int = _THREADS) -> None:
        if hashlib.sha256(weights).hexdigest() != SHA256:
            raise ConfigError("The file u2netp.onnx has the wrong SHA-256. Download it again.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena keeps its memory between runs
        # Spinning threads use both cores of a laptop between two clicks.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def predict(self, image: Rgb, cached: CachedFeatures, box: Box, checkpoint: Checkpoint | None = None) -> Grey:
        """Return the saliency of a box, stretched to 320 x 320, 0 to 255; all 0 if nothing is salient.

        The array is shared and read-only. Raises JobCancelled within 50 ms after the checkpoint raises it.
        """
        return cached(name_of(box), lambda: self._run(image[box.slices], checkpoint))

    def _run(self, crop: Rgb, checkpoint: Checkpoint | None) -> Grey:
        small = resize(crop, SIDE_PX, SIDE_PX).astype(np.float32)
        planes = (small / max(small.max(), 1.0) - _MEAN) / _DEVIATION
        raw = self._look({self._input: planes.transpose(2, 0, 1)[np.newaxis]}, checkpoint)
        if raw.max() < _EMPTY_BELOW:
            return np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        low, high = raw.min(), raw.max()
        return np.asarray(np.rint((raw - low) * (255 / (high - low))).astype(np.uint8))

    def _look(self, fed: dict[str, NDArray[np.float32]], checkpoint: Checkpoint | None) -> NDArray[np.float32]:
        if checkpoint is None:
            return np.asarray(self._session.run([self._output], fed)[0][0, 0])
        checkpoint()
        with cancellable_by(checkpoint) as options:
            try:
                return np.asarray(self._session.run([self._output], fed, options)[0][0, 0])
            except Exception as error:  # onnxruntime's exceptions have no common base class
                checkpoint()
                raise EngineFailed("The saliency network failed on this image.") from error


def name_of(box: Box) -> str:
    """Return the name under which the saliency of a box is cached."""
    x0, y0, x1, y1 = box
    return f"u2netp-{SHA256[:8]}-{x0}-{y0}-{x1}-{y1}"


@functools.cache
def load(model_dir: Path, threads: int = _THREADS) -> Saliency | None:
    """Load the weights once per process and number of threads; return None without `model_dir`/u2netp/u2netp.onnx.

    Raises ConfigError if the file has the wrong digest.
    """
    path = model_dir / "u2netp" / "u2netp.onnx"
    return Saliency(path.read_bytes(), threads) if path.is_file() else None
